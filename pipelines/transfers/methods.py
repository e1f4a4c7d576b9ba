"""The policies that a transfer run compares: trained by the project's own functions, once, into the run's directory.

| method | trained |
|---|---|
| `none` | in simulation without randomization: only where the episode begins varies |
| `narrow` | under the default ranges, each narrowed to NARROW of its width around the nominal value |
| `default` | under the default ranges: zero-shot |
| `forces` | under random pushes alone (the baseline of E. Valassakis et al., arXiv 2008.06686) |
| `automatic` | under ranges that `ranges` has widened as far as the expert can bear |
| `identified` | for its camera, in the space of a twin that was identified from episodes that `default` played there |
| `finetuned` | `default`, fine-tuned on those episodes |
| `oracle` | in simulation with the reality's true parameters: what a perfect identification could reach |

A policy that is given takes the place of one that would be trained. `expert` is a policy as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pipelines.sweeps.simulated import make_plan
from pipelines.transfers.reality import CAMERA, Reality, parameters_of
from pipelines.transfers.recording import record_on
from pipelines.transfers.run import PER_REALITY, Asked
from sim2real.files import read_json, write_json
from sim2real.parameters import Parameter
from sim2real.policies.load import kind_of, policy_identity
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task

NARROW: Final = 0.3
RECORDED: Final = 20
"""Episodes recorded on a reality for identification and fine-tuning."""
WIDENED: Final = ("servo.*.command_delay", "servo.*.coulomb", "servo.*.offset", "servo.*.kp", "servo.voltage")
"""What `automatic` widens, within OUTER times the default range's width on either side."""
OUTER: Final = 1.0
RANGE_DRAWS: Final = 1500
MEASURED: Final = 200
"""Episodes by which a policy's success in simulation is measured, under the default ranges."""
UNSEEN: Final = 77
"""Added to the seed for these: `pretrain` measures on others."""


