"""A benchmark on an arm: one session of `deploy` after the other until every task has its trials.

arm/TASK/1, 2, …     the sessions' own run directories; one that ended early is followed by another for what is missing
trials.parquet, summary.json    as of any benchmark; episodes that nobody judged are counted apart
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.benchmarks.statistics import mean_rate
from pipelines.runs import claim, described
from sim2real.errors import Sim2RealError
from sim2real.files import read_json, write_json
from sim2real.policies.load import policy_identity
from sim2real.statistics import wilson_interval

Session = Callable[[str, Path, int, int], Any]
"""Runs so many episodes of a task into a directory, with a seed."""


def benchmark_on_arm(
    policy: str, tasks: Sequence[str], out: Path, *, port: str, trials: int, seed: int, session: Session
) -> dict[str, Any]:
    """Run or go on with a benchmark on the arm at `port`; returns what summary.json says.

    Raises Sim2RealError where a session ends before its first episode, and when one ended early, after writing the
    summary of what there is: a fault is looked at by a person before the arm moves again.
    """
    identity = {
        "policy": policy_identity(policy),
        "tasks": list(tasks),
        "arm": "emulated" if port == "emulated" else "real",
        "seed": seed,
    }
    settings = {"suite": "arm", "policy": policy, "tasks": len(tasks), "trials": trials, "port": port}
    claim(out, described("benchmark", seed=seed, settings=settings, identity=identity))
    stopped = ""
    for task in tasks:
        folder = out / "arm" / task.replace("/", "-")
        done = len(_episodes(folder))
        if done < trials and not stopped:
            number = 1 + sum(1 for _ in folder.glob("[0-9]*")) if folder.exists() else 1
            session(task, folder / str(number), trials - done, seed + 1000 * (number - 1))
            found = len(_episodes(folder))
            if found < trials:
                stopped = f"the session of {task} ended after {found - done} of {trials - done} episodes"
    summary = _summarize(out, tasks)
    write_json(out / "summary.json", summary)
    if stopped:
        raise Sim2RealError(
            f"{stopped}; what there is stands in {out}/summary.json, the session's own report says why it ended; the "
            "same command goes on with what is missing"
        )
    return summary


def _episodes(folder: Path) -> list[dict[str, Any]]:
    """What became of every episode of a task, in all sessions so far."""
    found: list[dict[str, Any]] = []
    for number in sorted((int(p.name) for p in folder.glob("[0-9]*")) if folder.exists() else ()):
        path = folder / str(number) / "result.json"
        if path.is_file():
            found += read_json(path).get("trials", [])
    return found


def _summarize(out: Path, tasks: Sequence[str]) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    per_task: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for task in tasks:
        episodes = _episodes(out / "arm" / task.replace("/", "-"))
        judged = [e for e in episodes if e["success"] is not None]
        good = sum(_alone(e) for e in judged)
        rows += [
            {
                "side": "policy",
                "task": task,
                "index": k,
                "success": bool(_alone(e)),
                "judged": e["success"] is not None,
                "seconds": float(e["seconds"]),
                "note": str(e.get("note", "")),
            }
            for k, e in enumerate(episodes)
        ]
        per_task.append(
            {
                "id": task,
                "family": task,
                "trials": len(judged),
                "successes": good,
                "wilson_95": list(wilson_interval(good, len(judged))),
                "stage_reached": {},
                "failure": {"unknown": len(judged) - good} if good < len(judged) else {},
                "unjudged": len(episodes) - len(judged),
            }
        )
    counted = [task for task in per_task if task["trials"]]
    if rows:
        pq.write_table(pa.Table.from_pylist(rows), out / "trials.parquet")
    if not counted:
        raise Sim2RealError(
            f"no episode in {out} was judged, so there is nothing to count; judge at the terminal, or with a command "
            "(deploy --success)"
        )
    rate = mean_rate([t["successes"] for t in counted], [t["trials"] for t in counted])
    causes = Counter({"unknown": sum(t["trials"] - t["successes"] for t in counted)})
    return {
        "suite": "arm",
        "split": "seen",
        "tasks": len(tasks),
        "trials": sum(t["trials"] for t in per_task),
        "success_rate": rate.value,
        "interval_95": [rate.low, rate.high],
        "method": rate.method,
        "per_task": per_task,
        "per_family": [],
        "hardest": [t["id"] for t in counted if t["successes"] < t["trials"]],
        "failures": {cause: count for cause, count in causes.items() if count},
    }


def _alone(episode: Mapping[str, Any]) -> bool:
    """What a person has helped with is no success of the policy's."""
    return episode["success"] is True and not episode.get("interventions", 0)
