"""Options that several commands have: name, type, default and help of each are declared here once."""

import argparse
from collections.abc import Mapping
from typing import Any

OPTIONS: dict[str, dict[str, Any]] = {
    "accelerator": {"default": "auto", "metavar": "A", "help": "cpu, gpu, mps, auto (%(default)s)"},
    "calibration": {"metavar": "FILE", "help": "calibration of this arm (default: what its servos store)"},
    "cameras": {
        "metavar": "FILE",
        "help": "your cameras, as for `deploy` (default: a camera anywhere around the table)",
    },
    "devices": {"default": "auto", "metavar": "D", "help": "how many, or which: 0,1 (%(default)s)"},
    "draws": {"type": int, "metavar": "N", "help": "episodes (%(default)s)"},
    "epochs": {"type": int, "metavar": "E", "help": "epochs of training"},
    "evaluate": {"type": int, "metavar": "N", "help": "episodes of each measurement in simulation"},
    "instruction": {
        "metavar": "TEXT",
        "help": 'what to do with the things of --task, a scene of a suite: "put the red cube behind the bowl"',
    },
    "json": {"action": "store_true", "help": "print JSON to standard output"},
    "learning_rate": {"type": float, "metavar": "LR", "help": "largest learning rate"},
    "nodes": {
        "type": int,
        "default": 1,
        "metavar": "N",
        "help": "computers that train together, on each of which torchrun or srun starts this command (%(default)s)",
    },
    "object": {
        "action": "append",
        "default": [],
        "metavar": "NAME:KEY=V,…",
        "help": "another object than the task has: cube:size=0.03,colour=blue (keys size, colour, mass; SI units); "
        "may be repeated",
    },
    "out": {"required": True, "metavar": "DIR", "help": "run directory: results and logs"},
    "param": {"action": "append", "default": [], "metavar": "NAME=LO:HI"},
    "policy": {"metavar": "P", "help": "a policy file, expert, zero, random or module:Class"},
    "port": {"metavar": "PORT", "help": "serial port, or 'emulated' to start an arm"},
    "precision": {"default": "32-true", "metavar": "P", "help": "as in Lightning (%(default)s)"},
    "robot": {"default": "so101", "metavar": "R", "help": "robot or its TOML (%(default)s)"},
    "seconds": {"type": float, "metavar": "S"},
    "seed": {
        "type": int,
        "default": 0,
        "metavar": "S",
        "help": "everything random follows from it (%(default)s)",
    },
    "sees": {
        "choices": ("sensors", "truth"),
        "help": "what the policy observes (default: truth for the expert)",
    },
    "space": {"metavar": "FILE", "help": "what varies (default: every declared range)"},
    "speed": {
        "type": float,
        "default": 1.0,
        "metavar": "F",
        "help": "scales the gate's limits (%(default)s)",
    },
    "strategy": {
        "default": "auto",
        "metavar": "S",
        "help": "how several devices train, as in Lightning, or ddp_fp16, ddp_powersgd: smaller messages (%(default)s)",
    },
    "task": {
        "metavar": "T",
        "help": "reach, push, lift, place, stack or module:Class (default: the policy's own)",
    },
    "twin": {"metavar": "FILE", "help": "nominal parameters, as `identify` wrote them"},
    "view": {
        "nargs": "?",
        "const": "",
        "metavar": "FILE",
        "help": "show joints, cameras and the supervisor live in rerun, or write them to FILE.rrd; browser (or "
        "browser:PORT): as a page of this machine, with an emergency stop",
    },
    "workers": {"type": int, "metavar": "W", "help": "processes (one per core; 0: in this one)"},
    "yes": {"action": "store_true", "help": "do not ask before the first motion"},
}
"""What `ArgumentParser.add_argument` takes, by the option's name; those without help mean something else in each
command, which says what."""


def add(parser: "argparse._ActionsContainer", *names: str, **changed: str | Mapping[str, Any]) -> None:
    """Add shared options to a parser (or a group of one) in this order, the `changed` ones last.

    names: as declared in OPTIONS, with underscores. changed: where a command differs from the declaration: another
    help text, or whatever differs, for example `task={"required": True}`.
    """
    for name, other in [*((name, {}) for name in names), *changed.items()]:
        differences = {"help": other} if isinstance(other, str) else other
        parser.add_argument(f"--{name.replace('_', '-')}", **{**OPTIONS[name], **differences})


def follow_instruction(args: argparse.Namespace) -> None:
    """Put `--instruction` into the task's name, and say on standard error what was understood.

    Raises UserError for one that is not understood, and for a task that takes none.
    """
    if args.instruction is None:
        return
    import sys

    from sim2real.errors import UserError
    from sim2real.tasks.registry import load_task
    from sim2real.tasks.suite.spec import TELLS, SpecTask

    if args.task is None:
        raise UserError(
            "--instruction is about the things of a scene; name one with --task, as table/cube_in_bowl"
        )
    if not isinstance(load_task(args.task), SpecTask):
        raise UserError(
            f"the task '{args.task}' takes no instruction; those of a suite do, as table/cube_in_bowl "
            "(`sim2real tasks --suite table`)"
        )
    name = f"{args.task}{TELLS}{args.instruction}"
    print(f"understood: {load_task(name).description}", file=sys.stderr)
    args.task = name


def add_cameras(parser: argparse.ArgumentParser) -> None:
    """The flags that say which cameras an arm has, and where their pictures come from."""
    parser.add_argument(
        "--camera", action="append", default=[], metavar="NAME=SOURCE",
        help="a camera: index, device, file or stream; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--cameras", metavar="FILE", help="TOML, a table per camera: size, intrinsics, camera_to_base"
    )
