"""What an emulator leaves on disk while it runs, its link and the files beside it: nothing else is ever touched.

A file is made only where there is none, and removed only while it is the one that was made: what another program has
put in its place, or written into it, is kept. `LINK.json` lists the others and is locked as long as the emulator lives;
a lock does not survive its process, so that what one has left that was killed outright is known for what it is.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from hardware.emulator.tell import sidecar
from sim2real.errors import UserError

RENAMED = "-renamed"
"""What the link is called after a device has come back under another name."""

_TERMINALS = "/dev/pts/"


class SideFiles:
    """The files beside a link. Raises UserError, and has changed nothing, where one of their names is taken."""

    def __init__(self, link: str, contents: Mapping[str, bytes], announcement: Mapping[str, Any]) -> None:
        """`contents` by path; `announcement` goes into `LINK.json`, which is made first."""
        self._lock: BinaryIO | None = None
        self._made: dict[Path, tuple[int, int]] = {}
        self._contents = {Path(name): data for name, data in contents.items()}
        listed = {Path(name).name: sha256(data).hexdigest() for name, data in contents.items()}
        head = Path(sidecar(link))
        self._contents[head] = (json.dumps({**announcement, "made": listed}, indent=2) + "\n").encode()
        try:
            self._make(head)
            self._lock = open(head, "rb")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            for path in self._contents:
                if path != head:
                    self._make(path)
        except BaseException:
            self.remove()
            raise

    def _make(self, path: Path) -> None:
        try:
            with open(path, "xb") as file:  # follows no link, takes no file that is there
                found = os.fstat(file.fileno())
                self._made[path] = found.st_dev, found.st_ino
                file.write(self._contents[path])
        except FileExistsError:
            raise UserError(_taken(path)) from None
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}; choose another --link") from None

    def remove(self) -> None:
        """Remove what is still as it was made; the list goes last."""
        for path, made in sorted(self._made.items(), key=lambda item: item[0].name.count(".")):
            try:
                found = os.lstat(path)
                # A file that was cut short by a full disk is ours as well.
                if (found.st_dev, found.st_ino) == made and self._contents[path].startswith(
                    path.read_bytes()
                ):
                    path.unlink()
            except OSError:
                pass
        self._made.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def make_link(link: Path, target: str) -> None:
    """Point `link` at `target`. Raises UserError where anything is in the way."""
    try:
        link.symlink_to(target)
    except FileExistsError:
        raise UserError(_taken(link)) from None
    except OSError as error:
        raise UserError(f"cannot create the link {link}: {error.strerror}; choose another --link") from None


def clear_leftovers(link: str, suffixes: tuple[str, ...]) -> None:
    """Make room for an emulator at `link`: remove what one has left there that was killed.

    Raises UserError where something else is in the way: an emulator that runs, or a file of the user's.
    """
    head = Path(sidecar(link))
    listed = _abandoned(head)
    if listed is not None:
        for path in (Path(link), Path(link + RENAMED)):
            if path.is_symlink() and os.readlink(path).startswith(_TERMINALS):
                path.unlink()
        for name, digest in listed.items():
            path = head.with_name(name)
            if _holds(path, digest):
                path.unlink()
    for path in (Path(link), *(Path(link + suffix) for suffix in suffixes)):
        if os.path.lexists(path):
            raise UserError(_taken(path))
    if listed is not None:
        head.unlink(missing_ok=True)
    elif os.path.lexists(head):
        raise UserError(_taken(head))
    if not os.access(head.parent, os.W_OK):
        raise UserError(
            f"cannot create the link {link}: its directory is missing or not writable; choose another --link"
        )


def _abandoned(head: Path) -> dict[str, str] | None:
    """The files (with their digests) that the emulator behind this `LINK.json` made, if that is what it is and nobody
    holds it any more."""
    if head.is_symlink():
        return None
    try:
        with open(head, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            table = json.load(file)
        if "control_url" in table and isinstance(table["made"], dict):
            names = {str(name): str(digest) for name, digest in table["made"].items()}
            return {name: digest for name, digest in names.items() if Path(name).name == name}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _holds(path: Path, digest: str) -> bool:
    try:
        return not path.is_symlink() and sha256(path.read_bytes()).hexdigest() == digest
    except OSError:
        return False


def _taken(path: Path) -> str:
    """Why nothing is made at `path`."""
    what = "exists"
    try:
        if path.is_symlink():
            what = f"exists and is a link to {os.readlink(path)}"
            with open(sidecar(str(path)), "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return f"{path} is the link of an emulator that runs; it is not overwritten: choose another --link"
    except OSError:
        pass
    return f"{path} {what}; it is not overwritten: move it away, or choose another --link"
