"""A file that cannot be read says what it is, and nobody is told to delete anything."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sim2real.errors import UserError
from sim2real.lerobot.files import contradiction, read_json, read_json_lines, read_parquet

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4711\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>gone</body></html>"
WHOLE = pa.BufferOutputStream()
pq.write_table(pa.table({"x": list(range(1000))}), WHOLE)
PARQUET = WHOLE.getvalue().to_pybytes()

CASES = {
    "pointer": (POINTER, "Git LFS pointer.*git lfs pull"),
    "page": (PAGE, "a web page \\('404 Not Found'\\), not the file; download the file itself"),
    "empty": (b"", r"empty \(0 bytes\); copy or download"),
    "cut": (PARQUET[: len(PARQUET) // 2], "cut short: it begins as parquet"),
    "head": (PARQUET[:10], "cut short"),
    "zeros": (bytes(5000), "holds zeros"),
    "text": (b"Invalid username or password.", "it is text, and begins 'Invalid username or password.'"),
    "json": (b'{"error": "Entry not found"}', "it is text, and begins"),
    "annex": (b"/annex/objects/SHA256E-s4711--" + b"0" * 64, "git-annex pointer"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(range(200)), "begins with the bytes 1f 8b 08 00"),
    "middle": (PARQUET[:4] + PARQUET[100:-40] + b"\xff" * 36 + PARQUET[-4:], "it is damaged"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_stands_in_the_place_of_parquet_is_told(name: str, tmp_path: Path) -> None:
    content, told = CASES[name]
    (tmp_path / "file.parquet").write_bytes(content)
    with pytest.raises(UserError, match=told) as error:
        read_parquet(tmp_path / "file.parquet")
    assert "file.parquet is not readable as parquet" in str(error.value)
    assert not any(word in str(error.value) for word in ("remove", "delete", "recorder", "interrupted"))


def test_folders_links_and_rights(tmp_path: Path) -> None:
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(UserError, match="it is a folder"):
        read_parquet(tmp_path / "folder.parquet")
    (tmp_path / "link.parquet").symlink_to("../blobs/1234")
    with pytest.raises(UserError, match=r"is a link to \.\./blobs/1234, which does not exist"):
        read_parquet(tmp_path / "link.parquet")
    with pytest.raises(UserError, match=r"none\.parquet does not exist"):
        read_parquet(tmp_path / "none.parquet")
    if os.getuid():
        (tmp_path / "mine.parquet").write_bytes(PARQUET)
        (tmp_path / "mine.parquet").chmod(0)
        with pytest.raises(UserError, match="permission denied"):
            read_parquet(tmp_path / "mine.parquet")


def test_json_is_read_whatever_its_mark_and_refused_for_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "info.json"
    path.write_bytes(b'\xef\xbb\xbf{"fps": 30}')  # Windows' editors put a mark first
    assert read_json(path) == {"fps": 30}
    path.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert read_json_lines(path) == [{"a": 1}, {"a": 2}]
    for content, told in (
        (POINTER, "Git LFS"),
        (PAGE, "web page"),
        (b"", "empty"),
        (b'{"a": ', "damaged"),
        (b"[1]", "JSON object"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=told) as error:
            read_json(path)
        assert f"cannot read {path}" in str(error.value)


def test_a_video_is_known_by_not_being_something_else(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"\x00\x00\x00\x20ftypisom" + bytes(range(250)))
    assert contradiction(path, "video") is None
    path.write_bytes(POINTER)
    assert "Git LFS pointer" in str(contradiction(path, "video"))
