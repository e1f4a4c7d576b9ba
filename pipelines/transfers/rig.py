"""One policy on one reality, episode by episode, on a stepped clock: the bytes, driver, loop and detector of an arm.

Every episode begins with the limp arm at rest: it is identified, configured, armed, goes to where the episode starts,
looks for the objects, and then follows the policy. Index and seed decide where things are, so that every policy meets
the same episodes. The judge sees the true state.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from hardware.cameras.tracking import CameraPerception
from hardware.emulator.assembly import emulated_calibration
from hardware.emulator.stepped import SteppedArm
from hardware.emulator.world_plant import WorldPlant, drawn_episode
from hardware.runtime.control.loop import ControlLoop, LoopSettings
from hardware.runtime.control.supervisor import Phase, Request
from hardware.runtime.control.tick import TickSink
from hardware.runtime.sources.sources import GoalOnly, LocalPolicy, PerceptionSource
from pipelines.transfers.eye import Seeing, SteppedCamera
from pipelines.transfers.reality import Reality
from sim2real.clock import SimulatedClock
from sim2real.policies.protocol import Policy
from sim2real.policies.seeing import wanted_by
from sim2real.robot import Robot
from sim2real.task import Hold, Scene, Task

Array = NDArray[np.float64]

LATENCY: Final = 0.02
"""s from an observation to its chunk, on top of what a reality's `policy.latency` says."""
ARMING, TRAVEL, SEEING = 5.0, 20.0, 5.0
"""s that arming, going to the start, and finding the objects may take."""
LOOKS: Final = 1 / 30
"""s between two looks of the judge."""


