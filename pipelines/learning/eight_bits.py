"""Policy files with 8-bit weights, where they pay.

The weights of matrix products become 8-bit integers, and so do their inputs, as they come (dynamic quantization of
onnxruntime). What a file says of itself stays, and the network it came from for whoever looks for it; it is the first
one that is trained further (`pipelines/learning/export.py` refuses the other). Convolutions stay as they are: their
8-bit versions are no faster on a processor.
"""

import json
import logging
import math
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.sources.inference import example_observation, told_features
from sim2real.errors import UserError
from sim2real.observation import Observation
from sim2real.policies.file import QUANTIZED_KEY, FilePolicy
from sim2real.policies.latency import Timing
from sim2real.policies.seeing import example_pictures
from sim2real.robot import Robot
from sim2real.task import Task

Array = NDArray[np.float64]

MATRIX_PRODUCTS = ("MatMul", "Gemm")

LARGE = 4096
"""Weights that a matrix product has at least for 8 bits to be worth the trouble. Small constants, such as an encoder's
kinematics, are no weights, and must stay exact."""

FASTER, SAVED = 0.8, 0.0002
"""Share of the time, and s less, that an answer must take: what is saved of a fraction of a millisecond is nothing
beside a period of the policy."""

LARGEST, USUAL = math.radians(1.0), math.radians(0.1)
"""rad by which an action may differ at most, and root mean square: about what a servo's tick is (0.09°)."""

EPISODES = 6
"""Simulated episodes whose observations both are asked about."""


@dataclass(frozen=True)
class Difference:
    """How far the actions of two policies are apart, rad (where a joint slides: in what counts like one, see
    `ArmModel.scale`)."""

    observations: int
    source: str
    largest: float
    rms: float
    joint: str
    """The joint with the largest one."""


@dataclass(frozen=True)
class Comparison:
    """A policy file and what its 8-bit version is like."""

    content: bytes
    """Of the 8-bit file."""
    bytes_before: int
    before: Timing
    after: Timing
    difference: Difference
    products: int
    """Matrix products that have 8 bits now."""

    @property
    def objections(self) -> list[str]:
        """Why it does not pay; empty where it does."""
        found = []
        if not self.products:
            found.append("the network has no matrix product with fixed weights")
        saved = self.before.p50 - self.after.p50
        if self.after.p50 > FASTER * self.before.p50 or saved < SAVED:
            found.append(
                f"an answer takes {1000 * self.after.p50:.3f} ms instead of {1000 * self.before.p50:.3f} ms"
            )
        if self.difference.rms > USUAL or self.difference.largest > LARGEST:
            found.append(
                f"actions change by {math.degrees(self.difference.rms):.2f}° (root mean square), at most by "
                f"{math.degrees(self.difference.largest):.2f}° ({self.difference.joint})"
            )
        return found

    @property
    def pays(self) -> bool:
        """Whether it is clearly faster and does what the other does."""
        return not self.objections

    def result(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "pays": self.pays,
            "objections": self.objections,
            "matrix_products": self.products,
            "bytes": {"before": self.bytes_before, "after": len(self.content)},
            "p50_ms": {"before": 1000 * self.before.p50, "after": 1000 * self.after.p50},
            "p99_ms": {"before": 1000 * self.before.p99, "after": 1000 * self.after.p99},
            "difference_deg": {
                "max": math.degrees(self.difference.largest),
                "rms": math.degrees(self.difference.rms),
                "joint": self.difference.joint,
            },
            "compared_on": {"source": self.difference.source, "observations": self.difference.observations},
        }


def compare_eight_bits(
    policy: FilePolicy, task: Task, robot: Robot, *, data: str | None, seed: int, seconds: float
) -> Comparison:
    """Make the 8-bit version of a policy and compare the two: actions on recorded (`data`) or simulated observations,
    and speed. Raises UserError for a file that has 8-bit weights already, and for data that do not fit."""
    if QUANTIZED_KEY in policy.metadata:
        raise UserError(f"{policy.where} has 8-bit weights already; give the file that it was made from")
    source = Path(policy.where).read_bytes()
    content, products = eight_bits(source, policy)
    after = FilePolicy(content, f"{policy.where} with 8-bit weights")
    pairs: Iterable[Pair]
    if data is None:
        pairs, where = _simulated(policy, after, task, robot, seed), f"{EPISODES} simulated episodes"
    else:
        pairs, where = _recorded(policy, after, data, task, robot), data
    observation = example_observation(robot, told_features(task, robot)) | example_pictures(policy.pictures)
    times = time_in_turns([policy, after], observation, seconds)
    return Comparison(
        content=content,
        bytes_before=len(source),
        before=times[0],
        after=times[1],
        difference=_difference(pairs, where, robot),
        products=products,
    )


