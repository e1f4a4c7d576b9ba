"""`finetune` for policies that see."""

import argparse
from collections.abc import Sequence

from pipelines.commands import _trained


def sees(policy: str) -> bool:
    """Whether a policy file looks at pictures."""
    from pipelines.learning.finetune_pixels import sees as looks

    return looks(policy)


def run(args: argparse.Namespace, remarks: Sequence[str]) -> int:
    import sys
    from pathlib import Path

    from pipelines.learning.finetune_pixels import finetune_pixels, settings_of

    args.mapping = tuple(args.mapping)
    result = finetune_pixels(settings_of(vars(args)), Path(args.out))
    used = result["recorded"]
    for remark in (*remarks, *used["remarks"]):
        print(f"note: {remark}", file=sys.stderr)
    error = result["held_out_deg"]
    if error["before"] is not None:
        print(
            f"error on {used['held_out_episodes']} held-out recorded episodes: {error['before']:.2f}° → "
            f"{error['after']:.2f}° (an arm that stays where it is: {error['still']:.2f}°)",
            file=sys.stderr,
        )
    return _trained.finished(args.out)
