"""`sim2real fleet enroll`: the certificate and key of one robot."""

import argparse

from pipelines.commands._fleet._options import add_store
from pipelines.commands._options import add

SUMMARY = "certificate and key of one robot"
HELP = (
    "Let a robot take part: makes the folder with which its computer proves who it is (certificate and key of the "
    "fleet's own authority, that authority's certificate, the key that signs policies). Carry it there by hand, and "
    "keep it secret. Enrolled again, a robot has another certificate and the former one is refused."
)
EXAMPLES = """  sim2real fleet enroll a1 --store fleet --site hall-2
  sim2real fleet enroll a1 --store fleet --out /media/stick/a1 --days 30"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from hardware.fleet.certificates import ROBOT_DAYS

    parser.add_argument("name", metavar="NAME", help="what the robot is called")
    add_store(parser)
    parser.add_argument(
        "--site", default="", metavar="TEXT", help="where it stands; rollouts look at each site"
    )
    parser.add_argument("--firmware", default="", metavar="TEXT", help="what its servos run, likewise")
    parser.add_argument("--camera", default="", metavar="TEXT", help="what kind of camera it has, likewise")
    parser.add_argument(
        "--days", type=float, default=ROBOT_DAYS, metavar="D", help="how long it is good (%(default)s)"
    )
    parser.add_argument(
        "--publisher", metavar="FILE", help="public key of who signs policies (default: the store's own)"
    )
    add(parser, "json", out={"required": False, "help": "the robot's folder (default: STORE/enrolled/NAME)"})


def run(args: argparse.Namespace) -> int:
    import json
    import math

    from pipelines.fleet.enrolling import enroll
    from pipelines.fleet.registry.names import check_name, whoami
    from pipelines.fleet.registry.registry import Registry
    from sim2real.errors import UserError

    if not (math.isfinite(args.days) and 0 < args.days <= 3650):
        raise UserError(f"--days must be more than 0 and at most 3650, got {args.days:g}")
    check_name(args.name, "a robot")  # before a store is made for it
    with Registry.open(args.store, args.database, args.objects, create=True) as registry:
        robot, folder = enroll(
            registry, args.name, by=whoami(), site=args.site, days=args.days, out=args.out,
            strata={"firmware": args.firmware, "camera": args.camera}, publisher=args.publisher,
        )  # fmt: skip
    if args.json:
        print(json.dumps({"name": robot.name, "site": robot.site, "folder": str(folder),
                          "fingerprint": robot.fingerprint, "days": args.days}))  # fmt: skip
    else:
        print(f"{robot.name} is enrolled (certificate {robot.fingerprint[:12]}); its folder is {folder}")
        print("there: sim2real fleet agent --identity FOLDER --hub tls/HOST:PORT --port /dev/ttyACM0")
    return 0
