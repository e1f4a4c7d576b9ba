"""`finetune` for policies that see."""

import argparse
from collections.abc import Sequence

from sim2real.errors import UserError


def sees(policy: str) -> bool:
    """Whether a policy file looks at pictures."""
    from pipelines.learning.finetune_pixels import sees as looks

    return looks(policy)


def run(args: argparse.Namespace, remarks: Sequence[str]) -> int:
    import sys
    from pathlib import Path

    from pipelines.learning.finetune_pixels import PixelTuning, finetune_pixels
    from pipelines.learning.trainer import settings_from
    from pipelines.reports.report import try_report

    only_states = {
        "simulated": "--simulated",
        "epochs": "--epochs",
        "evaluate": "--evaluate",
        "space": "--space",
    }
    said = [flag for name, flag in only_states.items() if getattr(args, name, None) is not None]
    # A nought of them is what is done anyway.
    said = [flag for flag in said if getattr(args, flag[2:]) != 0]
    if said:
        raise UserError(
            f"{', '.join(said)}: a policy that sees is adapted to the recording alone (--steps says how long)"
        )
    args.mapping = tuple(args.mapping)
    result = finetune_pixels(settings_from(PixelTuning, args), Path(args.out))
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
    try_report(args.out)
    print(f"{args.out}/policy.onnx")
    return 0
