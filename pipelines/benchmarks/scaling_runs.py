"""Scaling laws of run directories: what each policy was made with, and how often it fails."""

import base64
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.benchmarks.scaling import LEAST, fit_law
from pipelines.runs import CONFIG
from sim2real.errors import UserError
from sim2real.files import read_json
from sim2real.policies.file import WEIGHTS_KEY, load_policy_file

SIZES = ("demonstrations", "tasks", "parameters", "seconds")
"""What a policy was made with: demonstrated episodes, tasks, numbers in the network, s of collection and training."""


def scaling(directories: Sequence[str | Path]) -> dict[str, Any]:
    """Laws over every size in which these runs differ, as JSON types. `failures`: share of trials that failed;
    `action_error`: of actions on episodes that were held out, in the unit of the run's metrics.

    Raises UserError for directories that hold neither a benchmark nor a pretraining with an evaluation, and where
    there are too few sizes of every kind.
    """
    folders = [Path(directory) for directory in directories]
    if len(folders) < LEAST:
        raise UserError(f"--scaling needs at least {LEAST} run directories, got {len(folders)}")
    runs = [read_run(folder) for folder in folders]
    if len(units := {run["suite"] for run in runs}) > 1:
        raise UserError(f"the runs were measured on different tasks: {', '.join(sorted(units))}")
    laws = []
    varying = [s for s in SIZES if len({run[s] for run in runs if run[s]}) >= LEAST]
    for size in varying:
        known = [run for run in runs if run[size]]
        failures = [1.0 - run["successes"] / run["trials"] for run in known]
        law = fit_law([run[size] for run in known], failures, [run["trials"] for run in known])
        laws.append({"over": size, "of": "failures", **law.to_dict()})
        exact = [run for run in known if run["action_error"] is not None]
        if len({run[size] for run in exact}) >= LEAST:
            law = fit_law([run[size] for run in exact], [run["action_error"] for run in exact])
            laws.append({"over": size, "of": "action_error", **law.to_dict()})
    if not laws:
        counts = ", ".join(f"{len({run[s] for run in runs if run[s]})} of {s}" for s in SIZES)
        raise UserError(
            f"a scaling law needs at least {LEAST} different sizes of one kind; these runs have {counts}"
        )
    return {"runs": runs, "varying": varying, "scaling": laws}


def read_run(folder: Path) -> dict[str, Any]:
    """What a run directory says of its policy: sizes, successes and trials."""
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder} is not a run directory: it has no {CONFIG}")
    config = read_json(folder / CONFIG)
    if config.get("command") == "benchmark" and (folder / "summary.json").is_file():
        summary = read_json(folder / "summary.json")
        policy = Path(str(config.get("settings", {}).get("policy", "")))
        successes = sum(task["successes"] for task in summary["per_task"])
        trials, suite = summary["trials"], f"{summary['suite']} {summary['split']}"
        suite += "" if summary["suite"] != "tasks" else " " + " ".join(t["id"] for t in summary["per_task"])
    elif config.get("command") == "pretrain" and (folder / "metrics.json").is_file():
        found = read_json(folder / "metrics.json").get("evaluation")
        if not found:
            raise UserError(
                f"{folder} is a pretraining without an evaluation; benchmark its policy and give that"
            )
        policy, successes, trials = folder / "policy.onnx", found["successes"], found["draws"]
        suite = f"evaluation of {config.get('settings', {}).get('task')}"
    else:
        raise UserError(f"{folder} holds neither a finished benchmark nor a finished pretraining")
    return {"run": str(folder), "suite": suite, "successes": successes, "trials": trials, **made_with(policy)}


def made_with(policy: Path) -> dict[str, Any]:
    """Sizes of a policy file, and the error of its actions; None where nothing says so."""
    if not policy.is_file():
        raise UserError(
            f"the policy {policy}, which a run measured, is not there (paths are as they were typed then)"
        )
    file = load_policy_file(policy)
    provenance = file.info.provenance
    metrics: dict[str, Any] = {}
    if (policy.parent / "metrics.json").is_file():
        metrics = read_json(policy.parent / "metrics.json")
    rounds, curve = metrics.get("rounds") or [], metrics.get("curve") or []
    episodes = sum(row.get("episodes", 0) for row in rounds) or provenance.get("settings", {}).get("episodes")
    last = curve[-1] if curve else {}
    return {
        "demonstrations": episodes,
        "tasks": len(provenance.get("tasks") or [file.info.task]),
        "parameters": _parameters(file.metadata.get(WEIGHTS_KEY)),
        "seconds": last.get("seconds"),
        "action_error": last.get("val_error_deg", last.get("val_error")),
    }


def _parameters(weights: str | None) -> int | None:
    """How many numbers there are in base64 of safetensors, whose header says their shapes."""
    if weights is None:
        return None
    content = base64.b64decode(weights)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return sum(math.prod(part["shape"]) for name, part in header.items() if name != "__metadata__")
