"""Which robots run the candidate at which stage: a canary first, then shares that mirror the fleet."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from typing import Any, Literal

from sim2real.errors import UserError

FACTORS = ("site", "firmware", "camera")
"""What may make robots differ in how well a policy does: each value of each is watched on its own."""

STAGES = "1,10%,50%,100%"

OnInconclusive = Literal["wait", "continue"]


@dataclass(frozen=True)
class Member:
    """A robot of the fleet, as far as a rollout is concerned. Factors that are not known are ""."""

    name: str
    site: str = ""
    firmware: str = ""
    camera: str = ""
    reachable: bool = True

    @property
    def cell(self) -> tuple[str, ...]:
        """The values of all factors: robots of one cell are compared with each other."""
        return (self.site, self.firmware, self.camera)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups it belongs to, one for each factor that is known: `site=hall 2`."""
        return tuple(f"{factor}={value}" for factor, value in zip(FACTORS, self.cell) if value)


@dataclass(frozen=True)
class Rules:
    """When a stage ends.

    delta: success may be lower than the stable policy's by less than this. group_delta: … in a single group (twice
    `delta` unless told: a group has fewer robots to tell by). alpha: chance that a candidate worse by `delta` passes a
    stage, and chance that an equal one is ever rolled back. min_success: what a stage must show besides, or None.
    max_safety_events: more of them on robots with the candidate end the rollout at once. patience: episodes of the
    candidate after which a stage that is still open is called inconclusive; on_inconclusive: what happens then.
    alone: episodes that a robot without contact may run with the candidate.
    Raises UserError for values that decide nothing.
    """

    delta: float = 0.1
    group_delta: float | None = None
    alpha: float = 0.05
    min_success: float | None = None
    max_safety_events: int = 0
    patience: int = 2000
    on_inconclusive: OnInconclusive = "wait"
    alone: int = 100

    def __post_init__(self) -> None:
        for name, low, high in (("delta", 0.0, 0.5), ("alpha", 0.0, 0.5)):
            value = getattr(self, name)
            if not low < value < high:
                raise UserError(f"{name} must lie between {low:g} and {high:g}, got {value:g}")
        if self.group_delta is not None and not self.delta <= self.group_delta < 1:
            raise UserError(
                f"group_delta must be at least delta ({self.delta:g}) and below 1, got {self.group_delta:g}"
            )
        if self.min_success is not None and not 0 < self.min_success < 1:
            raise UserError(f"min_success must lie between 0 and 1, got {self.min_success:g}")
        if self.max_safety_events < 0:
            raise UserError(f"max_safety_events must be 0 or more, got {self.max_safety_events}")
        if self.patience < 1:
            raise UserError(f"patience must be one episode or more, got {self.patience}")
        if self.on_inconclusive not in ("wait", "continue"):
            raise UserError(f"on_inconclusive must be wait or continue, got {self.on_inconclusive!r}")
        if self.alone < 0:
            raise UserError(f"alone must be 0 episodes or more, got {self.alone}")

    @property
    def margin_of_groups(self) -> float:
        """How much worse than the stable policy a group may be, at most."""
        return min(2 * self.delta, 0.9) if self.group_delta is None else self.group_delta


