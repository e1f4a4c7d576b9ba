"""Killed processes and full disks, which need real processes and real time, for a soak on a stepped clock.

They come as often as the catalogue assumes, like all others. Each is a run of its own as `kill_trials.py` makes them,
and counts as one episode that was hit; what the arm physically did is judged there.
"""

from dataclasses import dataclass

import numpy as np

from hardware.emulator.faults.catalogue import CATALOGUE
from pipelines.reliability.kill_trials import Bench, Trial
from pipelines.reliability.tally import ATTEND, DAY, Tally

HELPERS = ("inference", "camera", "recorder")


@dataclass(frozen=True)
class Outside:
    """One such fault: its name in the catalogue, who is hit and how, and the seed of its moment."""

    name: str
    role: str
    how: str
    seed: int


def drawn(exposure: float, seed: int) -> list[Outside]:
    """What comes in `exposure` s at work."""
    rng = np.random.default_rng([seed, 0x0D1E])
    found = []
    for name in ("kill_control", "stop_control", "kill_helper", "disk_full"):
        rate = sum(case.per_day for case in CATALOGUE[name].cases)
        for _ in range(int(rng.poisson(rate * exposure / DAY))):
            moment = int(rng.integers(1 << 31))
            if name == "disk_full":
                role, how = "recorder", "fill"
            elif name == "kill_helper":
                role, how = str(rng.choice(HELPERS)), str(rng.choice(("kill", "stop")))
            else:
                role, how = "control", name.split("_")[0]
            found.append(Outside(name, role, how, moment))
    return found


def tally_of(bench: Bench, fault: Outside) -> Tally:
    """Let it happen to an arm at work; what came of it. The time is not counted: it is that in which it was drawn."""
    return counted(fault, bench.trial([(fault.role, fault.how)], fault.seed))


def counted(fault: Outside, trial: Trial) -> Tally:
    """A trial as a fleet operator counts it: a person is needed where the run did not go on to its end."""
    went_on = trial.ended.endswith("status 0")
    tally = Tally(runs=1, episodes=1, hit_episodes=1, successes=int(went_on), hit_successes=int(went_on))
    tally.faults[fault.name] += 1
    if not went_on:
        tally.interventions, tally.repairs, tally.down = 1, ATTEND, ATTEND
        tally.people[fault.name] += 1
        tally.latched[trial.ended or "ended"] += 1
    tally.broken = [f"{fault.how} {fault.role}, seed {fault.seed}: {problem}" for problem in trial.problems]
    return tally
