"""Results are written whole, and never in the place of something that is not ours."""

import os
from pathlib import Path

import pytest

from sim2real.errors import UserError
from sim2real.files import PAGE, require_own_file, write_bytes, write_text


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "größe")
    assert (tmp_path / "a").read_bytes() == "größe".encode()
    write_bytes(tmp_path / "a", b"\0\1")
    assert (tmp_path / "a").read_bytes() == b"\0\1"
    with pytest.raises(OSError):
        write_text(tmp_path / "none" / "a", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_text(tmp_path / "folder", "x")
    assert sorted(os.listdir(tmp_path)) == ["a", "folder"], "and leaves nothing beside it"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "a").symlink_to("precious")
    write_text(tmp_path / "a", "ours")
    assert (tmp_path / "precious").read_text() == "mine" and (tmp_path / "a").read_text() == "ours"


def test_only_files_of_our_own_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    require_own_file(path, PAGE)
    path.write_bytes(b"<html>" + PAGE + b"</html>")
    require_own_file(path, PAGE)
    for content in ("<html>holiday pictures</html>", "precious"):
        path.write_text(content)
        with pytest.raises(UserError, match="was not made by this program; it is not overwritten"):
            require_own_file(path, PAGE)
    path.unlink()
    path.symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match="it is not overwritten"):
        require_own_file(path, PAGE)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="is a folder; it is not overwritten"):
        require_own_file(path, PAGE)
