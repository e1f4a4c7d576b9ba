"""Sweeps of a task in the simulated world: the bridge from draws to rollouts, and what their results mean."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.runs import described
from pipelines.sweeps.given import Given
from randomization.designs import Grid, Saltelli, load_design
from randomization.space import BoundSpace, Space
from randomization.workers import POLICY_FAULT
from sim2real import __version__, old_names
from sim2real.camera import CameraModel
from sim2real.errors import UserError
from sim2real.identity import robot_identity
from sim2real.loading import source_identity
from sim2real.parameters import Draw, Parameter, unseen
from sim2real.policies.load import kind_of, load_policy, policy_identity
from sim2real.tasks.suite.files import file_task, is_task_file
from sim2real.tasks.suite.registry import is_suite_task, suite_task
from sim2real.text import printable

if TYPE_CHECKING:
    import pyarrow as pa

    from randomization.sweep import Engine
    from sim2real.episode import Episode
    from sim2real.policies.protocol import Policy
    from sim2real.simulation.world import World
    from sim2real.task import Task

SAYS = {
    "robot_sha256": "the robot's description (its TOML, URDF or meshes have changed)",
    "task_source": "the source of the task",
    "versions": "the versions of sim2real or PyBullet",
    "cameras": "the cameras",
}
"""What keys of a sweep's identity mean."""


@dataclass(frozen=True)
class TaskRollout:
    """A picklable recipe of a rollout: robot, task and policy by name or `given`, `nominal` values of a twin.

    Calling it builds world and policy and returns the function that runs one draw. `privileged` hands the
    policy the true state, as experts need it, instead of what the sensors show.
    """

    robot: str
    task: str
    policy: str
    nominal: Mapping[str, float] = field(default_factory=dict)
    privileged: bool = False
    given: Given = field(default_factory=Given)
    cameras: Mapping[str, CameraModel] | None = None

    def __call__(self) -> Callable[[Draw], dict[str, Any]]:
        from sim2real.simulation.rollout import rollout

        world, policy = self.open()

        def run(draw: Draw) -> dict[str, Any]:
            return row_of(rollout(world, policy, draw, privileged=self.privileged))

        return run

    def open(self) -> "tuple[World, Policy]":
        """The world of this task, and the policy that acts in it."""
        from sim2real.robot import Robot
        from sim2real.simulation.world import World
        from sim2real.tasks.registry import load_task

        robot = Robot.load(self.robot)
        task = self.given.task or load_task(self.task, joints=robot.n)
        policy = self.given.policy or load_policy(self.policy, task, robot)
        return World(robot, task, nominal=dict(self.nominal), cameras=self.cameras), policy


def row_of(episode: "Episode") -> dict[str, Any]:
    """The columns of a sweep's results that an episode gives."""
    success = bool(episode.success)
    counts = {k: v for k, v in episode.info.items() if isinstance(v, (bool, int, float, str))}
    refused = sorted(episode.info["rejected_for"])
    return counts | {
        POLICY_FAULT: "returned " + " and ".join(refused) if refused else "",
        "success": success,
        "stage": episode.stage,
        "failure": "" if success else f"ended in {episode.stage}" if episode.stage else "failed",
        "seconds": len(episode) / episode.fps,
    }


def all_parameters(
    robot: str, task: "str | Task | None" = None, cameras: Mapping[str, CameraModel] | None = None
) -> dict[str, Parameter]:
    """Every parameter that a world of this robot (task, cameras) declares, without starting a simulation."""
    from sim2real.meshes import meshes, note_unseen
    from sim2real.robot import Robot
    from sim2real.simulation.parameters import world_parameters
    from sim2real.tasks.registry import load_task
    from sim2real.urdf_file import UrdfFile

    loaded = Robot.load(robot)
    urdf = UrdfFile(loaded.urdf)
    # Told here, where all worlds are planned: worker processes say nothing.
    note_unseen(meshes(urdf.root, urdf.path), urdf.path)
    if task is None:
        return world_parameters(loaded, cameras=cameras)
    found = load_task(task, joints=loaded.n)
    return world_parameters(loaded, found.objects, cameras) | found.parameters(loaded)


