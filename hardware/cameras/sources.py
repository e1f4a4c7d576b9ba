"""Which cameras there are on this machine, and which one a source names.

Numbers (/dev/video0, or just 0) go to whichever camera is found first after a start; the names under /dev/v4l/by-id
stay with a camera, those under by-path with a plug. Two cameras of one make without serial numbers share a name under
by-id, which then leads to one of them only.
"""

import fcntl
import os
import re
import stat
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sim2real.errors import UserError

DEV = Path("/dev")
_QUERYCAP = 0x80685600
"""VIDIOC_QUERYCAP of linux/videodev2.h: _IOR('V', 0, struct v4l2_capability), 104 bytes."""
_CAPTURE = 0x00000001 | 0x00001000
"""V4L2_CAP_VIDEO_CAPTURE and its multi-planar kind; without them a node carries metadata only."""
_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtmp": 1935}


@dataclass(frozen=True)
class FoundCamera:
    """A device that gives pictures: `device` as it is now, `stable` the name to use for it, `label` what it says."""

    device: str
    stable: str
    label: str
    readable: bool = True


@dataclass(frozen=True)
class Source:
    """What a camera's source is. `now` names the stream it leads to at this moment, `identity` the camera in any
    session: without what changes from start to start (numbers, ports on this machine) and without passwords."""

    now: str
    identity: str


def capability(device: Path) -> tuple[str, bool] | None:
    """What a device calls itself and whether it gives pictures; None where it cannot be asked."""
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        answer = fcntl.ioctl(descriptor, _QUERYCAP, bytes(104))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    _, card, _, _, everything, device_only = struct.unpack("16s32s32sIII12x", answer)
    # What the node itself can, where the driver says so.
    able = device_only if everything & 0x80000000 else everything
    return card.split(b"\0")[0].decode("utf-8", "replace"), bool(able & _CAPTURE)


def list_cameras(
    dev: Path = DEV, ask: Callable[[Path], tuple[str, bool] | None] = capability
) -> list[FoundCamera]:
    """Cameras at this machine, by number. One that cannot be opened is listed, too: it may be a matter of rights."""
    found = []
    for path in sorted(dev.glob("video*"), key=lambda p: int(re.sub(r"\D", "", p.name) or 0)):
        try:
            if not stat.S_ISCHR(path.stat().st_mode) and ask is capability:
                continue
        except OSError:
            continue
        answer = ask(path)
        if answer is not None and not answer[1]:
            continue
        label = answer[0] if answer is not None else "cannot be opened: is the user in the group 'video'?"
        found.append(FoundCamera(str(path), stable_name(path, dev), label, answer is not None))
    return found


def stable_name(device: Path, dev: Path = DEV) -> str:
    """The name by which a device is found again: by-id, else by-path, else as it is."""
    target = os.path.realpath(device)
    for folder in ("by-id", "by-path"):
        for link in sorted((dev / "v4l" / folder).glob("*")):
            if os.path.realpath(link) == target:
                return str(link)
    return str(device)


def resolve(source: str, dev: Path = DEV) -> Source:
    """What `source` (a number, device, file or stream) leads to."""
    if source.isdecimal() or source.startswith(f"{dev}/"):
        device = dev / f"video{int(source)}" if source.isdecimal() else Path(source)
        return Source(os.path.realpath(device), stable_name(device, dev))
    url = urlsplit(source)
    if url.scheme and url.netloc:
        host = (url.hostname or "").lower()
        local = host in ("localhost", "127.0.0.1", "::1")
        try:
            port = url.port or _PORTS.get(url.scheme.lower(), 0)
        except ValueError:
            port = 0
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        scheme = url.scheme.lower()
        host = "127.0.0.1" if local else host
        return Source(
            f"{scheme}://{host}:{port}{path}",
            f"{scheme}://{host}{path}" if local else f"{scheme}://{host}:{port}{path}",
        )
    real = os.path.realpath(source)
    return Source(real, real)


def check_distinct(sources: Mapping[str, str | None], dev: Path = DEV) -> dict[str, str]:
    """The identity of each named camera. Raises UserError when two names lead to one source."""
    seen: dict[str, str] = {}
    identities = {}
    for name, source in sources.items():
        if source is None:
            continue
        resolved = resolve(source, dev)
        if resolved.now in seen:
            first = seen[resolved.now]
            raise UserError(
                f"the cameras '{first}' ({sources[first]}) and '{name}' ({source}) are one and the same: both lead to "
                f"{resolved.now}; give each its own --camera name=SOURCE (`sim2real calibrate-camera --list` shows "
                "which there are)"
            )
        seen[resolved.now] = name
        identities[name] = resolved.identity
    return identities


def unstable(name: str, source: str, dev: Path = DEV) -> str:
    """A hint where a source may be another camera after the next start, else ""."""
    if not (source.isdecimal() or re.fullmatch(rf"{re.escape(str(dev))}/video\d+", source)):
        return ""
    better = resolve(source, dev).identity
    if better == source or better == str(dev / f"video{source}"):
        return ""
    return f"camera '{name}': {source} may be another camera after the next start; better {better}"
