"""`finetune` for policies that are for many tasks."""

import argparse
from typing import Any


def is_of_suite(policy: str) -> bool:
    """Whether a policy file is for many tasks."""
    from pipelines.learning.finetune_suite import is_of_suite as for_many

    return for_many(policy)


def run(args: argparse.Namespace) -> int:
    import sys
    from dataclasses import replace
    from pathlib import Path

    from pipelines.commands import _source
    from pipelines.identification.source import robot_of
    from pipelines.learning.finetune_suite import finetune_suite, settings_of
    from pipelines.learning.ranks import main_process
    from pipelines.learning.trainer import options_from
    from pipelines.reports.report import try_report
    from pipelines.sweeps.simulated import worker_count

    def say(line: str) -> None:
        if main_process():
            print(line, file=sys.stderr, flush=True)

    args.names = _source.names_of(args) or None
    settings = settings_of(vars(args))
    if settings.data is not None:
        robot, remarks = robot_of(args.robot, settings.data)
        settings = replace(settings, robot=args.robot or robot.name)
        for remark in remarks:
            say(f"note: {remark}")
    result = finetune_suite(
        settings,
        Path(args.out),
        workers=worker_count(args.workers),
        options=options_from(args),
        say=say,
    )
    for line in told(result):
        say(line)
    if result["interrupted"]:
        print(f"stopped early; the policy so far is {args.out}/policy.onnx", file=sys.stderr)
        return 130
    if main_process():
        try_report(args.out)
        print(f"{args.out}/policy.onnx")
    return 0


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
