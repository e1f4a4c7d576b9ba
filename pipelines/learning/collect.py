"""Collecting demonstrations: the expert labels every state that is visited, by itself or by a policy.

In a world drawn from the space an episode is driven by the expert, by the student, or by both in turns, with
bursts of noise on what is executed. At each step the expert says what should be done: that chunk is the label.
So the student also learns the way back from its own mistakes (Ross, Gordon, Bagnell: "A reduction of imitation
learning and structured prediction to no-regret online learning", 2011; noise: Laskey et al., "DART", 2017).

The input is always what the *student* would see at that step: late, noisy, biased joint readings and the imitated
camera detector. The expert may look at the true state or at the same sensors (`labels`). With the true state its
decisions hinge on what the student cannot know, such as an encoder's offset of a degree; the student learns the
average of contrary decisions and hesitates where the expert is precise. Looking at the sensors, the expert does
nearly as well as with the true state, and what it does can be learned. For students that see pictures there is a
third way, the sensors' joints with the true places of the objects: what the detector makes of a picture is not in it.

An episode goes on for a while after it has succeeded: a person or a program that watches an arm needs longer than
the simulation to see that it has, and a student that was never shown what comes then lets go of what it has lifted.

Episodes depend on their draw alone, hence not on the number of workers. Workers never load torch: the student is
a policy file.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.learning.backgrounds import read_photographs
from pipelines.learning.delay import Ahead, delayed
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.drawn import Ranges, normalized
from pipelines.learning.relabelling import KnownZeros
from randomization.progress import progress_bar
from randomization.workers import Factory, Outcome, run_draws
from sim2real.camera import CameraModel
from sim2real.errors import Sim2RealError, UserError
from sim2real.goal_view import ENTRY, goal_view
from sim2real.observation import Feature, Observation, flatten
from sim2real.parameters import Draw
from sim2real.pictures import PictureInput
from sim2real.policies.file import with_history
from sim2real.policies.load import load_policy

Array = NDArray[np.float64]
Labels = Literal["sensors", "truth", "objects"]

AT_LEAST = 8
"""Episodes that a collection has even when its time is up: nothing can be learned from fewer."""

LINGER = 1.5
"""Seconds of an episode after it has succeeded: a session on an arm lets the policy go on for 1 s while it seems to
have, and a hand at a key may take longer."""

JOINTS = ("joint_position", "joint_velocity", "joint_command")

STREAM = 0xC0113C7
"""Separates the random numbers of collection from those of the world with the same draw."""


VISIBLE_PIXELS = 12
"""Pixels of a policy's picture that must show an object for it to count as visible."""


@dataclass(frozen=True)
class Sight:
    """What a student sees besides its features: pictures, and how many observations in a row.

    `keep` 0..1: share of the steps that are learned from; those in between show nearly the same.
    """

    pictures: tuple[PictureInput, ...] = ()
    history: int = 1
    keep: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1 or self.history < 1:
            raise UserError(
                f"the share of frames to keep lies in 0..1 (not 0), a history is at least 1; got {self}"
            )


@dataclass(frozen=True)
class Disturbance:
    """How collection departs from the expert's own episodes.

    `noise` rad: standard deviation of an offset on the executed goals that wanders with the correlation time
    `memory` s, during bursts of about `burst` s that take up the share `noisy` of the time. `student` 0..1: share
    of the time in which the student drives, in turns of about `turn` s.
    """

    noise: float = 0.05
    noisy: float = 0.2
    burst: float = 0.5
    memory: float = 0.3
    student: float = 0.0
    turn: float = 1.5

    def __post_init__(self) -> None:
        times = (self.memory, self.turn, self.burst)
        if not (self.noise >= 0 and min(times) > 0 and 0 <= self.student <= 1 and 0 <= self.noisy < 1):
            raise UserError(f"noise must be ≥ 0, times > 0, shares within 0..1; got {self}")


