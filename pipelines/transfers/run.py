"""`sim2real transfer`: every method's policy on every reality, episode by episode, resumable.

    config.json                       what the run is
    episodes/REALITY.METHOD.json      the rows of one method on one reality, and whose they are
    policies/METHOD[.REALITY]/        run directories of what was trained for it
    transfer.json, report.html        what came of it

More episodes, realities and methods may be asked for later in the same directory; what is there is kept. Rows of
another policy file or of a reality that has changed are refused, never replaced.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pipelines.runs import claim, described
from pipelines.transfers.reality import Reality, load_realities, parameters_of
from pipelines.transfers.rig import Rig, start_of
from pipelines.transfers.summary import summarized
from randomization.progress import progress_bar
from randomization.workers import Outcome, run_draws
from sim2real import __version__
from sim2real.errors import Sim2RealError, UserError, nearest
from sim2real.files import read_json, write_json
from sim2real.identity import differences, robot_identity
from sim2real.loading import source_identity
from sim2real.parameters import Draw
from sim2real.policies.load import kind_of, load_policy, policy_identity
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task

METHODS: Final = ("none", "narrow", "default", "forces", "automatic", "identified", "finetuned", "oracle")
"""What can be compared, in the order of tables."""
PER_REALITY: Final = ("identified", "finetuned", "oracle")
"""Those whose policy is made for one reality."""

SAVE_EVERY: Final = 5
"""Episodes between two times that the rows are written."""

Clock = Literal["stepped", "real"]
"""Simulated time as fast as it goes, or real time with a deployment's processes, port and HTTP camera."""

Policies = Callable[[str, Reality], str]
"""From a method and a reality to the policy, as `load_policy` takes it."""


@dataclass(frozen=True)
class Asked:
    """What is to be compared. `policies` by method, as given; the other methods' are trained."""

    task: str
    robot: str
    realities: tuple[Reality, ...]
    methods: tuple[str, ...]
    episodes: int
    seed: int = 0
    policies: Mapping[str, str] = field(default_factory=dict)
    clock: Clock = "stepped"

    def __post_init__(self) -> None:
        if self.clock not in get_args(Clock):
            raise UserError(f"--clock must be {' or '.join(get_args(Clock))}, got {self.clock!r}")
        if self.episodes < 1:
            raise UserError(f"--episodes must be at least 1, got {self.episodes}")
        for name in (*self.methods, *self.policies):
            if name not in METHODS:
                raise UserError(
                    f"there is no method '{name}'{nearest(name, METHODS)}; there are {', '.join(METHODS)}"
                )
        for name in self.policies:
            if name not in self.methods:
                raise UserError(f"--policy {name}=… is given, but '{name}' is not among --methods")
        twice = sorted({name for name in self.methods if self.methods.count(name) > 1})
        if twice:
            raise UserError(f"--methods names '{twice[0]}' twice")

    @property
    def identity(self) -> dict[str, Any]:
        """What decides every episode, whatever the methods and realities."""
        robot = Robot.load(self.robot)
        return {
            "task": self.task,
            "robot_sha256": robot_identity(robot),
            "seed": self.seed,
            "clock": self.clock,
            "version": __version__,
            **{f"task_{k}": v for k, v in source_identity(self.task, "task").items()},
        }


@dataclass(frozen=True)
class Trials:
    """A picklable recipe: `policy` on a reality; calling it gives the function that runs an episode by its index."""

    task: str
    robot: str
    reality: Reality
    policy: str
    seed: int

    def __call__(self) -> Callable[[Draw], dict[str, Any]]:
        robot = Robot.load(self.robot)
        task = load_task(self.task, robot.n)
        policy = load_policy(self.policy, task, robot)
        rig = Rig(robot, task, self.reality, values=self.reality.values(parameters_of(robot, task)))

        def run(draw: Draw) -> dict[str, Any]:
            return rig.run(policy, start_of(task, robot, draw.index, self.seed)).row()

        return run


def method_names(text: str) -> tuple[str, ...]:
    """From a comma-separated list, or all."""
    if text == "all":
        return METHODS
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise UserError(f"--methods needs names or 'all'; there are {', '.join(METHODS)}")
    return names


