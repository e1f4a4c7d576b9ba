"""How commands that train speak to people, and end."""

import sys


def say(line: str) -> None:
    """A line for people; of several processes that train one speaks."""
    from pipelines.learning.ranks import main_process

    if main_process():
        print(line, file=sys.stderr, flush=True)


def stopped_early(out: str) -> int:
    """The exit status after Ctrl-C; says where the policy is."""
    print(f"stopped early; the policy so far is {out}/policy.onnx", file=sys.stderr)
    return 130


def finished(out: str) -> int:
    """The exit status of a run that has ended; writes its report, and the policy's path to standard output."""
    from pipelines.learning.ranks import main_process
    from pipelines.reports.report import try_report

    if main_process():
        try_report(out)
        print(f"{out}/policy.onnx")
    return 0
