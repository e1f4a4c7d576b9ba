"""`finetune` for policies that are for many tasks."""

import argparse
from typing import Any

from pipelines.commands import _trained


def is_of_suite(policy: str) -> bool:
    """Whether a policy file is for many tasks."""
    from pipelines.learning.finetune_suite import is_of_suite as for_many

    return for_many(policy)


def run(args: argparse.Namespace) -> int:
    from dataclasses import replace
    from pathlib import Path

    from pipelines.commands import _source
    from pipelines.identification.source import robot_of
    from pipelines.learning.finetune_suite import finetune_suite, settings_of
    from pipelines.learning.trainer import options_from
    from pipelines.sweeps.simulated import worker_count

    args.names = _source.names_of(args) or None
    settings = settings_of(vars(args))
    if settings.data is not None:
        robot, remarks = robot_of(args.robot, settings.data)
        settings = replace(settings, robot=args.robot or robot.name)
        for remark in remarks:
            _trained.say(f"note: {remark}")
    result = finetune_suite(
        settings,
        Path(args.out),
        workers=worker_count(args.workers),
        options=options_from(args),
        say=_trained.say,
    )
    for line in told(result):
        _trained.say(line)
    if result["interrupted"]:
        return _trained.stopped_early(args.out)
    return _trained.finished(args.out)


def told(result: dict[str, Any]) -> list[str]:
    """What it learned and what it forgot, for people."""
    from pipelines.learning.comparing import change_text

    lines = []
    if "simulation" in result:
        lines.append(f"learned: success on {len(result['tasks'])} new: {change_text(result['simulation'])}")
    if "forgetting" in result:
        count = len(result["forgetting"]["after"]["per_task"])
        lines.append(f"kept: success on {count} of the old tasks: {change_text(result['forgetting'])}")
    if result.get("forgotten"):
        lines.append(
            "warning: it has forgotten some of what it could; give it more --rehearsal or --simulated"
        )
    return lines