@dataclass(frozen=True)
class SweepPlan:
    """Everything that decides a sweep's rows; see `sim2real sweep --help` for the fields."""

    task: str
    robot: str = "so101"
    policy: str = "expert"
    draws: int = 256
    seed: int = 0
    design: str = "sobol"
    levels: int = 5
    space: Space = field(default_factory=Space)
    gridded: tuple[str, ...] = ()
    """Names or wildcards that a grid runs over; everything that varies when empty."""
    nominal: Mapping[str, float] = field(default_factory=dict)
    privileged: bool | None = None
    """None: true state for the expert, sensors for everything else."""
    given: Given = field(default_factory=Given, compare=False)
    """Task and policy where they are objects; `task` and `policy` only name them then."""
    cameras: Mapping[str, Mapping[str, Any]] | None = None
    """The tables of a cameras file, without what does not matter here (`cameras_of`); None: cameras anywhere."""
    rendered: bool = False
    """Whether somebody looks at pictures in these runs."""

    @property
    def camera_models(self) -> dict[str, CameraModel] | None:
        """The cameras that are there; None where they may be anywhere."""
        if self.cameras is None:
            return None
        return {name: CameraModel.from_table(table, name) for name, table in self.cameras.items()}

    @property
    def sees_truth(self) -> bool:
        return self.policy == "expert" if self.privileged is None else self.privileged

    @property
    def factory(self) -> TaskRollout:
        return TaskRollout(
            self.robot,
            self.task,
            self.policy,
            dict(self.nominal),
            self.sees_truth,
            self.given,
            self.camera_models,
        )

    def bind(self) -> BoundSpace:
        """The space over this world's parameters, with the twin's nominal values.

        Where nothing is rendered, what changes pictures only varies where the space names it.
        """
        parameters = all_parameters(self.robot, self.given.task or self.task, self.camera_models)
        if not self.rendered:
            parameters = unseen(parameters)
        unknown = [name for name in self.nominal if name not in parameters]
        if unknown:
            raise UserError(f"the twin sets parameters that this world does not have: {unknown[:5]}")
        for name, value in self.nominal.items():
            old = parameters[name]
            if problem := old.refusal(value):
                raise UserError(f"the twin's {problem}")
            # As the world does: the default range reaches the twin's value.
            low, high = min(old.low, value), max(old.high, value)
            parameters[name] = replace(old, nominal=float(value), low=low, high=high)
        return self.space.bind(parameters)

    def make_draws(self, bound: BoundSpace) -> tuple[list[Draw], bool]:
        """The draws, and whether more can be added later. Raises UserError for counts the design cannot serve."""
        columns: tuple[int, ...] = ()
        for pattern in self.gridded:
            columns += bound.columns_matching(pattern)
        design = load_design(self.design, levels=self.levels, columns=columns)
        if isinstance(design, Saltelli):
            _check_saltelli(self.draws, bound.dimension)
        if isinstance(design, Grid) and not columns and bound.dimension > 6:
            raise UserError(
                f"a grid over {bound.dimension} parameters is out of reach; name those to grid with --param "
                "NAME=LO:HI, the others are then drawn at random around it"
            )
        return bound.draws(self.draws, self.seed, design), design.prefix_stable

    def identity(self, bound: BoundSpace) -> dict[str, Any]:
        """What the rows depend on, as JSON types; two sweeps with equal identities have equal rows."""
        design: dict[str, Any] = {"name": self.design}
        if self.design == "grid":
            design |= {"levels": self.levels, "over": list(self.gridded)}
        from sim2real.robot import Robot

        return {
            "robot": self.robot,
            "robot_sha256": robot_identity(Robot.load(self.robot)),
            "task": self.task,
            **({"task_source": found["source"]} if (found := _task_source(self)) else {}),
            "versions": {"sim2real": __version__, "pybullet": version("pybullet")},
            "policy": {"name": self.policy} if self.given.policy else policy_identity(self.policy),
            **self.given.identity(),
            "sees": "true state" if self.sees_truth else "sensors",
            "seed": self.seed,
            "design": design,
            "nominal": dict(self.nominal),
            **({} if self.cameras is None else {"cameras": self.cameras}),
            "space": bound.to_dict(),
        }


def policy_sees(policy: str) -> bool:
    """Whether a policy, by its name, looks at pictures. Raises UserError for a policy file that cannot be read."""
    if kind_of(policy) != "file":
        return False
    from sim2real.policies.file import load_policy_file

    return bool(load_policy_file(policy).pictures)