@dataclass
class Methods:
    """Makes each policy when it is first asked for. `training` are settings of `pretrain` that differ from its own,
    `max_minutes` what each such training must fit into; `recorded` is how many episodes are recorded on a reality,
    `tuning` settings of `finetune` that differ from its own."""

    asked: Asked
    out: Path
    workers: int
    training: Mapping[str, Any] = field(default_factory=dict)
    max_minutes: float | None = None
    recorded: int = RECORDED
    tuning: Mapping[str, Any] = field(default_factory=dict)

    def policy(self, method: str, reality: Reality) -> str:
        """The policy of a method, as `load_policy` takes it."""
        if method in self.asked.policies:
            return self.asked.policies[method]
        make = getattr(self, f"_{method}")
        return str(make(reality))

    def simulated(self, method: str) -> float | None:
        """Success in simulation under the default ranges, through sensors, on unseen draws; None for a policy that is
        made for one reality."""
        if method in PER_REALITY and method not in self.asked.policies:
            return None
        from pipelines.sweeps.evaluate import evaluate

        policy = self.policy(method, self.asked.realities[0])
        if kind_of(policy) == "server":
            return None
        path = self.out / "policies" / f"{method}.simulated.json"
        whose = {"policy": policy_identity(policy), "draws": MEASURED, "seed": self.asked.seed}
        if path.exists() and read_json(path).get("of") == whose:
            return float(read_json(path)["success_rate"])
        plan = make_plan(
            task=self.asked.task, robot=self.asked.robot, policy=policy, draws=MEASURED,
            seed=self.asked.seed + UNSEEN, privileged=False,
        )  # fmt: skip
        rate = float(evaluate(plan, workers=self.workers)["success_rate"])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"of": whose, "success_rate": rate})
        return rate

    # Trained in simulation

    def _none(self, _: Reality) -> Path:
        return self._pretrained("none", {"base": "task"})

    def _narrow(self, _: Reality) -> Path:
        return self._pretrained("narrow", narrowed(self._parameters(), NARROW))

    def _default(self, _: Reality) -> Path:
        return self._pretrained("default", None)

    def _forces(self, _: Reality) -> Path:
        declared = self._parameters()
        pushes = {
            name: _uniform(declared[name].low, declared[name].high)
            for name in declared
            if name.startswith("push.")
        }
        return self._pretrained("forces", {"base": "task", "parameters": pushes})

    def _automatic(self, _: Reality) -> Path:
        return self._pretrained("automatic", str(self._ranges()))

    def _oracle(self, reality: Reality) -> Path:
        twin = {name: value for name, value in self._values(reality).items()}
        return self._pretrained(f"oracle.{reality.name}", {"base": "task"}, twin, self._cameras(reality))

    # Adapted to a reality

    def _identified(self, reality: Reality) -> Path:
        from pipelines.identification.identify import identify_arm
        from pipelines.identification.results import write_results
        from pipelines.identification.source import read_log
        from pipelines.learning.narrowing import gripper_offset, gripper_zero

        out = self.out / "policies" / f"twin.{reality.name}"
        if not (out / "space.toml").exists():
            robot, data = Robot.load(self.asked.robot), str(self._recorded(reality))
            found, more = identify_arm(read_log(data, robot), robot, data), {}
            zero = gripper_zero(robot, self.asked.task, self.policy("default", reality), found)
            if zero is not None:
                more[gripper_offset(robot)] = (zero[0] - zero[1], zero[0] + zero[1], "uniform")
            write_results(found, out, data, more)
        return self._pretrained(
            f"identified.{reality.name}",
            str(out / "space.toml"),
            str(out / "twin.toml"),
            self._cameras(reality),
        )

    def _finetuned(self, reality: Reality) -> Path:
        from pipelines.learning.finetune import FinetuneSettings, finetune

        out = self.out / "policies" / f"finetuned.{reality.name}"
        settings = FinetuneSettings(
            policy=self.policy("default", reality), data=str(self._recorded(reality)), robot=self.asked.robot,
            task=self.asked.task, cameras=self._cameras(reality), seed=self.asked.seed, **self.tuning,
        )  # fmt: skip
        return _finished(out, finetune(settings, out, workers=self.workers))

    def _recorded(self, reality: Reality) -> Path:
        """The data set of episodes that `default` has played on the reality."""
        out = self.out / "recorded" / reality.name
        if not out.exists():
            record_on(
                reality, self.asked.task, self.asked.robot, self.policy("default", reality), self.recorded, out,
                seed=self.asked.seed,
            )  # fmt: skip
        return out

    # Parts

    def _cameras(self, reality: Reality) -> dict[str, Any] | None:
        """The cameras file that the reality's user has; None where the arm's own description has the camera."""
        return None if reality.camera is None else {CAMERA: reality.camera.table()}

    def _pretrained(
        self,
        name: str,
        space: str | Mapping[str, Any] | None,
        twin: str | Mapping[str, float] | None = None,
        cameras: Mapping[str, Any] | None = None,
    ) -> Path:
        from pipelines.learning.pretrain import PretrainSettings, pretrain

        out = self.out / "policies" / name
        settings = PretrainSettings(
            task=self.asked.task, robot=self.asked.robot, space=space, twin=twin, cameras=cameras, seed=self.asked.seed,
            **self.training,
        )  # fmt: skip
        return _finished(out, pretrain(settings, out, workers=self.workers, max_minutes=self.max_minutes))

    def _ranges(self) -> Path:
        from pipelines.sweeps.ranges import find_ranges

        out = self.out / "policies" / "ranges"
        if not (out / "space.toml").exists():
            plan = make_plan(
                task=self.asked.task, robot=self.asked.robot, policy="expert", draws=RANGE_DRAWS, seed=self.asked.seed,
                privileged=False,
            )  # fmt: skip
            wide = widened(self._parameters(), WIDENED, OUTER)
            plan = replace(
                plan, space=plan.space.with_parameters([f"{n}={lo!r}:{hi!r}" for n, (lo, hi) in wide.items()])
            )
            find_ranges(plan, tuple(wide), out, method="entropy", success=0.8, workers=self.workers)
        return out / "space.toml"

    def _parameters(self) -> dict[str, Parameter]:
        robot = Robot.load(self.asked.robot)
        return parameters_of(robot, load_task(self.asked.task, robot.n))

    def _values(self, reality: Reality) -> dict[str, float]:
        return reality.values(self._parameters())


def _finished(out: Path, result: Mapping[str, Any]) -> Path:
    if result["interrupted"]:
        raise KeyboardInterrupt
    return out / "policy.onnx"


def narrowed(parameters: Mapping[str, Parameter], share: float) -> dict[str, Any]:
    """A space in which every default range has `share` of its width on either side of the nominal value; where the
    task begins is left as it is."""
    ranges = {}
    for name, p in parameters.items():
        if p.randomized and not name.startswith("task."):
            ranges[name] = _uniform(
                p.nominal + share * (p.low - p.nominal), p.nominal + share * (p.high - p.nominal)
            )
    return {"base": "default", "parameters": ranges}


def widened(
    parameters: Mapping[str, Parameter], patterns: tuple[str, ...], by: float
) -> dict[str, tuple[float, float]]:
    """Default ranges of what matches `patterns`, each wider by `by` of its width at both ends, where values can be."""
    from fnmatch import fnmatchcase

    found = {}
    for name, p in parameters.items():
        if p.randomized and any(fnmatchcase(name, pattern) for pattern in patterns):
            width = p.high - p.low
            low = max(p.low - by * width, p.minimum, 0.5 * p.low if p.scale == "log" else p.low - by * width)
            found[name] = (low, min(p.high + by * width, p.maximum))
    return found


def _uniform(low: float, high: float) -> dict[str, Any]:
    return {"distribution": "uniform", "low": low, "high": high}
