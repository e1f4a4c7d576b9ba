"""What recording costs the loop, and what a kill costs a recording.

    python benchmarks/recording.py [--kills 20] [--frames 3000] [--json]

Kills a recorder (640 x 480 pictures, 30 Hz) at random moments of an episode and recovers it: how much was lost, as
time between the last frame that had been handed over and the last one recovered. Then hands frames to a recorder as
the loop does and measures how long the loop is kept.
"""

import argparse
import json
import multiprocessing
import random
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from hardware.emulator.assembly import emulated_calibration
from hardware.runtime.control.supervisor import Action, Health, Phase, State
from hardware.runtime.control.tick import Tick
from hardware.runtime.recording.recorder import RecorderConfig, RecorderProcess
from sim2real.arm import ArmState
from sim2real.camera import CameraModel
from sim2real.lerobot import EpisodeRecorder
from sim2real.lerobot.journal import recover
from sim2real.robot import Robot

RATE = 30


def record(root: str, progress: Connection) -> None:
    """Record for ever, at the pace of a camera, and say how many frames there are."""
    robot = Robot.load("so101")
    camera = CameraModel.looking_at((0.4, 0.3, 0.4), (0.2, 0.0, 0.0), width=640, height=480, name="front")
    recorder = EpisodeRecorder(
        root, robot, emulated_calibration(robot), cameras={"front": camera}, task="reach"
    )
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 255, (480, 640, 3), dtype=np.uint8) // 4
    start = time.monotonic()
    for i in range(100_000):
        image = np.roll(scene, 3 * i, axis=1)
        position = robot.home + 0.001 * (i % 100)
        recorder.add(
            time=i / RATE, state=position, action=position, executed=position, images={"front": image}
        )
        progress.send(i + 1)
        time.sleep(max(0.0, start + (i + 1) / RATE - time.monotonic()))


def loss_of_a_kill(seconds: float) -> float:
    """Seconds lost when the recorder is killed `seconds` into an episode."""
    with tempfile.TemporaryDirectory() as root:
        ours, theirs = multiprocessing.get_context("spawn").Pipe(duplex=False)
        process = multiprocessing.get_context("spawn").Process(target=record, args=(root, theirs))
        process.start()
        theirs.close()
        frames = ours.recv()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if ours.poll(0.01):
                frames = ours.recv()
        process.kill()
        process.join()
        while ours.poll():
            try:
                frames = ours.recv()
            except EOFError:
                break
        found = recover(Path(root))
        return (frames - sum(episode.frames for episode in found)) / RATE


def cost_to_the_loop(frames: int) -> np.ndarray:
    """How long each of `frames` calls keeps the loop, s."""
    robot = Robot.load("so101")
    zeros = np.zeros(robot.n)
    with tempfile.TemporaryDirectory() as root:
        config = RecorderConfig(root, "so101", emulated_calibration(robot).table(), "reach")
        recorder = RecorderProcess(config, lambda condition, timeout: bool(condition() or time.sleep(0.01)))
        observation = {name: np.zeros(size) for name, size in config.environment.items()}
        observation["joint_position"] = np.array(robot.home)
        recorder.begin()
        costs = np.empty(frames)
        for i in range(frames):
            reading = ArmState(
                i / RATE, zeros, zeros, zeros, zeros > -1, zeros, zeros, zeros, zeros, np.zeros(robot.n, int)
            )
            home, running = np.array(robot.home), State(Phase.RUNNING)
            tick = Tick(
                i / RATE, running, running, Action.FOLLOW, Health(), reading, home, home, home, False,
                observation=observation, episode=0,
            )  # fmt: skip
            before = time.perf_counter()
            recorder.tick(tick)
            assert recorder.problem == ""
            costs[i] = time.perf_counter() - before
            time.sleep(0.001)
        recorder.close()
        assert recorder.lost == 0
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rng = random.Random(0)
    lost = [loss_of_a_kill(rng.uniform(0.5, 4.0)) for _ in range(args.kills)]
    costs = 1e6 * cost_to_the_loop(args.frames)
    result: dict[str, Any] = {
        "kills": args.kills,
        "lost_s": {"mean": float(np.mean(lost)), "max": float(np.max(lost))},
        "frame_us": {"p50": float(np.median(costs)), "p99": float(np.percentile(costs, 99))},
    }
    if args.json:
        print(json.dumps(result))
        return
    print(f"{args.kills} kills: lost {np.mean(lost):.2f} s in the mean, {np.max(lost):.2f} s at most")
    p50, p99 = (result["frame_us"][key] for key in ("p50", "p99"))
    print(f"handing over a frame: {p50:.0f} µs in the median, p99 {p99:.0f} µs")


if __name__ == "__main__":
    main()
