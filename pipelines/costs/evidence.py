"""Inputs that were measured: success from the results of a benchmark, work from those of a fleet."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.costs.inputs import Inputs
from pipelines.costs.spread import Pert, Posterior
from sim2real.errors import UserError

RESULTS = ("benchmark.json", "result.json", "summary.json", "evaluation.json", "metrics.json")
"""Files in which success stands, in the order of preference."""

COUNTS = ("trials", "draws", "episodes")


def with_benchmark(inputs: Inputs, path: str | Path) -> Inputs:
    """Success as the posterior of what a run directory counted (a benchmark, sweep, training or deployment), or of a
    file with the JSON that such a command printed.

    Raises UserError where no counts are found, or where they contradict themselves.
    """
    file, content = _read(Path(path))
    found = _counts(content)
    if found is None:
        raise UserError(
            f"--benchmark {path}: {file.name} has no counts of success; the directory of a benchmark, sweep, training "
            "or deployment is wanted, or a file with what `sim2real evaluate --json` printed"
        )
    successes, trials = found
    if trials == 0:
        raise UserError(f"--benchmark {path}: {file.name} has judged no episode")
    if not 0 <= successes <= trials:
        raise UserError(f"--benchmark {path}: {file.name} says {successes} successes of {trials} trials")
    command = _command(file)
    spread = Posterior(successes, trials)
    inputs = inputs.measured("success", spread, f"{path}: {successes} of {trials}", _day(file))
    on_arm = content.get("port") or command in ("deploy", "play")
    if not on_arm and "success_loss" in inputs.by_name and inputs["success_loss"].spread.high == 0:
        inputs = inputs.noting(
            "The success is the simulator's. What is lost on the way to daily work is taken as zero: measure it on the "
            "arm, or set success_loss."
        )
    return inputs


def with_fleet(inputs: Inputs, path: str | Path) -> Inputs:
    """What a simulated or a real fleet showed: its robots, effective episodes per robot and day, and how long a robot
    waits for help.

    Raises UserError where the directory holds no result of a fleet.
    """
    file, content = _read(Path(path))
    robots, effective = (_figure(content.get(key)) for key in ("robots", "effective_per_day"))
    if not robots or effective is None or robots < 1 or robots != int(robots):
        raise UserError(
            f"--fleet {path}: {file.name} has no `robots` and `effective_per_day`; the directory of `sim2real fleet "
            "simulate` is wanted"
        )
    on, source = _day(file), str(path)
    inputs = inputs.measured("robots", Pert(robots, robots, robots), source, on)
    if effective > 0:
        rate = effective / robots
        inputs = inputs.measured("fleet_episodes", Pert(rate, rate, rate), source, on)
    wait = content.get("help_wait_min")
    wait = _figure(wait.get("mean")) if isinstance(wait, Mapping) else None
    if wait is not None and wait >= 0:
        inputs = inputs.measured("help_wait", Pert(wait, wait, wait), source, on)
    return inputs


def _read(path: Path) -> tuple[Path, Mapping[str, Any]]:
    file = path
    if path.is_dir():
        found = next((path / name for name in RESULTS if (path / name).is_file()), None)
        if found is None:
            raise UserError(f"{path} holds none of {', '.join(RESULTS)}: it is no run with results")
        file = found
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file}: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no JSON object")
    return file, content


def _counts(content: Mapping[str, Any]) -> tuple[int, int] | None:
    """Successes and trials, wherever they stand: at the top, in an evaluation, or summed over tasks."""
    rows = content.get("per_task")
    if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
        counted = [_own_counts(row) for row in rows]
        if all(counted):
            return sum(c[0] for c in counted if c), sum(c[1] for c in counted if c)
    simulation = content.get("simulation")
    places = [
        content,
        content.get("evaluation"),
        simulation.get("after") if isinstance(simulation, dict) else None,
    ]
    for place in places:
        if isinstance(place, Mapping) and (found := _own_counts(place)) is not None:
            return found
    return None


def _own_counts(place: Mapping[str, Any]) -> tuple[int, int] | None:
    trials = next((n for key in COUNTS if (n := _figure(place.get(key))) is not None), None)
    if trials is None:
        return None
    judged = trials - (_figure(place.get("unknown")) or 0)
    successes, rate = _figure(place.get("successes")), _figure(place.get("success_rate"))
    if successes is None and rate is not None:
        successes = round(rate * judged)
    if successes is None or successes != int(successes) or judged != int(judged):
        return None
    return int(successes), int(judged)


def _figure(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def _command(file: Path) -> str:
    config = file.parent / "config.json"
    try:
        return str(json.loads(config.read_text(encoding="utf-8")).get("command", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _day(file: Path) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(file.stat().st_mtime))
