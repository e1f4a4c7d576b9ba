"""`python -m hardware.emulator`: an emulated arm as a child process; announces itself as one line of JSON."""

import argparse
import json
import sys
from dataclasses import asdict, fields
from pathlib import Path

from hardware.emulator.session import EmulatorOptions, EmulatorSession, leave_on_signals
from sim2real.errors import Sim2RealError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hardware.emulator")
    parser.add_argument("options", help="EmulatorOptions as JSON")
    parser.add_argument("--scratch", help="directory to remove at the end")
    chosen = parser.parse_args()
    leave_on_signals()
    raw = json.loads(chosen.options)
    raw["faults"] = tuple(raw.get("faults", ()))
    options = EmulatorOptions(
        **{field.name: raw[field.name] for field in fields(EmulatorOptions) if field.name in raw}
    )
    session = None
    try:
        session = EmulatorSession(options)
        announcement = json.dumps(asdict(session.announcement))
        session.run(lambda: print(announcement, flush=True), stdin_is_parent=True)
        return 0
    except Sim2RealError as error:
        print(json.dumps({"error": str(error), "exit_code": error.exit_code}), flush=True)
        return error.exit_code
    finally:
        if session is not None:
            session.close()
        if chosen.scratch:
            try:
                Path(chosen.scratch).rmdir()
            except OSError:
                pass


if __name__ == "__main__":
    sys.exit(main())
