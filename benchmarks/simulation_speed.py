"""How fast the simulated world runs: control steps (30 Hz) per second and core, physics at 300 Hz.

    python benchmarks/simulation_speed.py [--episodes N] [--panda-gym PYTHON] [--json]

- hold: the arm holds its pose, servo model included, the cube on the table; against the same scene with all
  motors off and no servo model, while the arm falls and after it has come to lie on the table.
- lift_at_240_hz: lift episodes with physics at 240 Hz (8 steps per control step) and commands at 80 Hz.
- gate: µs of one tick of the gate, standing still, in the commands of lift episodes, and wandering at full speed.
- lift, push, reach: whole episodes of the expert on default randomized draws (resets, expert, interpolator,
  gate, sensing and judging included), with the true state and with what the arm would see.
- workers: lift episodes in one and in two processes.
- picture: one camera picture of 640 x 480.
- panda-gym: steps of PandaPush-v3 under random actions, in the interpreter given by `--panda-gym` (an
  environment of its own with `pip install panda-gym`).

The best of several repetitions counts, since anything else on the machine can only slow a run down.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SUBSTEPS = 10


def best(run: Callable[[], int], repetitions: int) -> float:
    """Control steps per second; `run` returns how many it made."""
    rates = []
    for _ in range(repetitions):
        start = time.perf_counter()
        steps = run()
        rates.append(steps / (time.perf_counter() - start))
    return max(rates)


def holding(windows: int = 300, steps: int = 5) -> dict[str, float]:
    """Windows of a sixth of a second of simulated time, alternating between the two."""
    from sim2real.simulation.bullet import bullet
    from sim2real.simulation.world import World
    from sim2real.tasks.registry import load_task

    with World("so101", load_task("lift")) as world:
        goal = world.goal

        def hold() -> int:
            for _ in range(steps):
                world.advance(goal, SUBSTEPS)
            return steps

        def idle() -> int:
            for _ in range(steps * SUBSTEPS):
                bullet.stepSimulation(physicsClientId=world.client)
            return steps

        figures = dict.fromkeys(("hold", "motors_off_falling", "motors_off_lying"), 0.0)
        for _ in range(windows):
            world.reset()
            world.advance(None, 60)
            figures["hold"] = max(figures["hold"], best(hold, 1))
            world.reset()
            figures["motors_off_falling"] = max(figures["motors_off_falling"], best(idle, 1))
        for _ in range(40):
            idle()
        for _ in range(windows):
            figures["motors_off_lying"] = max(figures["motors_off_lying"], best(idle, 1))
    figures["hold_over_falling"] = figures["hold"] / figures["motors_off_falling"]
    figures["hold_over_lying"] = figures["hold"] / figures["motors_off_lying"]
    return figures


def episodes(
    task: str, count: int, first: int = 0, privileged: bool = True, rates: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Run the expert in `count` default randomized draws: control steps made, and successes.

    `rates`: of physics and commands, Hz, instead of the robot's.
    """
    from randomization.space import Space
    from sim2real.robot import Robot
    from sim2real.simulation.rollout import rollout
    from sim2real.simulation.world import World
    from sim2real.tasks.registry import load_task

    key = f"{task} {rates}"
    if key not in _WORLDS:
        robot = Robot.load("so101")
        if rates is not None:
            robot = replace(robot, physics_rate=rates[0], command_rate=rates[1])
        _WORLDS[key] = World(robot, load_task(task))
    world = _WORLDS[key]
    expert = world.task.expert(world.robot)
    draws = Space.default(world.parameters).bind(world.parameters).draws(first + count, seed=0)[first:]
    steps = successes = 0
    for draw in draws:
        episode = rollout(world, expert, draw, privileged=privileged)
        steps += len(episode)
        successes += bool(episode.success)
    return steps, successes


_WORLDS: dict[str, Any] = {}


def gate_ticks(repetitions: int) -> dict[str, float]:
    """Processor time, µs, of a tick of the gate by what is asked of it."""
    import numpy as np

    from sim2real.gate.gate import Gate
    from sim2real.robot import Robot

    robot = Robot.load("so101")
    gate = Gate(robot)
    rng = np.random.default_rng(0)
    still = np.tile(robot.home, (2000, 1))
    wander, velocity = [np.array(robot.home)], np.zeros(robot.n)
    for _ in range(2000):
        velocity = 0.99 * velocity + 0.14 * rng.normal(size=robot.n)
        wander.append(np.clip(wander[-1] + velocity / robot.command_rate, robot.lower, robot.upper))
    figures = {}
    for name, requests in (("still", still), ("lift", lift_commands()), ("wandering", np.array(wander))):
        spent = []
        for _ in range(repetitions):
            gate.reset(requests[0])
            start = time.process_time()
            for request in requests:
                gate.step(request)
            spent.append((time.process_time() - start) / len(requests))
        figures[f"gate_{name}_us"] = 1e6 * min(spent)
    return figures