class Labeller:
    """The policy that `rollout` runs during collection: drives, disturbs, and keeps observation and label."""

    def __init__(
        self,
        world: Any,
        expert: Any,
        student: Any | None,
        features: Sequence[Any],
        disturbance: Disturbance,
        labels: Labels,
        sight: Sight | None = None,
        describe: Callable[[Observation], Observation] = lambda observation: {},
        horizon: int | None = None,
    ) -> None:
        """`describe`: entries that the student is given besides what is observed, as a goal's rows. `horizon` of the
        student's chunks (None: the expert's)."""
        self.horizon = expert.horizon if horizon is None else horizon
        if horizon is not None:
            # Experts of one's own may have a fixed one: their last action then stands for the rest.
            expert.horizon = horizon
        self.sight = sight or Sight()
        self.world, self.expert, self.student = world, expert, student
        self.features, self.disturbance, self.labels_from = tuple(features), disturbance, labels
        self.describe = describe
        self.ahead = Ahead(self.features, world.robot, self.horizon) if delayed(self.features) else None
        d, period = disturbance, 1.0 / world.robot.policy_rate
        self._keep = float(np.exp(-period / d.memory))
        self._switch = period / d.turn
        self._burst_ends = period / d.burst
        # Beginnings are so frequent that bursts take up the share that is asked for.
        self._burst_begins = self._burst_ends * d.noisy / (1 - d.noisy)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin an episode; everything random in it follows from `seed`."""
        self._rng = np.random.default_rng((STREAM, seed))
        self._offset = np.zeros(self.world.robot.n)
        self._noisy = False
        self._student_drives = self._rng.random() < self.disturbance.student
        self.observations: list[NDArray[np.float32]] = []
        self.labels: list[Array] = []
        self.images: dict[str, list[NDArray[np.uint8]]] = {p.entry: [] for p in self.sight.pictures}
        self.truths: list[NDArray[np.float32]] = []
        self._past: deque[NDArray[np.float32]] = deque(maxlen=self.sight.history)
        self._keeping = np.random.default_rng((STREAM, 1, seed))
        for policy in (self.expert, self.student):
            if policy is not None:
                policy.reset(seed)
        if self.ahead is not None:
            self.ahead.begin()

    def act(self, observation: Observation) -> Array:
        """(horizon, n) rad: what is executed. Observation and label of this step are appended to the lists."""
        label = self._label(observation)
        observation = observation | self.world.camera_places(self.sight.pictures)
        vector = with_history(self._past, flatten(observation | self.describe(observation), self.features))
        student_drives = self.student is not None and self._student_drives
        keep = self.sight.keep >= 1 or self._keeping.random() < self.sight.keep
        wanted = self.sight.pictures
        if wanted:
            # The cameras run from the first step on; drawn is only what is looked at.
            looked = self.world.pictures(wanted if keep or student_drives else ())
            if keep:
                self._keep_pictures(looked)
            # The only entries that are not float64.
            observation = observation | {p.entry: image for p, (image, _) in looked.items()}
        if self.ahead is not None:
            self.ahead.add(vector, observation, label)
        elif keep:
            self.observations.append(vector)
            self.labels.append(label)
        chunk = label
        if student_drives and self.student is not None:
            chunk = self._asked(vector, observation)
        chunk = np.asarray(chunk + self._offset)
        self._step()
        return chunk

    def watch(self, observation: Observation) -> None:
        """A step at which nobody is asked, because who drives is still thinking."""
        if self.ahead is not None:
            self.ahead.add(flatten(observation, self.features), observation, self._label(observation))
        self._step()

    def pairs(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(T, D) observations and (T, H, n) labels of the episode, which has ended. Raises Sim2RealError for none."""
        if self.ahead is not None:
            return self.ahead.pairs()
        if not self.observations:
            raise Sim2RealError("an episode of which no frame was kept; keep a larger share of them")
        return np.stack(self.observations), np.stack(self.labels).astype(np.float32)

    def _label(self, observation: Observation) -> Array:
        """(horizon, n) rad: what the expert would do."""
        seen = observation
        if self.labels_from != "sensors":
            seen = self.world.observe(privileged=True)
        if self.labels_from == "objects":
            seen |= {name: observation[name] for name in JOINTS}
        label = np.asarray(self.expert.act(seen), dtype=np.float64)
        short = self.horizon - len(label)
        return label[: self.horizon] if short <= 0 else np.pad(label, ((0, short), (0, 0)), mode="edge")

    def _asked(self, vector: NDArray[np.float32], observation: Observation) -> Array:
        """The student's chunk. One with a history is given the steps in which it did not drive, too."""
        assert self.student is not None
        if self.sight.history == 1:
            return np.asarray(self.student.act(observation), dtype=np.float64)
        pictures: Any = {p.entry: observation[p.entry][None] for p in self.sight.pictures}
        return np.asarray(self.student.act_on(vector[None], pictures)[0], dtype=np.float64)

    def _keep_pictures(self, looked: Mapping[PictureInput, tuple[NDArray[np.uint8], dict[str, int]]]) -> None:
        """Keep the pictures of this step, and what is true of the objects: position, yaw, whether they can be seen."""
        truth = self.world.observe(privileged=True)
        row: list[float] = []
        for name in self.world.bodies.specs:
            pixels = max(counts[name] for _, counts in looked.values())
            position, yaw = truth[f"object.{name}.position"], truth[f"object.{name}.yaw"]
            row += [*position.tolist(), *yaw.tolist(), float(pixels >= VISIBLE_PIXELS)]
        self.truths.append(np.array(row, dtype=np.float32))
        for picture, (image, _) in looked.items():
            self.images[picture.entry].append(image)

    def _step(self) -> None:
        """Who drives next, and with what noise. The same numbers are drawn whatever happens."""
        kick, coin, side, burst = self._rng.standard_normal(len(self._offset)), *self._rng.random(3)
        if coin < self._switch:
            self._student_drives = side < self.disturbance.student
        self._noisy = burst >= self._burst_ends if self._noisy else burst < self._burst_begins
        sigma = self.disturbance.noise if self._noisy else 0.0
        self._offset = self._keep * self._offset + np.sqrt(1 - self._keep**2) * sigma * kick


