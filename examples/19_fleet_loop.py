"""A fleet goes round once: robots work and record, a policy learns from it, is measured, and becomes the candidate.

    python examples/19_fleet_loop.py [POLICY] [ROBOTS] [EPISODES]

Goes on from example 08; every arm is an emulated one. With real arms each agent runs on its robot's computer, and the
recordings are copied from there. The last step, a rollout in stages, is `sim2real fleet rollout candidate`.
"""

import subprocess
import sys
import time
from pathlib import Path

import sim2real as s2r
from pipelines import benchmark, finetune
from pipelines.fleet.enrolling import enroll
from pipelines.fleet.registry.registry import Registry
from pipelines.identification.episodes import open_readings
from sim2real.lerobot.recording import write_episodes

policy = sys.argv[1] if len(sys.argv) > 1 else "runs/reach/policy.onnx"
robots = int(sys.argv[2]) if len(sys.argv) > 2 else 2
episodes = int(sys.argv[3]) if len(sys.argv) > 3 else 2  # of each robot, at least

runs = Path("runs/fleet")
hub = "tls/127.0.0.1:7447"


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "pipelines", "fleet", *arguments])


with Registry.open(runs / "store", create=True) as registry:
    stable = registry.publish(policy, by="example", alias="stable")
    names = [f"arm{number}" for number in range(robots)]
    for name in names:
        enroll(registry, name, by="example", days=1, out=runs / name / f"identity_{time.time():.0f}")
    homes = {name: sorted((runs / name).glob("identity_*"))[-1] for name in names}

    # Robots work.
    processes = [start("hub", "--store", str(runs / "store"), "--listen", hub)]
    for name in names:
        state = ["--identity", str(homes[name]), "--state", str(runs / name / "state")]
        processes.append(
            start("agent", "--hub", hub, *state, "--port", "emulated", "--episodes", "2", "--record")
        )
    seen = {episode.id for episode in registry.episodes()}
    while not all(
        sum(episode.id not in seen for episode in registry.episodes(robot=name)) >= episodes for name in names
    ):
        time.sleep(1)
    for process in reversed(processes):  # the hub last: agents tell it how their last runs ended
        process.terminate()
        process.wait()
    new = [episode for episode in registry.episodes() if episode.id not in seen]
    print(
        f"{len(new)} episodes of {robots} robots, {sum(bool(episode.success) for episode in new)} succeeded"
    )

    # A policy learns from all of it.
    folders = [
        path.parent.parent
        for name in names
        for path in sorted((runs / name).glob("state/runs/*/meta/info.json"))
    ]
    robot = s2r.Robot.load("so101")
    readings = [open_readings(folder, robot) for folder in folders]
    pooled = runs / f"pooled_{time.time():.0f}"
    write_episodes(
        pooled,
        robot,
        readings[0].convert.calibration,
        [episode for one in readings for episode in one.episodes.values()],
    )
    tuned = finetune(
        policy,
        pooled,
        epochs=1,
        batches=5,
        simulated=4,
        evaluate=4,
        every_episode=True,
        out=f"{pooled}_tuned",
    )
    print(tuned)

    # It is measured, and becomes the candidate.
    measured = benchmark(tuned.policy, against=policy, trials=8, clips=0, out=f"{pooled}_benchmark")
    print(measured)
    lineage = {"data": str(pooled), "training": str(tuned.out), "benchmark": str(measured.out)}
    candidate = registry.publish(tuned.policy, by="example", alias="candidate", lineage=lineage)
    print(f"candidate: {candidate.digest[:12]} from {len(new)} episodes of {robots} robots")