def lift_commands() -> Any:
    """(T, n) rad: what an expert asks of the gate in a lift episode."""
    import numpy as np

    from sim2real.chunks import Chunk, ChunkPlayer
    from sim2real.simulation.rollout import rollout
    from sim2real.simulation.world import World
    from sim2real.tasks.registry import load_task

    with World("so101", load_task("lift")) as world:
        episode = rollout(world, world.task.expert(world.robot), privileged=True)
        player = ChunkPlayer()
        player.reset(episode.action[0], 0.0)
        player.add(Chunk(0.0, 1 / world.robot.policy_rate, episode.action), 0.0)
        ticks = int(episode.time[-1] * world.robot.command_rate)
        return np.array([player.sample(k / world.robot.command_rate) for k in range(ticks)])


def _worker(connection: Any) -> None:
    episodes("lift", 1)
    connection.send("ready")
    while (job := connection.recv()) is not None:
        connection.send(episodes("lift", *job))


def workers(number: int, count: int) -> float:
    """Control steps per second of `number` processes that share 2 x `count` lift episodes."""
    context = get_context("spawn")
    pipes, processes = [], []
    for _ in range(number):
        here, there = context.Pipe()
        process = context.Process(target=_worker, args=(there,), daemon=True)
        process.start()
        pipes.append(here)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()
    start = time.perf_counter()
    share = 2 * count // number
    for k, pipe in enumerate(pipes):
        pipe.send((share, k * share))
    steps = sum(pipe.recv()[0] for pipe in pipes)
    elapsed = time.perf_counter() - start
    for pipe, process in zip(pipes, processes):
        pipe.send(None)
        process.join()
    return steps / elapsed


def picture() -> float:
    from sim2real.simulation.world import World
    from sim2real.tasks.registry import load_task

    with World("so101", load_task("push")) as world:
        world.render()

        def draw() -> int:
            world.render()
            return 1

        return 1e3 / best(draw, 10)


PANDA = """
import time, gymnasium, panda_gym
env = gymnasium.make("PandaPush-v3")
env.reset(seed=0)
def run(n=500):
    start = time.perf_counter()
    for _ in range(n):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
    return n / (time.perf_counter() - start)
print(max(run() for _ in range(5)))
"""


def panda_gym(python: str) -> float:
    result = subprocess.run([python, "-c", PANDA], capture_output=True, text=True, timeout=600)
    if result.returncode:
        raise SystemExit(f"panda-gym did not run with {python}:\n{result.stderr[-800:]}")
    return float(result.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=32, help="per repetition (default 32)")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--panda-gym", metavar="PYTHON", help="interpreter that has panda-gym")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures: dict[str, float] = holding()
    for task in ("lift", "push", "reach"):
        for privileged in (True, False):
            name = task if privileged else f"{task}_as_sensed"
            episodes(task, 2, privileged=privileged)
            figures[name] = best(
                lambda task=task, privileged=privileged: episodes(
                    task, arguments.episodes, privileged=privileged
                )[0],
                arguments.repetitions,
            )
    episodes("lift", 2, rates=(240, 80))
    figures["lift_at_240_hz"] = best(
        lambda: episodes("lift", arguments.episodes, rates=(240, 80))[0], arguments.repetitions
    )
    figures |= gate_ticks(arguments.repetitions)
    one, two = [], []
    for _ in range(max(1, arguments.repetitions // 2)):
        one.append(workers(1, arguments.episodes))
        two.append(workers(2, arguments.episodes))
    figures |= {"one_worker": max(one), "two_workers": max(two), "two_over_one": max(two) / max(one)}
    figures["picture_ms"] = picture()
    if arguments.panda_gym:
        figures["panda_gym"] = panda_gym(arguments.panda_gym)
        figures["lift_over_panda_gym"] = figures["lift"] / figures["panda_gym"]
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        ratio = "_over_" in name or name.endswith(("_ms", "_us"))
        print(f"{name:22s} {value:10.2f}" if ratio else f"{name:22s} {value:10.0f} control steps/s")


if __name__ == "__main__":
    main()
