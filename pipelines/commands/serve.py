"""`sim2real serve`: a policy as a server that arms elsewhere connect to."""

import argparse
import json
import sys

from pipelines.commands._options import add

SUMMARY = "serve a policy to arms elsewhere"
GROUP = "on an arm"
COMPILES = True
HELP = (
    "Serve a policy over TCP, so that an arm on another machine, or in another environment, can be driven by it "
    "(`deploy --policy tcp://HOST:PORT`). There is no encryption and no password: listen on this machine only "
    "(the default) and go through a tunnel, or on a network you trust."
)
EXAMPLES = """  sim2real serve --policy runs/reach/policy.onnx
  sim2real serve --policy expert --task reach --listen 127.0.0.1:6000
  sim2real serve --policy runs/lift/policy.onnx --listen 0.0.0.0:5555
  sim2real deploy --policy tcp://127.0.0.1:5555 --port /dev/ttyACM0 --out runs/remote   (at the arm)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, policy={"required": True})
    add(parser, "task", "robot")
    parser.add_argument(
        "--listen",
        default="127.0.0.1:5555",
        metavar="HOST:PORT",
        help="where to listen (%(default)s); port 0 takes a free one",
    )
    add(parser, json="announce the address as one line of JSON")


def run(args: argparse.Namespace) -> int:
    from ipaddress import ip_address

    from pipelines.deployment.serve import PolicyServer, Served

    served = Served.load(args.policy, args.task, args.robot)
    server = PolicyServer(served, args.listen)
    try:
        if not ip_address(server.address[0]).is_loopback:
            print(
                f"listening on {server.address[0]}: whoever reaches this port can use the policy",
                file=sys.stderr,
            )
        if args.json:
            about = {"url": server.url, "policy": args.policy, "task": served.task.name}
            print(json.dumps(about | {"robot": served.robot.name}), flush=True)
        else:
            print(
                f"'{args.policy}' for {served.robot.name} ({served.task.name}) at {server.url}; Ctrl-C ends it"
            )
            print(f"  sim2real deploy --policy {server.url} --port PORT --out runs/remote", flush=True)
        server.run()
    finally:
        server.close()
    return 0
