"""Which camera a source names: numbers, devices, links to them, streams, files."""

from pathlib import Path

import pytest

from hardware.cameras.sources import capability, check_distinct, list_cameras, resolve, stable_name, unstable
from sim2real.errors import UserError

CARDS = {"video0": ("C920", True), "video1": ("C920", False), "video2": ("Arducam", True), "video10": None}


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    """A /dev with two cameras, the metadata node of the first, and one that cannot be opened."""
    dev = tmp_path / "dev"
    for folder in ("by-id", "by-path"):
        (dev / "v4l" / folder).mkdir(parents=True)
    for name in CARDS:
        (dev / name).touch()
    (dev / "v4l/by-id/usb-046d_C920_5A3B-video-index0").symlink_to("../../video0")
    (dev / "v4l/by-id/usb-046d_C920_5A3B-video-index1").symlink_to("../../video1")
    for number in (0, 2):
        (dev / f"v4l/by-path/pci-0000:00:14.0-usb-0:{number}:1.0-video-index0").symlink_to(
            f"../../video{number}"
        )
    return dev


def test_what_gives_pictures_is_listed_by_its_stable_name(dev: Path) -> None:
    found = list_cameras(dev, lambda path: CARDS[path.name])
    assert [(one.device, one.label, one.readable) for one in found][:2] == [
        (str(dev / "video0"), "C920", True), (str(dev / "video2"), "Arducam", True),
    ]  # fmt: skip
    assert found[0].stable.endswith("by-id/usb-046d_C920_5A3B-video-index0")
    assert found[1].stable.endswith("by-path/pci-0000:00:14.0-usb-0:2:1.0-video-index0")
    assert found[2].device.endswith("video10") and "group 'video'" in found[2].label and not found[2].readable


def test_a_file_is_no_camera(dev: Path) -> None:
    assert list_cameras(dev) == [] and capability(dev / "video0") is None


def test_two_names_of_one_camera_are_refused(dev: Path) -> None:
    by_id, by_path = (next((dev / "v4l" / folder).glob("*index0")) for folder in ("by-id", "by-path"))
    for first, second in (
        ("0", str(dev / "video0")),
        ("0", str(by_id)),
        (str(by_id), str(by_path)),
        ("0", "00"),
    ):
        with pytest.raises(UserError, match="'front' .* and 'side' .* are one and the same: both lead to"):
            check_distinct({"front": first, "side": second}, dev)
    found = check_distinct({"front": "0", "side": "2", "none": None}, dev)
    assert found == {"front": str(by_id), "side": stable_name(dev / "video2", dev)}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("http://cam/front.mjpg", "HTTP://CAM:80/front.mjpg"),
        ("http://user:secret@cam/front.mjpg", "http://cam/front.mjpg"),
        ("http://localhost:81/a", "http://127.0.0.1:81/a"),
    ],
)
def test_one_stream_written_differently_is_one(first: str, second: str) -> None:
    with pytest.raises(UserError, match="one and the same"):
        check_distinct({"a": first, "b": second})


def test_other_streams_are_others_and_no_password_is_kept() -> None:
    found = check_distinct(
        {"a": "http://u:pw@cam/1", "b": "http://cam/2", "c": "http://cam:81/1", "d": "video.mp4"}
    )
    assert found["a"] == "http://cam:80/1" and "pw" not in str(found)
    # The emulator's port is another one each time.
    assert (
        resolve("http://127.0.0.1:4001/front.mjpg").identity
        == resolve("http://127.0.0.1:4002/front.mjpg").identity
    )
    assert resolve("http://127.0.0.1:4001/front.mjpg").now != resolve("http://127.0.0.1:4002/front.mjpg").now


def test_a_number_is_advised_against_where_there_is_a_name(dev: Path) -> None:
    assert "better" in unstable("front", "0", dev) and "by-id" in unstable("front", str(dev / "video0"), dev)
    assert not unstable("x", "10", dev) and not unstable("x", "http://cam/1", dev)
    assert not unstable("x", str(next((dev / "v4l/by-id").glob("*"))), dev)