@dataclass(frozen=True)
class Plan:
    """Who runs what, when. `robots` stand in the order in which they get the candidate; stage i has the first
    `sizes[i]` of them, so whoever has it keeps it. Raises UserError for stages that do not grow.
    """

    rollout: str
    candidate: str
    stable: str
    robots: tuple[Member, ...]
    sizes: tuple[int, ...]
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        names = [robot.name for robot in self.robots]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise UserError(
                f"robots need names of their own; more than one is called {', '.join(sorted(twice))}"
            )
        if not self.sizes or any(a >= b for a, b in zip((0, *self.sizes), self.sizes)):
            raise UserError(f"stages must grow, got {', '.join(map(str, self.sizes)) or 'none'} robots")
        if self.sizes[-1] > len(names):
            raise UserError(f"a stage of {self.sizes[-1]} robots, but there are {len(names)}")
        if self.candidate == self.stable:
            raise UserError(f"the candidate is the stable policy already: {self.candidate}")
        if not self.stable and self.rules.min_success is None:
            raise UserError(
                "there is no stable policy to compare with; say what is needed with --min-success"
            )

    def stage_robots(self, stage: int) -> tuple[Member, ...]:
        """The robots that run the candidate in `stage` (0 is the canary's)."""
        return self.robots[: self.sizes[stage]]

    def policy(self, robot: str, stage: int | None) -> str:
        """The policy of a robot in `stage`; None: the rollout is over and has failed, or has not begun."""
        chosen = () if stage is None else self.stage_robots(stage)
        return self.candidate if any(one.name == robot for one in chosen) else self.stable

    @property
    def groups(self) -> dict[str, int]:
        """Every group of the fleet with its number of robots, in order."""
        return dict(sorted(Counter(group for robot in self.robots for group in robot.groups).items()))

    def uncovered(self, stage: int) -> tuple[str, ...]:
        """Groups without a robot that runs the candidate in `stage`: it says nothing about them."""
        covered = {group for robot in self.stage_robots(stage) for group in robot.groups}
        return tuple(group for group in self.groups if group not in covered)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Plan":
        """The plan that `to_dict` wrote. Raises UserError for something else."""
        try:
            return cls(
                rollout=str(values["rollout"]),
                candidate=str(values["candidate"]),
                stable=str(values["stable"]),
                robots=tuple(Member(**robot) for robot in values["robots"]),
                sizes=tuple(int(size) for size in values["sizes"]),
                rules=Rules(**values["rules"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            needed = ", ".join(one.name for one in fields(cls))
            raise UserError(f"this is no plan of a rollout ({error}); it needs {needed}") from None


def parse_stages(text: str) -> tuple[str, ...]:
    """The stages in `1,10%,50%,100%`: numbers of robots and shares of the fleet. Raises UserError for anything else."""
    stages = tuple(part.strip() for part in text.split(","))
    for stage in stages:
        number = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", stage, re.ASCII)
        if number is None or (not number[2] and "." in number[1]):
            raise UserError(f"a stage is a number of robots or a share, as in {STAGES}; got {stage!r}")
        if not Fraction(number[1]) or (number[2] and Fraction(number[1]) > 100):
            raise UserError(f"a stage needs one robot or more, and at most 100 %; got {stage!r}")
    return stages


def sizes_of(stages: Sequence[str], robots: int) -> tuple[int, ...]:
    """How many of `robots` each stage has; shares are rounded up, stages that add no robot are left out.

    Raises UserError when a stage is smaller than the one before it, or asks for more robots than there are.
    """
    if robots < 1:
        raise UserError("a rollout needs at least one robot")
    sizes: list[int] = []
    for stage in stages:
        share = stage.endswith("%")
        size = math.ceil(Fraction(stage[:-1]) * robots / 100) if share else int(stage)
        if size > robots:
            raise UserError(f"a stage of {size} robots, but there are {robots}")
        if sizes and size < sizes[-1]:
            raise UserError(
                f"stages must grow: {stage} is {size} of {robots} robots, the one before {sizes[-1]}"
            )
        if not sizes or size > sizes[-1]:
            sizes.append(size)
    return tuple(sizes)


def order(robots: Iterable[Member], seed: str) -> tuple[Member, ...]:
    """Robots so that the first k of them mirror the whole fleet as well as k can, for every k.

    Greedy: next comes whoever is most missing among groups and cells. Among equals a hash of `seed` and the name
    decides, so that the canary is not always the same robot, and the same rollout has the same order everywhere.
    Robots that cannot be reached come last.
    """
    everyone = sorted(robots, key=lambda robot: robot.name)
    found: list[Member] = []
    for reachable in (True, False):
        found += _mirrored([robot for robot in everyone if robot.reachable is reachable], seed)
    return tuple(found)


def _mirrored(robots: list[Member], seed: str) -> list[Member]:
    cells: dict[tuple[str, ...], list[Member]] = {}
    for robot in sorted(robots, key=lambda one: _hash(seed, one.name), reverse=True):
        cells.setdefault(robot.cell, []).append(robot)
    size = Counter(part for robot in robots for part in _parts(robot))
    taken: Counter[str] = Counter()
    found: list[Member] = []

    def missing(cell: tuple[str, ...]) -> tuple[int, str]:
        robot = cells[cell][-1]
        # Whole numbers, so that ties are ties.
        wanted = sum(size[part] * (len(found) + 1) - taken[part] * len(robots) for part in _parts(robot))
        return wanted, _hash(seed, robot.name)

    while cells:
        cell = max(cells, key=missing)
        found.append(cells[cell].pop())
        taken.update(_parts(found[-1]))
        if not cells[cell]:
            del cells[cell]
    return found


def _parts(robot: Member) -> tuple[str, ...]:
    return (*robot.groups, json.dumps(robot.cell))


def _hash(seed: str, name: str) -> str:
    return hashlib.sha256(json.dumps([seed, name]).encode()).hexdigest()


def make_plan(
    rollout: str,
    candidate: str,
    stable: str,
    robots: Iterable[Member],
    stages: str = STAGES,
    rules: Rules | None = None,
) -> Plan:
    """The plan of one rollout. Raises UserError for stages or robots that make none."""
    ordered = order(robots, rollout)
    sizes = sizes_of(parse_stages(stages), len(ordered))
    return Plan(rollout, candidate, stable, ordered, sizes, rules or Rules())
