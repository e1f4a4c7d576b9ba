"""`sim2real calibrate-camera`: the lens of a camera, and where it stands, into a cameras file."""

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.commands._options import add

if TYPE_CHECKING:
    from hardware.commissioning.camera_pose import PoseFit
    from sim2real.camera import CameraModel
    from sim2real.robot import Robot

SUMMARY = "find the lens of a camera and where it stands; print what that takes"
GROUP = "setting up"
COMPILES = True
HELP = (
    "Find out what a cameras file must say of a camera. 'board' and 'card' write what is to be printed, at true scale. "
    "'lens' watches you move the board before the camera. 'pose' finds where the camera stands: the arm, which holds "
    "the card in its gripper, shows it to the camera in poses that it chooses itself, slowly and through the gate, or "
    "you give pixels of known places (--points). Without a step: lens, then pose. Nothing is written unless the "
    "result can be believed; other cameras and comments in the file stay."
)

EXAMPLES = """\
  sim2real calibrate-camera --list                                  which cameras there are
  sim2real calibrate-camera board --out board.pdf --paper a4        print it, glue it onto something flat
  sim2real calibrate-camera card --out card.pdf                     print it, the tab goes into the gripper
  sim2real calibrate-camera lens --source 0 --out front.lens.toml
  sim2real calibrate-camera pose --port /dev/ttyACM0 --calibration my_arm.json --source 0 \\
      --lens front.lens.toml --cameras cameras.toml --name front
  sim2real calibrate-camera pose --points clicked.csv --lens front.lens.toml --cameras cameras.toml
  sim2real calibrate-camera --port emulated --cameras emulated.toml     both steps, on the emulated arm
"""