def _task_source(plan: SweepPlan) -> dict[str, str]:
    if plan.given.task:
        return {}
    if is_task_file(plan.task):
        return {"source": file_task(plan.task).spec.hash}
    if is_suite_task(plan.task):
        return {"source": suite_task(plan.task).spec.hash}
    return source_identity(plan.task, "task")


def _check_saltelli(draws: int, dimension: int) -> None:
    block = dimension + 2
    base, rest = divmod(draws, block)
    if rest or base < 16 or base & (base - 1):
        fitting = [block * 2**k for k in range(4, 15)]
        near = sorted(fitting, key=lambda n: abs(n - draws))[:3]
        raise UserError(
            f"the design saltelli over {dimension} parameters takes {block} × 2^k draws; the nearest to {draws} "
            f"are {', '.join(map(str, sorted(near)))}. Fewer parameters (--base task --param …) take fewer draws"
        )


def run(
    plan: SweepPlan, out: Path, *, workers: int, engine: str = "local", progress: bool = True
) -> "pa.Table":
    """Run or continue the sweep in `out`; returns the table of its rows."""
    from randomization.sweep import run_sweep

    bound = plan.bind()
    if bound.dimension == 0:
        raise UserError("nothing varies in this space; check --base, --space and --param")
    draws, enlargeable = plan.make_draws(bound)
    unseen_here = [name for name in bound.names if bound.parameters[name].visual]
    if unseen_here and not plan.rendered:
        print(
            f"note: nothing is rendered in a sweep, so {', '.join(unseen_here[:5])} cannot matter",
            file=sys.stderr,
        )
    about = described("sweep", seed=plan.seed) | {
        "workers": workers,
        "engine": engine,
        "policy": plan.policy,
        "space": plan.space.to_dict(),
        "parameters": {name: _facts(bound, name) for name in bound.names},
    }
    return run_sweep(
        plan.factory,
        draws,
        out,
        identity=plan.identity(bound),
        about=about,
        enlargeable=enlargeable,
        workers=workers,
        engine=engine_of(engine),
        progress=progress,
    )


def engine_of(name: str) -> "Engine | None":
    if name == "local":
        return None
    from pipelines.sweeps.ray_engine import run_ray

    return run_ray


def _facts(bound: BoundSpace, name: str) -> dict[str, Any]:
    """What a report says about a parameter."""
    low, high = bound.range(name)
    parameter = bound.parameters[name]
    return {"unit": parameter.unit, "low": low, "high": high, "scale": parameter.scale}


def check_policy(plan: SweepPlan) -> None:
    """Raise UserError when the plan's policy cannot be opened or was made for another robot or task."""
    from sim2real.robot import Robot
    from sim2real.tasks.registry import load_task

    robot = Robot.load(plan.robot)
    task = plan.given.task or load_task(plan.task, joints=robot.n)
    policy = plan.given.policy or load_policy(plan.policy, task, robot)
    if not plan.given.policy and kind_of(plan.policy) == "server":
        policy.close()  # type: ignore[attr-defined]  # its server has time for one at a time


def refuse_code(directory: Path, flag: str, recorded: str, given: str | None) -> None:
    """Raise UserError where a sweep was of a "module:Class" that is not `given` again: files name no code to run."""
    if ":" in recorded and kind_of(recorded) == "class" and given != recorded:
        name = printable(recorded)
        raise UserError(
            f"the sweep in {directory} ran code of its author's ({name}); add --{flag} {name} if you trust it"
        )


def plan_of(directory: Path, *, task: str | None = None) -> SweepPlan:
    """The plan of a sweep from its directory; `task` names its task again where that is a class (`refuse_code`).

    Raises UserError when it holds no sweep, or one of another version or of other files.
    """
    from randomization.sweep import SweepStore
    from sim2real.files import read_json

    store = SweepStore(directory)
    if not store.config_path.exists():
        raise UserError(
            f"{directory} holds no sweep (config.json is missing); `sim2real sweep --out` makes one"
        )
    config = read_json(store.config_path)
    if config.get("command") != "sweep" or "sweep" not in config:
        raise UserError(f"{directory} holds a run of '{config.get('command')}', not a sweep")
    identity = config["sweep"]
    refuse_code(directory, "task", identity["task"], task)
    design = identity["design"]
    plan = SweepPlan(
        task=identity["task"],
        robot=identity["robot"],
        policy=config["policy"],
        draws=config["draws"],
        seed=identity["seed"],
        design=design["name"],
        levels=design.get("levels", 5),
        space=Space.from_dict(config["space"], f"{store.config_path}: space"),
        gridded=tuple(design.get("over", ())),
        nominal=identity["nominal"],
        privileged=identity["sees"] == "true state",
        rendered=policy_sees(config["policy"]),
        cameras=identity.get("cameras"),
    )
    here = json.loads(json.dumps(plan.identity(plan.bind())))
    if found := [SAYS[key] for key in SAYS if key in identity and identity[key] != here.get(key)]:
        raise UserError(
            f"{directory} was made with something else: {', '.join(found)}; run that sweep again in a new directory"
        )
    if here["space"] != old_names.renamed(identity["space"]):
        raise UserError(
            f"the parameters that {directory} was drawn from have changed since (another version of the robot, "
            "the task or the package); run that sweep again in a new directory"
        )
    return plan


