"""`sim2real transfer`: policies on arms that are not the simulation."""

import argparse

from pipelines.commands._options import add

SUMMARY = "measure what policies are worth on arms that are not the simulation"
GROUP = "in simulation"
COMPILES = True
HELP = (
    "Measure policies on realities: emulated arms in two physics engines (Bullet and MuJoCo), with parameters and "
    "cameras at the edge of the training ranges and outside, driven through their servos' bytes and seen through their "
    "camera's pictures. Every method meets the same episodes. Methods that are not given as files are trained, once, "
    "into DIR/policies: none (without randomization), narrow, default (zero-shot), forces (random pushes alone), "
    "automatic (ranges found by `ranges`), identified (in the space of a twin of the reality), finetuned (on episodes "
    "recorded there), oracle (with its true parameters). The same command goes on where it was stopped; it may ask for "
    "more episodes, realities and methods. Needs MuJoCo for half of the realities: pip install "
    "'sim2real-transfer[crosssim]'."
)
EXAMPLES = """  sim2real transfer --task lift --policy default=runs/lift/policy.onnx --episodes 50 --out runs/t
  sim2real transfer --task reach --policy default=expert --realities slow_wire,mujoco_plain \\
      --episodes 10 --out runs/cheap
  sim2real transfer --task lift --methods all --episodes 50 --out runs/transfer --json
  sim2real transfer --list"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, task={"help": "reach, push, lift or module:Class"}, out={"required": False})
    add(parser, "object")
    parser.add_argument(
        "--realities",
        default="all",
        metavar="NAME,…",
        help="names, .toml files of your own, or all (%(default)s)",
    )
    parser.add_argument("--methods", default="default", metavar="NAME,…", help="names, or all (%(default)s)")
    parser.add_argument(
        "--episodes", type=int, default=50, metavar="N", help="of each method on each reality (%(default)s)"
    )
    parser.add_argument(
        "--policy",
        action="append",
        default=[],
        metavar="METHOD=P",
        help="a method's policy file, or expert, untrained",
    )
    parser.add_argument(
        "--recorded",
        type=int,
        default=20,
        metavar="N",
        help="episodes recorded for identified and finetuned (%(default)s)",
    )
    parser.add_argument(
        "--max-minutes", type=float, metavar="M", help="fit each training in simulation into this"
    )
    parser.add_argument(
        "--clock",
        choices=("stepped", "real"),
        default="stepped",
        help="simulated time, as fast as it goes, or real time with a deployment's processes, serial port and HTTP "
        "camera (%(default)s)",
    )
    add(parser, "robot", "seed", "workers", "json")
    parser.add_argument(
        "--list", action="store_true", help="say which realities there are, and what is in them"
    )


def run(args: argparse.Namespace) -> int:
    import json

    from sim2real.errors import UserError

    if args.list:
        return _listed(args.json)
    for name in ("task", "out"):
        if getattr(args, name) is None:
            raise UserError(f"--{name} is missing; `sim2real transfer --help` has examples")
    from pipelines.api.transfer import transfer

    found = transfer(
        args.task,
        args.robot,
        out=args.out,
        objects=args.object,
        realities=args.realities,
        methods=args.methods,
        episodes=args.episodes,
        seed=args.seed,
        policies=dict(_given(text) for text in args.policy),
        max_minutes=args.max_minutes,
        recorded=args.recorded,
        clock=args.clock,
        workers=args.workers,
    )
    print(json.dumps(found.result) if args.json else found)
    return 0


def _given(text: str) -> tuple[str, str]:
    from sim2real.errors import UserError

    method, equals, policy = text.partition("=")
    if not equals or not method or not policy:
        raise UserError(f"--policy takes METHOD=FILE (or METHOD=expert), got {text!r}")
    return method, policy


def _listed(as_json: bool) -> int:
    import json

    from pipelines.transfers.reality import load_reality, reality_names

    found = [load_reality(name) for name in reality_names()]
    if as_json:
        print(json.dumps([{"name": r.name, "engine": r.engine, "description": r.description} for r in found]))
        return 0
    width = max(len(reality.name) for reality in found)
    for reality in found:
        print(f"{reality.name:{width}}  {reality.engine:6}  {reality.description}")
    return 0
