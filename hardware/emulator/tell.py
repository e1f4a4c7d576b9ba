"""Tell a running emulator something: a new episode, or ask whether the task is done. Standard library only.

    python tell.py episode --link PATH
    python tell.py success --link PATH [--task T] [--goal x,y,z]
    python tell.py state   --link PATH
    python tell.py hand    --link PATH --path FILE
    python tell.py show    --link PATH --path FILE
    python tell.py fault   --link PATH --fault mute:id=3,for=0.2

TASK and GOAL in the environment stand in for the flags. Exit status 0: done, or yes; 1: no, or it could not be
asked; 2: a wrong request. This file runs by itself, so that scripts pay for nothing but the interpreter.
"""

import argparse
import base64
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence

QUESTIONS = ("episode", "success", "state", "hand", "show", "fault")
POSTED = ("episode", "hand", "show", "fault")


def sidecar(link: str) -> str:
    """The file beside the link that says where the emulator listens."""
    return f"{link}.json"


def tell(
    what: str,
    link: str,
    task: str | None = None,
    goal: str | None = None,
    path: str | None = None,
    fault: str | None = None,
) -> tuple[int, str]:
    """Send one request. Returns the exit status and what to print."""
    body = None
    if what == "fault":
        if not fault:
            return 2, "tell fault needs --fault NAME:key=value,…, e.g. mute:id=3,for=0.2"
        body = fault.encode()
    if what in ("hand", "show"):
        if not path:
            what_in_it = "where the hand takes the joints" if what == "hand" else "a sheet and its poses"
            return 2, f"tell {what} needs --path FILE: {what_in_it}, as JSON"
        try:
            with open(path, "rb") as file:
                body = file.read()
            if what == "show":
                body = _with_image(body, os.path.dirname(path))
        except OSError as error:
            return 2, f"cannot read {error.filename or path}: {error.strerror}"
        except ValueError as error:
            return 2, f"{path} must be a JSON object ({error})"
    try:
        with open(sidecar(link), encoding="utf-8") as file:
            control = json.load(file)["control_url"]
    except (OSError, ValueError, KeyError) as error:
        return 1, f"no emulator at {link} ({error}): start one with `sim2real emulate --link {link}`"
    query = {key: value for key, value in (("task", task), ("goal", goal)) if value}
    url = f"{control}/{what}" + (f"?{urllib.parse.urlencode(query)}" if query and what == "success" else "")
    request = urllib.request.Request(url, data=body, method="POST" if what in POSTED else "GET")
    # Never through a proxy: the emulator is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return 0, answer.read().decode()
    except urllib.error.HTTPError as error:
        return (1 if error.code in (409, 503) else 2), _plain(error.read().decode())
    except OSError as error:
        return 1, f"the emulator at {link} does not answer ({error}): is it still running?"


def _with_image(body: bytes, folder: str) -> bytes:
    """The sheet with its `image`, a file beside it, in base64."""
    sheet = json.loads(body)
    if not isinstance(sheet, dict):
        raise ValueError("it is none")
    if isinstance(sheet.get("image"), str):
        with open(os.path.join(folder, sheet["image"]), "rb") as file:
            sheet["image"] = base64.b64encode(file.read()).decode()
    return json.dumps(sheet).encode()


def _plain(text: str) -> str:
    """What went wrong, without the JSON around it."""
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="tell a running emulator something")
    parser.add_argument("what", choices=QUESTIONS)
    parser.add_argument("--link", required=True, help="the link the emulator was started with")
    parser.add_argument("--task", default=os.environ.get("TASK"))
    parser.add_argument("--goal", default=os.environ.get("GOAL"), help="x,y,z in m, base frame")
    parser.add_argument("--path", metavar="FILE", help="with hand: the path; with show: the sheet; JSON")
    parser.add_argument("--fault", metavar="NAME:key=value,…", help="with fault: what goes wrong, and when")
    chosen = parser.parse_args(arguments)
    status, text = tell(chosen.what, chosen.link, chosen.task, chosen.goal, chosen.path, chosen.fault)
    print(text.rstrip(), file=sys.stdout if status == 0 else sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