@dataclass(frozen=True)
class CollectEpisode:
    """A picklable recipe: world, expert and student by name; makes the function that runs one draw.

    Its rows hold `observations` (T, D) and `chunks` (T, H, n) float32, `success`, `stage`, `seconds`.
    """

    robot: str
    task: str
    disturbance: Disturbance
    student: str | None = None
    expert: str = "expert"
    labels: Labels = "sensors"
    nominal: Mapping[str, float] = field(default_factory=dict)
    features: tuple[Feature, ...] | None = None
    """What the student observes; None: all that the task offers."""
    sight: Sight = field(default_factory=Sight)
    cameras: Mapping[str, CameraModel] | None = None
    backgrounds: tuple[str, ...] = ()
    """Files with photographs of an empty table."""
    horizon: int | None = None
    """Of the student's chunks; None: the expert's."""
    drawn: Ranges = ()
    """Parameters of the draw that are noted with every pair."""
    zeros: tuple[float, ...] = ()
    """(n,) rad: how far the encoders' zeros are off, where the expert is to know that."""

    def __call__(self) -> Callable[[Draw], dict[str, Any]]:
        from sim2real.robot import Robot
        from sim2real.simulation.rollout import rollout
        from sim2real.simulation.world import World
        from sim2real.tasks.registry import load_task

        robot = Robot.load(self.robot)
        task = load_task(self.task, robot.n)
        expert = load_policy(self.expert, task, robot)
        if any(self.zeros):
            expert = KnownZeros(expert, np.array(self.zeros), robot.lower, robot.upper)
        student = None if self.student is None else load_policy(self.student, task, robot)
        world = World(
            robot,
            task,
            nominal=dict(self.nominal),
            cameras=self.cameras,
            backgrounds=read_photographs(self.backgrounds),
        )
        features = task.features if self.features is None else self.features
        told = {"describe": goal_view(task).entries} if any(f.name == ENTRY for f in features) else {}
        driver = Labeller(
            world,
            expert,
            student,
            features,
            self.disturbance,
            self.labels,
            self.sight,
            horizon=self.horizon,
            **told,
        )

        def run(draw: Draw) -> dict[str, Any]:
            episode = rollout(world, driver, draw, linger=LINGER)
            observations, chunks = driver.pairs()
            truths = np.stack(driver.truths) if driver.truths else None
            if self.drawn:
                truths = np.tile(normalized(world.values, self.drawn), (len(chunks), 1))
            return {
                "observations": observations,
                "chunks": chunks,
                "pictures": {name: np.stack(images) for name, images in driver.images.items()},
                "truths": truths,
                "success": bool(episode.success),
                "stage": episode.stage,
                "seconds": len(episode) / episode.fps,
            }

        return run


def collect(
    recipe: Factory,
    draws: Sequence[Draw],
    *,
    workers: int,
    label: str = "collect",
    keep_failures: bool = True,
    expired: Callable[[], bool] = lambda: False,
    progress: bool = True,
) -> tuple[Demonstrations, dict[str, Any]]:
    """Run the recipe on the draws; returns all pairs in the order of the draws, and a summary of the episodes.

    The pairs' episode numbers are the draws' indices. `expired` is asked after each episode and ends the
    collection early, though not before `AT_LEAST` episodes. `keep_failures=False` leaves out episodes that did
    not succeed. Raises Sim2RealError when no episode is left, UserError for a student or task that does not fit.
    """
    engine = run_draws(recipe, draws, workers)
    outcomes: list[Outcome] = []
    try:
        with progress_bar(len(draws), label, "episode", shown=progress) as bar:
            for outcome in engine:
                outcomes.append(outcome)
                bar.update()
                if len(outcomes) >= AT_LEAST and expired():
                    break
    finally:
        if hasattr(engine, "close"):
            engine.close()
    done = sorted((o for o in outcomes if not o.error), key=lambda outcome: outcome.draw.index)
    successes = sum(bool(outcome.row["success"]) for outcome in done)
    kept = [outcome for outcome in done if keep_failures or outcome.row["success"]]
    if not kept:
        errors = [outcome for outcome in outcomes if outcome.error]
        reason = f"; the first error: {errors[0].error}\n{errors[0].detail}" if errors else ""
        raise Sim2RealError(f"none of {len(outcomes)} episodes gave anything to learn from{reason}")
    demonstrations = Demonstrations.joined(
        [
            Demonstrations(
                outcome.row["observations"],
                outcome.row["chunks"],
                np.full(len(outcome.row["observations"]), outcome.draw.index, dtype=np.int64),
                outcome.row["pictures"],
                outcome.row["truths"],
            )
            for outcome in kept
        ]
    )
    return demonstrations, {
        "episodes": len(done),
        "pairs": len(demonstrations),
        "success_rate": successes / len(done),
        "errors": len(outcomes) - len(done),
        **_by_task(done),
    }


def _by_task(done: Sequence[Outcome]) -> dict[str, Any]:
    """Successes and episodes of every task, where there were several."""
    counts: dict[str, list[int]] = {}
    for outcome in done:
        if (task := outcome.row.get("task")) is not None:
            count = counts.setdefault(str(task), [0, 0])
            count[0] += bool(outcome.row["success"])
            count[1] += 1
    return {"per_task": counts} if counts else {}