def run_transfer(
    asked: Asked,
    out: Path,
    policies: Policies,
    *,
    simulated: Callable[[str], float | None] = lambda method: None,
    workers: int,
    progress: bool = True,
) -> dict[str, Any]:
    """Run what is missing, write `out/transfer.json` and return its content.

    `simulated` tells the success in simulation of a method's policy, None where it is made for one reality or was not
    measured. `workers` processes, 0: this one. Raises UserError where `out` holds another run, Sim2RealError when no
    episode can be run.
    """
    check(asked)
    names = {"realities": [r.name for r in asked.realities], "methods": list(asked.methods)}
    settings = {"task": asked.task, "robot": asked.robot, "episodes": asked.episodes, **names}
    claim(out, described("transfer", seed=asked.seed, settings=settings, identity=asked.identity))
    folder = out / "episodes"
    folder.mkdir(exist_ok=True)
    cells: dict[tuple[str, str], list[dict[str, Any]]] = {}
    total = len(asked.realities) * len(asked.methods) * asked.episodes
    with progress_bar(total, "transfer", "episode", shown=progress) as bar:
        for method in asked.methods:
            for reality in asked.realities:
                policy = policies(method, reality)
                cells[reality.name, method] = _cell(asked, reality, method, policy, folder, workers, bar)
    expected = {method: rate for method in asked.methods if (rate := simulated(method)) is not None}
    known = [r.name for r in asked.realities]
    result = {
        "task": asked.task, "robot": asked.robot, "seed": asked.seed, "episodes": asked.episodes, "clock": asked.clock,
        "about": {reality.name: reality.about for reality in asked.realities},
        "simulated": expected,
        **summarized(cells, known, asked.methods, expected, asked.seed),
    }  # fmt: skip
    write_json(out / "transfer.json", result)
    return result


def check(asked: Asked) -> None:
    """Raise UserError for what would fail later: an engine that is missing, names that a reality gets wrong, policies
    made for others."""
    robot = Robot.load(asked.robot)
    task = load_task(asked.task, robot.n)
    declared = parameters_of(robot, task)
    if any(reality.engine == "mujoco" for reality in asked.realities):
        from sim2real.simulation.crosssim.world import load_mujoco

        try:
            load_mujoco()
        except UserError as error:
            without = [r.name for r in load_realities("all") if r.engine != "mujoco"]
            raise UserError(f"{error}; or leave its realities out: --realities {','.join(without)}") from None
    for reality in asked.realities:
        reality.values(declared)
    for spec in asked.policies.values():
        if kind_of(spec) == "server":
            raise UserError(
                f"transfer runs policies in processes of its own; a policy server ({spec}) serves one arm"
            )
        load_policy(spec, task, robot)


def _cell(
    asked: Asked, reality: Reality, method: str, policy: str, folder: Path, workers: int, bar: Any
) -> list[dict[str, Any]]:
    """The rows of one method on one reality, run as far as they are missing."""
    path = folder / f"{reality.name}.{method}.json"
    engine = {"bullet": "pybullet", "mujoco": "mujoco"}[reality.engine]
    whose = {
        "reality": reality.identity,
        "policy": policy_identity(policy),
        "engine": f"{engine} {package_version(engine)}",
    }
    rows: dict[int, dict[str, Any]] = {}
    if path.exists():
        there = read_json(path)
        if found := list(differences(there.get("of"), whose)):
            raise UserError(
                f"{path} holds episodes of something else ({'; '.join(found[:2])}); choose another --out"
            )
        rows = {int(row["index"]): row for row in there["rows"]}
    missing = [index for index in range(asked.episodes) if index not in rows]
    bar.update(asked.episodes - len(missing))
    if missing:
        bar.set_postfix_str(f"{method} on {reality.name}", refresh=False)
        run = _live if asked.clock == "real" else _stepped
        try:
            for count, row in enumerate(run(asked, reality, method, policy, missing, workers), 1):
                rows[int(row["index"])] = row
                bar.update()
                if count % SAVE_EVERY == 0:
                    _save(path, whose, rows)
        finally:
            if rows:
                _save(path, whose, rows)
    return [rows[index] for index in sorted(rows) if index < asked.episodes]


def _stepped(
    asked: Asked, reality: Reality, method: str, policy: str, missing: list[int], workers: int
) -> Iterator[dict[str, Any]]:
    factory = Trials(asked.task, asked.robot, reality, policy, asked.seed)
    draws = [Draw(index=index, seed=index) for index in missing]
    engine = run_draws(factory, draws, workers)
    for outcome in engine:
        yield _row(outcome, method, reality)


def _live(
    asked: Asked, reality: Reality, method: str, policy: str, missing: list[int], workers: int
) -> Iterator[dict[str, Any]]:
    """One arm after the other, whatever the workers: what they would take from each other is time."""
    from pipelines.transfers.live import run_live

    for trial in run_live(asked.task, asked.robot, reality, policy, asked.seed, missing):
        yield trial.row()


def _row(outcome: Outcome, method: str, reality: Reality) -> dict[str, Any]:
    if outcome.error and not outcome.row:
        raise Sim2RealError(
            f"episode {outcome.draw.index} of '{method}' on '{reality.name}' could not be run: {outcome.error}; "
            "what was finished is kept, the same command goes on from there"
        )
    return dict(outcome.row)


def _save(path: Path, whose: Mapping[str, Any], rows: Mapping[int, Mapping[str, Any]]) -> None:
    write_json(path, {"of": whose, "rows": [rows[index] for index in sorted(rows)]})