def recorded_draw(directory: Path, plan: SweepPlan, index: int) -> tuple[Draw, dict[str, Any]]:
    """Draw `index` of a sweep and its row of results. Raises UserError when the sweep has no such draw."""
    from randomization.sweep import SweepStore, row_to_draw

    table = SweepStore(directory).read()
    rows = [row for row in table.to_pylist() if row["index"] == index]
    if not rows:
        raise UserError(
            f"{directory} has no draw {index}; it holds {table.num_rows} draws, up to {max(table['index'].to_pylist())}"
        )
    bound = plan.bind()
    return row_to_draw(rows[0], [*bound.names, *bound.fixed]), rows[0]


def failed_draws(directory: Path) -> list[int]:
    """Indices of the draws of the sweep in `directory` that failed, in order."""
    from randomization.sweep import SweepStore

    table = SweepStore(directory).read().select(["index", "success"])
    return sorted(row["index"] for row in table.to_pylist() if not row["success"])


def dimensions(identity: Mapping[str, Any]) -> dict[str, str]:
    """Name of each dimension of a sweep → the column of its results that shows it."""
    return {column["name"]: column["targets"][0] for column in identity["space"]["columns"]}


def conclude(directory: Path, against: Path | None = None) -> dict[str, Any]:
    """Analyse the rows in `directory`, write summary.json and return its content.

    `against` is a sweep over the same draws to compare with, pair by pair.
    """
    from randomization.analysis import analyse
    from randomization.sweep import SweepStore
    from sim2real.files import read_json, write_text

    store = SweepStore(directory)
    table, config = store.read(), read_json(store.config_path)
    identity = config["sweep"]
    analysis = analyse(table, dimensions(identity), design=identity["design"]["name"], seed=identity["seed"])
    summary = {"task": identity["task"], "policy": config["policy"]} | analysis.to_dict()
    if against is not None:
        summary["comparison"] = compare_sweeps(against, directory)
    summary["results"] = str(store.results_path)
    write_text(directory / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary


def compare_sweeps(a: Path, b: Path) -> dict[str, Any]:
    """Sweep `b` against `a` on the draws that both have. Raises UserError when their draws differ."""
    from randomization.comparison import compare
    from randomization.sweep import SweepStore
    from sim2real.files import read_json

    stores = [SweepStore(a), SweepStore(b)]
    kinds = [read_json(store.config_path)["sweep"] for store in stores]
    for key in (
        "robot",
        "robot_sha256",
        "task",
        "task_source",
        "versions",
        "seed",
        "design",
        "nominal",
        "cameras",
        "space",
    ):
        if kinds[0].get(key) != kinds[1].get(key):
            raise UserError(
                f"{a} and {b} cannot be compared pair by pair: they differ in {SAYS.get(key, key)}; run one of them "
                "again"
            )
    # Draws of the same number need not be the same draw: a Latin hypercube of another size has others.
    shown = ["index", "seed", *dimensions(kinds[0]).values()]
    rows = [{r["index"]: r for r in store.read().select([*shown, "success"]).to_pylist()} for store in stores]
    common = sorted(set(rows[0]) & set(rows[1]))
    if any(rows[0][i][name] != rows[1][i][name] for i in common for name in shown):
        raise UserError(f"{a} and {b} cannot be compared pair by pair: their draws differ")
    found = compare([rows[0][i]["success"] for i in common], [rows[1][i]["success"] for i in common])
    return found.to_dict() | {"against": str(a)}