@dataclass(frozen=True)
class Trial:
    """How one episode went. `fault`: what the runtime latched, or why it never began. `seconds` of the policy."""

    index: int
    success: bool
    stage: str
    seconds: float
    fault: str = ""
    clipped: int = 0
    rejected: int = 0
    behind: float = 0.0
    """s by which physics fell behind real time; an episode with any does not count."""

    def row(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Start:
    """How episode `index` begins: where things are, and where the arm starts, (n,) rad."""

    index: int
    scene: Scene
    position: Array
    values: dict[str, float]


def start_of(task: Task, robot: Robot, index: int, seed: int) -> Start:
    """The beginning of an episode, from (seed, index) and nothing else."""
    values, scene = drawn_episode(task, robot, seed, index)
    return Start(index, scene, task.start(values, robot), values)


class Rig:
    """The arm of a reality; `run` is one episode of a policy. `close` when done."""

    def __init__(self, robot: Robot, task: Task, reality: Reality, *, values: dict[str, float]) -> None:
        """`values` are the reality's parameters for this robot and task."""
        self.robot, self.task, self.reality = reality.robot(robot), task, reality
        self.calibration = emulated_calibration(robot)
        self.plant = WorldPlant(self.robot, self.calibration, task=task, twin=values, engine=reality.engine)
        self._eye: SteppedCamera | None = None

    def run(
        self,
        policy: Policy,
        start: Start,
        *,
        sinks: tuple[TickSink, ...] = (),
    ) -> Trial:
        """One episode, which ends when it has succeeded, or its time is up. `sinks` are the loop's: its ticks have the
        episode's index while the policy drives."""
        plant, robot, task = self.plant, self.robot, self.task
        clock = SimulatedClock()
        plant.episode = start.index
        plant.restart(0.0)
        plant.world.place(Scene(start.scene.goal))
        arm = SteppedArm(robot, plant, clock=clock, calibration=self.calibration)
        arm.arm.identify()
        arm.arm.configure()
        perception, advance = self._perception(clock, start, bool(wanted_by(policy)))
        if self._eye is not None and wanted_by(policy):
            policy = Seeing(policy, self._eye)
        latency = LATENCY + plant.world.values["policy.latency"]
        source = LocalPolicy(policy, 1 / robot.policy_rate, clock, latency)
        loop = ControlLoop(
            arm.arm, clock, source, perception,
            settings=replace(LoopSettings(), limits=self.calibration.limits), before_tick=advance, sinks=sinks,
        )  # fmt: skip
        if isinstance(perception, TickSink):
            loop.sinks.append(perception)
        if not self._prepared(loop, start):
            return Trial(
                start.index, False, _first(task), 0.0, _why(loop, "the arm did not get to its start")
            )
        plant.world.place(start.scene)
        perception.begin(start.scene.goal if task.goal_zone is None else None)
        if not loop.run(lambda: perception.ready() or loop.state.fault is not None, SEEING):
            note = "not everything the task needs was seen"
            return Trial(start.index, False, _first(task), 0.0, _why(loop, note))
        loop.episode = start.index
        loop.start_policy(start.index)
        loop.request = Request.RUN
        judge = _Judge(task, plant)
        begin = clock.now()
        judge.look(begin)

        def ended() -> bool:
            judge.look(clock.now())
            return loop.state.fault is not None or judge.hold.succeeded

        loop.run(ended, task.duration)
        return Trial(
            start.index, judge.hold.succeeded, judge.farthest, round(clock.now() - begin, 4), _why(loop),
            loop.counts.clipped, loop.counts.rejected,
        )  # fmt: skip

    def _perception(
        self, clock: SimulatedClock, start: Start, seeing: bool
    ) -> tuple[PerceptionSource, Callable[[], None]]:
        task = self.task
        if not task.objects and not seeing:
            return GoalOnly(start.scene.goal), lambda: None
        if self._eye is None:
            self._eye = SteppedCamera(self.robot, self.plant, self.reality, clock)
        eye = self._eye
        eye.clock = clock
        eye.begin(start.index)
        if not task.objects:
            return GoalOnly(start.scene.goal), eye.advance
        seen = CameraPerception(
            cast(Any, eye), task.objects, goal_zone=task.goal_zone, goal_height=task.goal_height, clock=clock,
            robot=self.robot,
        )  # fmt: skip
        return seen, eye.advance

    def _prepared(self, loop: ControlLoop, start: Start) -> bool:
        """Armed, and where the episode starts."""

        def reached(condition: Callable[[], bool], timeout: float) -> bool:
            loop.run(lambda: condition() or loop.state.fault is not None, timeout)
            return condition() and loop.state.fault is None

        if not reached(lambda: loop.phase is Phase.LIMP, ARMING):
            return False
        loop.request = Request.ARM
        if not reached(lambda: loop.phase is Phase.HOLD, ARMING):
            return False
        loop.travel(start.position)
        loop.request = Request.RUN
        if not reached(lambda: loop.arrived, TRAVEL):
            return False
        loop.request = Request.STOP
        arrived = reached(lambda: loop.phase is Phase.HOLD, ARMING)
        loop.request = Request.NONE
        return arrived

    def close(self) -> None:
        """Free what it has."""
        if self._eye is not None:
            self._eye.close()
        self.plant.close()


class _Judge:
    """How far an episode has come, from the true state."""

    def __init__(self, task: Task, plant: WorldPlant) -> None:
        self.task, self.plant = task, plant
        self.hold, self.stage = Hold(), 0
        self._next = -np.inf

    @property
    def farthest(self) -> str:
        """The stage that was reached."""
        return self.task.stages[self.stage] if self.task.stages else ""

    def look(self, now: float) -> None:
        if now < self._next:
            return
        self._next = now + LOOKS - 1e-9
        truth = self.plant.world.truth()
        self.hold.look(now, self.task.satisfied(truth))
        if self.task.stages:
            self.stage = max(self.stage, self.task.stages.index(self.task.stage(truth)))


def _first(task: Task) -> str:
    return task.stages[0] if task.stages else ""


def _why(loop: ControlLoop, otherwise: str = "") -> str:
    return loop.faults[0] if loop.faults else otherwise
