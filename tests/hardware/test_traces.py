"""The files beside an emulator's link: what is somebody's is neither overwritten nor removed."""

import json
import os
import pty
from pathlib import Path

import pytest

from hardware.emulator.tell import sidecar
from hardware.emulator.traces import RENAMED, SideFiles, clear_leftovers, make_link
from sim2real.errors import UserError

SUFFIXES = (".calibration.json", ".twin.toml")
ANNOUNCED = {"control_url": "http://127.0.0.1:1", "pid": 1}


def _files(link: Path) -> SideFiles:
    return SideFiles(str(link), {f"{link}{suffix}": suffix.encode() for suffix in SUFFIXES}, ANNOUNCED)


def _kill_one(link: Path) -> None:
    """An emulator that has no time to clean up."""
    child = os.fork()
    if child == 0:
        _files(link)
        os._exit(0)
    os.waitpid(child, 0)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_they_come_and_go(tmp_path: Path) -> None:
    link = tmp_path / "arm"
    clear_leftovers(str(link), SUFFIXES)
    files = _files(link)
    assert _names(tmp_path) == ["arm.calibration.json", "arm.json", "arm.twin.toml"]
    assert json.loads((tmp_path / "arm.json").read_text())["control_url"] == ANNOUNCED["control_url"]
    files.remove()
    assert _names(tmp_path) == []


@pytest.mark.parametrize("suffix", ["", ".json", *SUFFIXES])
@pytest.mark.parametrize("kind", ["file", "empty", "link", "dangling", "folder"])
def test_what_is_in_the_way_stays(tmp_path: Path, suffix: str, kind: str) -> None:
    link, other = tmp_path / "arm", tmp_path / "other"
    path = Path(f"{link}{suffix}")
    other.write_text("precious")
    if kind == "folder":
        path.mkdir()
    elif kind in ("link", "dangling"):
        path.symlink_to(other if kind == "link" else tmp_path / "gone")
    else:
        path.write_text("precious" if kind == "file" else "")
    before = _names(tmp_path)
    with pytest.raises(UserError, match=f"{path.name} exists.*it is not overwritten: move it away"):
        clear_leftovers(str(link), SUFFIXES)
    if suffix:
        # It may also have come between the check and the writing.
        with pytest.raises(UserError, match=f"{path.name} exists.*is not overwritten"):
            _files(link)
    else:
        with pytest.raises(UserError, match="is not overwritten"):
            make_link(link, "/dev/null")
    assert _names(tmp_path) == before and other.read_text() == "precious"
    assert kind != "file" or path.read_text() == "precious"


def test_what_somebody_has_changed_stays(tmp_path: Path) -> None:
    link = tmp_path / "arm"
    files = _files(link)
    (tmp_path / "arm.calibration.json").write_text("mine now")
    # Another file, though it says what the first one said.
    (tmp_path / "copy").write_text(".twin.toml")
    (tmp_path / "copy").replace(tmp_path / "arm.twin.toml")
    files.remove()
    assert _names(tmp_path) == ["arm.calibration.json", "arm.twin.toml"]


def test_leftovers_of_one_that_was_killed_make_room(tmp_path: Path) -> None:
    link = tmp_path / "arm"
    _kill_one(link)
    master, slave = pty.openpty()
    link.symlink_to(os.ttyname(slave))
    Path(f"{link}{RENAMED}").symlink_to("/dev/pts/999999")
    clear_leftovers(str(link), SUFFIXES)
    assert _names(tmp_path) == []
    os.close(master)
    os.close(slave)


def test_what_one_that_runs_has_made_stays(tmp_path: Path) -> None:
    link = tmp_path / "arm"
    files = _files(link)
    make_link(link, "/dev/pts/999999")
    with pytest.raises(UserError, match="link of an emulator that runs; it is not overwritten"):
        clear_leftovers(str(link), SUFFIXES)
    assert len(_names(tmp_path)) == 4
    files.remove()


def test_leftovers_that_were_changed_are_kept(tmp_path: Path) -> None:
    link = tmp_path / "arm"
    _kill_one(link)
    (tmp_path / "arm.twin.toml").write_text("measured for hours")
    with pytest.raises(UserError, match="arm.twin.toml exists; it is not overwritten"):
        clear_leftovers(str(link), SUFFIXES)
    assert (tmp_path / "arm.twin.toml").read_text() == "measured for hours"
    (tmp_path / "arm.twin.toml").rename(tmp_path / "kept.toml")
    clear_leftovers(str(link), SUFFIXES)
    assert _names(tmp_path) == ["kept.toml"]


def test_a_list_that_names_other_places_reaches_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "precious").write_text("")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    link = tmp_path / "deep" / "arm"
    Path(sidecar(str(link))).write_text(json.dumps(ANNOUNCED | {"made": {"../precious": empty}}))
    clear_leftovers(str(link), SUFFIXES)
    assert _names(tmp_path) == ["deep", "precious"]