def eight_bits(source: bytes, policy: FilePolicy) -> tuple[bytes, int]:
    """A policy file's content with 8-bit weights, and how many matrix products have them. Raises UserError."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it recommends what is done here
    try:
        with tempfile.TemporaryDirectory() as folder:
            given, prepared, made = (f"{folder}/{name}.onnx" for name in ("given", "prepared", "made"))
            Path(given).write_bytes(source)
            # Folds constants: weights that are transposed at run time would not be found.
            quant_pre_process(given, prepared, skip_symbolic_shape=True)
            model = onnx.load(prepared)
            products = _large_products(model.graph)
            if products:
                quantize_dynamic(
                    model,
                    made,
                    weight_type=QuantType.QInt8,
                    per_channel=True,
                    op_types_to_quantize=list(MATRIX_PRODUCTS),
                    nodes_to_quantize=products,
                )
                model = onnx.load(made)
    except Exception as error:
        # Neither onnx nor onnxruntime has exceptions of its own.
        raise UserError(
            f"{policy.where} cannot be given 8-bit weights: {type(error).__name__}: {error}"
        ) from None
    finally:
        logger.setLevel(level)
    kept = {**policy.metadata, QUANTIZED_KEY: json.dumps({"bits": 8, "source": policy.sha256})}
    onnx.helper.set_model_props(model, kept)
    return bytes(model.SerializeToString()), sum(node.op_type == "MatMulInteger" for node in model.graph.node)


def _large_products(graph: Any) -> list[str]:
    """Names of the matrix products by a large matrix of fixed weights; those without a name get one."""
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer if len(tensor.dims) == 2}
    names = []
    for i, node in enumerate(graph.node):
        if node.op_type in MATRIX_PRODUCTS and sizes.get(node.input[1], 0) >= LARGE:
            node.name = node.name or f"product_{i}"
            # A Gemm becomes a MatMul of this name and an Add before it is quantized.
            names.append(node.name if node.op_type == "MatMul" else f"{node.name}_MatMul")
    return names


def time_in_turns(policies: Sequence[FilePolicy], observation: Observation, seconds: float) -> list[Timing]:
    """How long each takes, one after the other again and again: whatever else the machine does happens to all."""
    times: list[list[float]] = [[] for _ in policies]
    end = time.perf_counter() + seconds
    while len(times[0]) < 100 or time.perf_counter() < end:
        for policy, mine in zip(policies, times):
            policy.act(observation)  # the other one has had the caches
            begin = time.perf_counter()
            policy.act(observation)
            mine.append(time.perf_counter() - begin)
    return [Timing.of(mine) for mine in times]


Pair = tuple[Array, Array]
"""Chunks (…, n) of both."""


class _Both:
    """Acts as the first of two policies and asks the other about the same."""

    def __init__(self, policy: FilePolicy, other: FilePolicy) -> None:
        self.policy, self.other = policy, other
        self.horizon, self.pictures = policy.horizon, policy.pictures
        self.seen: list[Pair] = []

    def reset(self, seed: int) -> None:
        self.policy.reset(seed)
        self.other.reset(seed)

    def act(self, observation: Observation) -> Array:
        chunk = self.policy.act(observation)
        self.seen.append((chunk, self.other.act(observation)))
        return chunk


def _simulated(policy: FilePolicy, other: FilePolicy, task: Task, robot: Robot, seed: int) -> list[Pair]:
    from pipelines.sweeps.inputs import robot_name, task_name
    from pipelines.sweeps.simulated import make_plan
    from sim2real.simulation.rollout import rollout
    from sim2real.simulation.world import World

    plan = make_plan(
        task=task_name(task), robot=robot_name(robot), policy=policy.where, draws=EPISODES, seed=seed
    )
    draws, _ = plan.make_draws(plan.bind())
    both = _Both(policy, other)
    with World(robot, task) as world:
        for draw in draws:
            rollout(world, both, draw)
    return both.seen


def _recorded(policy: FilePolicy, other: FilePolicy, data: str, task: Task, robot: Robot) -> Iterator[Pair]:
    from pipelines.learning.recorded import load_recorded

    if policy.pictures or policy.info.history > 1:
        raise UserError(
            f"{policy.where} takes pictures or a history, for which only simulated episodes are used: leave --data out"
        )
    demonstrations, _ = load_recorded(data, policy.info, robot, task=task.name, every_episode=True)
    # One by one: what a batch is quantized by is not what one observation would be.
    for vector in demonstrations.observations:
        yield policy.act_on(vector[None])[0], other.act_on(vector[None])[0]


def _difference(pairs: Iterable[Pair], source: str, robot: Robot) -> Difference:
    apart = np.array([np.abs(a - b) for a, b in pairs]) / robot.model.scale
    if not len(apart):
        raise UserError(f"{source} holds no observation to compare on")
    by_joint = apart.reshape(-1, robot.n)
    return Difference(
        observations=len(apart),
        source=source,
        largest=float(by_joint.max()),
        rms=float(np.sqrt(np.mean(by_joint**2))),
        joint=robot.joint_names[int(by_joint.max(axis=0).argmax())],
    )


def lines_of(result: dict[str, Any]) -> list[str]:
    """A comparison's JSON for people."""
    times, apart, on, size = (result[key] for key in ("p50_ms", "difference_deg", "compared_on", "bytes"))
    return [
        f"8 bits    {result['matrix_products']} matrix products; {size['before'] / 1000:.0f} kB become "
        f"{size['after'] / 1000:.0f} kB",
        f"speed     p50 {times['before']:.3f} ms becomes {times['after']:.3f} ms; p99 "
        f"{result['p99_ms']['before']:.3f} ms becomes {result['p99_ms']['after']:.3f} ms",
        f"actions   differ by {apart['rms']:.4f}° (root mean square), at most by {apart['max']:.3f}° "
        f"({apart['joint']}), over {on['observations']} observations of {on['source']}",
    ]
