"""Changing one camera in a file that belongs to somebody."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from sim2real.camera import CameraModel, load_cameras, save_cameras
from sim2real.camera_file import with_camera, write_camera
from sim2real.errors import UserError

FRONT = replace(CameraModel.looking_at((0.5, 0.3, 0.4), (0.2, 0.0, 0.0), name="front"), source="http://cam/1")
MINE = """# my cameras
[side]  # the old webcam
source = "/dev/v4l/by-id/x[0]#1"
width = 640
height = 480
fx = 600.0
fy = 600.0
cx = 320.0
cy = 240.0
camera_to_base = [
    [1, 0, 0, 0.1],  # measured
    [0, 1, 0, 0.2],
    [0, 0, 1, 0.3], [0, 0, 0, 1]]

[front]
# by the tape measure
width = 640   # px
height = 480
fx = 1.0
fy = 1.0
cx = 320.0
cy = 240.0
camera_to_base = [
    [1, 0, 0, 0.1],
    [0, 1, 0, 0.2],
    [0, 0, 1, 0.3],
    [0, 0, 0, 1],
]
# the end

[wrist]
width = 320
height = 240
fx = 300.0
fy = 300.0
cx = 160.0
cy = 120.0
camera_to_base = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
"""


def test_one_camera_changes_and_everything_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "cameras.toml"
    path.write_text(MINE)
    kept = write_camera(path, FRONT)
    assert kept == tmp_path / "cameras.toml.bak" and kept.read_text() == MINE
    text = path.read_text()
    found = tomllib.loads(text)
    assert found["front"] == FRONT.table()
    for name in ("side", "wrist"):
        assert found[name] == tomllib.loads(MINE)[name]
    for comment in (
        "# my cameras",
        "# the old webcam",
        "# measured",
        "# by the tape measure",
        "# px",
        "# the end",
    ):
        assert comment in text
    assert text.startswith(MINE[: MINE.index("[front]")]) and text.endswith(MINE[MINE.index("[wrist]") :])
    assert write_camera(path, FRONT) is None and path.read_text() == text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cameras.toml", "cameras.toml.bak"]


@pytest.mark.parametrize(
    "before", ["", "# nothing yet\n", MINE.replace("[front]", "[other]"), MINE.rstrip("\n")]
)
def test_a_new_camera_is_added(before: str) -> None:
    camera = replace(FRONT, name="above it")
    after = with_camera(before, camera)
    assert after.startswith(before)
    assert tomllib.loads(after) == tomllib.loads(before) | {"above it": camera.table()}


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("front = {width = 1}\n", "cannot be changed in place"),
        ("front.width = 640\n", "cannot be changed in place"),
        ("[front\n", "cannot read the cameras file"),
    ],
)
def test_what_cannot_be_changed_is_refused(before: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(before)
    with pytest.raises(UserError, match=message):
        write_camera(tmp_path / "c.toml", FRONT)
    assert (tmp_path / "c.toml").read_text() == before


def test_files_of_our_own_are_changed_too(tmp_path: Path) -> None:
    save_cameras({"front": replace(FRONT, fx=1.0), "side": FRONT}, tmp_path / "c.toml")
    write_camera(tmp_path / "c.toml", FRONT)
    assert load_cameras(tmp_path / "c.toml")["front"].fx == FRONT.fx
