"""Pictures that lie in the rows."""

from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest

from sim2real.errors import UserError
from sim2real.lerobot import LeRobotDataset
from sim2real.lerobot.pictures import decode

from .foreign_set import foreign_set, wave

FEATURE = {"observation.images.top": {"dtype": "image", "shape": [32, 48, 3], "names": None}}


def encoded(colour: int, codec: str = "png") -> bytes:
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, :, 0], image[:16, :, 2] = colour, 200
    file = BytesIO()
    with av.open(file, "w", format="image2pipe") as container:
        stream = container.add_stream(codec, rate=1)
        stream.width, stream.height = 48, 32
        stream.pix_fmt = "rgb24" if codec == "png" else "yuvj444p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("codec", ["png", "mjpeg"])
def test_pictures_of_rows_are_frames_of_a_camera(codec: str, tmp_path: Path) -> None:
    foreign_set(
        tmp_path / "set",
        [wave(5), wave(4)],
        features=FEATURE,
        columns=lambda e, n: {
            "observation.images.top": [
                {"bytes": encoded(40 * k, codec), "path": f"{k}.png"} for k in range(n)
            ]
        },
    )
    dataset = LeRobotDataset.open(tmp_path / "set")
    assert dataset.cameras == ("top",) and dataset.without_pictures(0, "top") is None
    pictures = list(dataset.frames(1, "top"))
    assert len(pictures) == 4 and pictures[0].shape == (32, 48, 3)
    for k, picture in enumerate(pictures):
        assert abs(int(picture[20, 20, 0]) - 40 * k) <= 3 and abs(int(picture[5, 20, 2]) - 200) <= 3


def test_pictures_beside_the_rows(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/0.png").write_bytes(encoded(80))
    for stored in (
        {"bytes": None, "path": "images/0.png"},
        "images/0.png",
        encoded(80),
        [[[0.2, 0.4, 0.6]] * 4] * 3,
    ):
        assert decode(stored, tmp_path, "it").shape[2] == 3
    assert decode(np.arange(3 * 4 * 5).reshape(3, 4, 5).tolist(), tmp_path, "it").shape == (4, 5, 3)
    for stored, told in (
        ({"bytes": None, "path": "../../secret.png"}, "outside of the data set's folder"),
        ({"bytes": None, "path": "images/7.png"}, "does not exist"),
        ({"bytes": None, "path": None}, "neither a picture nor the path of one"),
        ({"bytes": b"\x89PNG...", "path": "0.png"}, "cannot be decoded"),
        ([[1, 2], [3, 4]], "the shape"),
        ([["a"]], "something else than numbers"),
        (None, "neither"),
    ):
        with pytest.raises(UserError, match=told):
            decode(stored, tmp_path, "it")


def test_pictures_that_are_missing_are_told_for_what_they_are(tmp_path: Path) -> None:
    video = {"observation.images.top": FEATURE["observation.images.top"] | {"dtype": "video"}}
    root = foreign_set(tmp_path / "set", [wave(5), wave(4)], features=video, video_path="{episode_index}.mp4")
    (root / "0.mp4").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4711\n")
    dataset = LeRobotDataset.open(root)
    assert "Git LFS pointer" in str(dataset.without_pictures(0, "top"))
    with pytest.raises(UserError, match="no pictures of the camera top: it is a Git LFS pointer"):
        dataset.frames(0, "top")
    assert "1.mp4 does not exist" in str(dataset.without_pictures(1, "top"))
    foreign_set(tmp_path / "none", [wave(5)], features=FEATURE)
    assert "neither a video nor a column" in str(
        LeRobotDataset.open(tmp_path / "none").without_pictures(0, "top")
    )