STEPS = ("board", "card", "lens", "pose")
EMULATED = "emulated"
WAVED = 0.6
"""s for which an emulated board stays where it is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("step", nargs="?", choices=STEPS, help="one step only (default: lens, then pose)")
    parser.add_argument("--list", action="store_true", help="list the cameras at this machine")
    parser.add_argument("--name", default="front", metavar="N", help="the camera's name (%(default)s)")
    parser.add_argument(
        "--source", metavar="S", help="number, device, file or stream (default: as the cameras file says)"
    )
    parser.add_argument(
        "--size", default="640x480", metavar="WxH", help="picture size to ask a device for (%(default)s)"
    )
    parser.add_argument("--cameras", metavar="FILE", help="the cameras file to change or make")
    parser.add_argument(
        "--lens", metavar="FILE", help="a lens that was calibrated before, as 'lens' writes it"
    )
    add(
        parser,
        out={
            "required": False,
            "metavar": "PATH",
            "help": "board, card, lens: the file to write (.pdf or .png; .toml); otherwise the folder for views, logs "
            "and the picture to look at (default: runs/camera_NAME, numbered when it is taken)",
        },
    )
    parser.add_argument("--paper", default="a4", metavar="P", help="a4, a3 or letter (%(default)s)")
    parser.add_argument(
        "--square",
        type=float,
        metavar="MM",
        help="side of the board's squares (default: what fits on --paper)",
    )
    parser.add_argument(
        "--marker",
        type=float,
        default=50.0,
        metavar="MM",
        help="width of the card's black square (%(default)g)",
    )
    parser.add_argument("--views", type=int, default=20, metavar="N", help="views to take (%(default)s)")
    add(
        parser,
        seconds={"default": 30.0, "help": "lens: give up when no new view came for so long (%(default)g)"},
    )
    parser.add_argument(
        "--points", metavar="FILE",
        help="pose without the arm: CSV with u,v,x,y,z (px; m in the base frame), or u,v and all joints "
        "(rad) when the pixels are those of the tool's tip",
    )  # fmt: skip
    add(parser, port="serial port of the arm, or 'emulated'")
    add(
        parser,
        "robot",
        calibration="calibration of the arm (default: what its servos store)",
        speed={"default": 0.5},
        seed="of the poses compared (%(default)s)",
    )
    add(parser, "yes", "json")


def run(args: argparse.Namespace) -> int:
    if args.list:
        return _list(args)
    if args.step in ("board", "card"):
        return _print(args)
    _check(args)
    with ExitStack() as stack:
        emulated = _Emulated(args, stack) if args.port == EMULATED else None
        answer: dict[str, Any] = {"ok": True, "name": args.name}
        lens: CameraModel | None = None
        if args.step != "pose" and not (args.step is None and args.lens):
            lens = _lens(args, emulated, answer)
            if args.step == "lens":
                return _finish(args, answer)
        status = _pose(args, emulated, lens, answer)
        return _finish(args, answer) if status == 0 else status


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _finish(args: argparse.Namespace, answer: dict[str, Any]) -> int:
    if args.json:
        print(json.dumps(answer), flush=True)
    return 0


# What there is, and what is to be printed


def _list(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from hardware.cameras.sources import list_cameras

    found = list_cameras()
    if args.json:
        print(json.dumps([asdict(camera) for camera in found]))
        return 0
    for camera in found:
        print(f"{camera.stable}\n    {camera.label}, now {camera.device}")
    if not found:
        print("no camera at this machine gives pictures (streams from elsewhere are not listed)")
    return 0


def _print(args: argparse.Namespace) -> int:
    from hardware.commissioning.board import board_page, card_page, pdf, png
    from sim2real.errors import UserError

    out = Path(args.out or f"{args.step}.pdf")
    kinds = {".pdf": pdf, ".png": png}
    if out.suffix.lower() not in kinds:
        raise UserError(f"--out {out}: a page is written as .pdf or .png")
    if args.step == "board":
        board, page = board_page(args.paper, None if args.square is None else args.square / 1000)
        what = f"a board of {board.columns} x {board.rows} squares of {1000 * board.square:g} mm"
    else:
        card, page = card_page(args.paper, args.marker / 1000)
        what = f"a card with a marker of {1000 * card.size:g} mm"
    try:
        out.write_bytes(kinds[out.suffix.lower()](page))
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from None
    if args.json:
        print(json.dumps({"ok": True, "out": str(out)}))
        return 0
    print(f"{out}: {what}. Print it at 100 % (not 'fit to page') and check the 100 mm line with a ruler.")
    return 0


# The steps


def _check(args: argparse.Namespace) -> None:
    """Raise UserError for what can be found wrong before anything is opened."""
    from pipelines.runs import require_unused, unused
    from sim2real.errors import UserError

    for flag, value, least in (("--views", args.views, 6), ("--seconds", args.seconds, 1.0)):
        if not least <= value < 1e4:
            raise UserError(f"{flag} must be at least {least}, got {value}")
    if args.step == "lens":
        if args.out is None or Path(args.out).suffix != ".toml":
            raise UserError("where does the lens go? Give --out NAME.lens.toml")
        if args.source is None and args.cameras is None and args.port != EMULATED:
            raise UserError("which camera? Give its --source (--list shows the cameras at this machine)")
        folder = Path(args.out).parent
    else:
        if args.cameras is None:
            raise UserError("which file is to say where the camera stands? Give --cameras FILE")
        if args.points is None and args.port is None:
            raise UserError("the arm shows the card to the camera: give its --port (or --points FILE)")
        if args.points is not None and (args.port is not None or args.step is None):
            raise UserError(
                "--points takes the arm's place in the step 'pose': give that step, and no --port"
            )
        if args.points is None:
            args.out = args.out or unused(f"runs/camera_{args.name}")
            require_unused(args.out, ("result.json", "camera.json"))
        folder = Path(args.cameras).parent
    if not folder.is_dir():
        raise UserError(f"the folder {folder} does not exist")


def _known(args: argparse.Namespace) -> "CameraModel | None":
    """The camera as the cameras file has it, if it does."""
    from sim2real.camera import load_cameras

    if args.cameras is None or not Path(args.cameras).exists() or not Path(args.cameras).read_text().strip():
        return None
    return load_cameras(args.cameras).get(args.name)


def _source(args: argparse.Namespace, emulated: "_Emulated | None") -> str:
    from hardware.cameras.sources import resolve
    from sim2real.errors import UserError

    if emulated is not None:
        return emulated.source
    known = _known(args)
    source = args.source or (known.source if known is not None else None)
    if source is None:
        raise UserError(
            f"which camera is '{args.name}'? Give its --source (--list shows the cameras at this machine)"
        )
    stable = resolve(source).identity
    if stable.startswith("/dev/") and stable != source:
        _say(f"{source} is {stable}: this name stays with the camera")
        return stable
    return str(source)


def _lens(args: argparse.Namespace, emulated: "_Emulated | None", answer: dict[str, Any]) -> "CameraModel":
    from hardware.commissioning.board import Board, board_page
    from pipelines.deployment.camera_calibration import lens_table, take_lens, write_lens
    from sim2real.camera import CameraModel
    from sim2real.errors import UserError

    try:
        width, height = (int(one) for one in args.size.lower().split("x"))
    except ValueError:
        raise UserError(f"--size is WIDTHxHEIGHT in pixels, got '{args.size}'") from None
    board = board_page(args.paper)[0] if args.square is None else Board(square=args.square / 1000)
    if emulated is not None:
        emulated.wave(board)
    fit = take_lens(_source(args, emulated), (width, height), board, args.views, args.seconds, _say)
    if emulated is not None:
        emulated.put_away("board")
    answer["lens"] = lens_table(fit) | {"residual_px": fit.rms, "coverage": fit.coverage}
    if args.step == "lens":
        write_lens(fit, Path(args.out))
        answer["out"] = args.out
    if not args.json:
        print(
            f"lens: fx {fit.fx:.1f} ± {fit.deviation[0]:.1f}, fy {fit.fy:.1f} ± {fit.deviation[1]:.1f}, centre "
            f"{fit.cx:.1f}, {fit.cy:.1f} px; {fit.rms:.2f} px rms over {len(fit.view_rms)} views"
            + (f"; written to {args.out}" if args.step == "lens" else ""),
            flush=True,
        )
    import numpy as np

    return CameraModel.from_table({**lens_table(fit), "camera_to_base": np.eye(4).tolist()}, args.name)


def _pose(
    args: argparse.Namespace, emulated: "_Emulated | None", lens: "CameraModel | None", answer: dict[str, Any]
) -> int:
    from dataclasses import replace

    from hardware.commissioning.board import Card
    from pipelines.deployment.camera_calibration import keep, load_lens, pose_from_file, pose_of, show_card
    from pipelines.deployment.request import Options
    from pipelines.deployment.result import say
    from sim2real.errors import UserError
    from sim2real.robot import Robot

    robot, card, known = Robot.load(args.robot), Card(args.marker / 1000), _known(args)
    if args.lens is not None:
        lens = load_lens(args.lens, args.name)
    elif lens is None:
        lens = known
    if lens is None:
        raise UserError(
            f"the lens of '{args.name}' is not known: calibrate it first (`sim2real calibrate-camera lens`), then give "
            "--lens FILE"
        )
    if args.points is not None:
        fit = pose_from_file(robot, lens, args.points)
        source = args.source or (known.source if known is not None else None)
        return _put(args, replace(fit.camera, source=source, name=args.name), fit, robot, answer)
    source = _source(args, emulated)
    guess = known is not None
    camera = replace(
        lens, source=source, name=args.name,
        camera_to_base=known.camera_to_base if known is not None else lens.camera_to_base,
    )  # fmt: skip
    _check_sources(args, source)
    port, calibration = args.port, args.calibration
    if emulated is not None:
        port, calibration = emulated.port, calibration or emulated.calibration
        emulated.hold(card)
    else:
        from hardware.servos.ports import require_port

        require_port(port)
        say(
            "The arm is limp: put the card's tab between the jaws, printed side free, and close them by hand; the "
            "gripper holds what it is closed on."
        )
    out = Path(args.out)
    options = Options(
        command="calibrate-camera", port=port, out=str(out), robot=args.robot, calibration=calibration,
        seed=args.seed, speed=args.speed, yes=args.yes, task="show the card",
    )  # fmt: skip
    result, status, planner = show_card(options, camera, card, args.views, guess)
    answer["run"] = result
    if status != 0 or planner is None:
        why = "; ".join(result["faults"]) or result["stopped"] or "it did not end well"
        say(f"sim2real calibrate-camera: {why}; {args.cameras} is as it was")
        if args.json:
            print(json.dumps(answer | {"ok": False}), flush=True)
        return status or 1
    fit = pose_of(robot, camera, planner, card)
    picture = keep(out, robot, fit, planner)
    answer["overlay"] = str(picture)
    done = _put(args, replace(fit.camera, source=source, name=args.name), fit, robot, answer)
    if not args.json:
        print(f"look at {picture}: the pink outline must lie on the arm", flush=True)
    return done


def _check_sources(args: argparse.Namespace, source: str) -> None:
    from hardware.cameras.sources import check_distinct
    from sim2real.camera import load_cameras

    if Path(args.cameras).exists() and Path(args.cameras).read_text().strip():
        others = {name: camera.source for name, camera in load_cameras(args.cameras).items()}
        check_distinct(others | {args.name: source})


def _put(
    args: argparse.Namespace, camera: "CameraModel", fit: "PoseFit", robot: "Robot", answer: dict[str, Any]
) -> int:
    """Into the cameras file, and tell."""
    import math
    from dataclasses import replace

    import numpy as np

    from pipelines.deployment.camera_calibration import described
    from sim2real.camera_file import write_camera

    camera = replace(
        camera,
        position_deviation=round(fit.position_deviation, 6),
        rotation_deviation=round(math.radians(fit.rotation_deviation), 6),
    )
    kept = write_camera(args.cameras, camera)
    answer |= {"cameras": args.cameras, "camera": camera.table(), "pose": described(fit)}
    if args.json:
        return 0
    place = ", ".join(f"{value:.4f}" for value in camera.position)
    print(
        f"camera '{camera.name}' stands at {place} m, sure to {1000 * fit.position_deviation:.1f} mm and "
        f"{fit.rotation_deviation:.2f}° (one standard deviation)\n"
        f"{len(fit.view_pixels)} views, {fit.pixels:.2f} px or {1000 * fit.metres:.1f} mm rms between seen and "
        "predicted"
        + (f"; left out: views {', '.join(str(i + 1) for i in fit.dropped)}" if fit.dropped else "")
    )
    if not np.isnan(fit.size):
        print(f"the marker is {1000 * fit.size:.1f} mm wide (--marker {args.marker:g})")
    off = [
        f"{name} {np.degrees(zero):+.1f}°"
        for name, zero in zip(robot.joint_names, fit.zeros)
        if abs(np.degrees(zero)) > 0.5
    ]
    if off:
        print(f"the arm's zeros seem to be off: {', '.join(off)} (to be added to what the joints read)")
    print(f"written to {args.cameras}" + (f"; as it was: {kept}" if kept is not None else ""), flush=True)
    return 0


# The emulated arm


class _Emulated:
    """An emulated arm with its camera, and the person who shows it things."""

    def __init__(self, args: argparse.Namespace, stack: ExitStack) -> None:
        from hardware.emulator.launch import start_emulator
        from sim2real.errors import UserError
        from sim2real.robot import Robot

        self._robot, self._name = Robot.load(args.robot), args.name
        if args.name not in self._robot.cameras:
            raise UserError(
                f"the emulated {self._robot.name} has the cameras {', '.join(self._robot.cameras) or '(none)'}, "
                f"not '{args.name}'"
            )
        _say("starting an emulated arm")
        handle = stack.enter_context(start_emulator(args.robot, seed=args.seed))
        self.port, self.calibration, self._url = handle.port, handle.calibration, handle.control_url
        self.source = handle.sources[args.name]

    def wave(self, board: Any) -> None:
        """Move the board before the camera."""
        from hardware.emulator.waving import waved

        poses = waved(self._robot.cameras[self._name], board.size, 60)
        self._show("board", board.image(), board.size[0], "camera", poses, WAVED)

    def hold(self, card: Any) -> None:
        """Put the card into the gripper, not quite straight."""
        import numpy as np
        from scipy.spatial.transform import Rotation

        from hardware.commissioning.camera_pose import nominal_hold

        pose = nominal_hold(card)
        pose[:3, :3] = pose[:3, :3] @ Rotation.from_rotvec(np.radians([5.0, -4.0, 3.0])).as_matrix()
        pose[:3, 3] += (0.003, -0.004, 0.002)
        self._show("card", card.image(), 1.4 * card.size, "tool", [pose], None)

    def put_away(self, name: str) -> None:
        self._post({"name": name, "image": None})

    def _show(
        self, name: str, image: Any, width: float, held_by: str, poses: list[Any], every: float | None
    ) -> None:
        import base64

        import cv2

        picture = base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode()
        sheet = {"name": name, "image": picture, "width": width, "held_by": held_by}
        sheet["poses"] = [pose.tolist() for pose in poses]
        self._post(sheet if every is None else {**sheet, "every": every})

    def _post(self, sheet: dict[str, Any]) -> None:
        import urllib.request

        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(f"{self._url}/show", json.dumps(sheet).encode(), method="POST")
        with opener.open(request, timeout=10) as answer:
            answer.read()
