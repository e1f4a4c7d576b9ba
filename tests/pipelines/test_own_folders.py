"""Commands that write into a folder leave alone what is somebody's there."""

import json
from pathlib import Path

import pytest

from pipelines.runs import require_own, set_aside, unused
from sim2real.errors import UserError

NAMES = ("config.json", "result.json")


@pytest.mark.parametrize("config", [None, "{", "[]", '{"command": "make tea"}', '{"name": "my robot"}'])
def test_a_folder_of_somebody_is_left_alone(tmp_path: Path, config: str | None) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    (tmp_path / "result.json").write_text("precious")
    with pytest.raises(UserError, match=r"holds (config|result).json, and no config.json says that a run"):
        require_own(tmp_path, ("deploy",), NAMES)


def test_a_folder_may_hold_anything_else_and_runs_of_the_same_command(tmp_path: Path) -> None:
    require_own(tmp_path / "none", ("deploy",), NAMES)
    (tmp_path / "notes.txt").write_text("mine")
    require_own(tmp_path, ("deploy",), NAMES)
    (tmp_path / "config.json").write_text(json.dumps({"command": "deploy", "versions": {"sim2real": "1"}}))
    require_own(tmp_path, ("deploy",), NAMES)
    with pytest.raises(UserError, match="holds a run of 'deploy', which this would overwrite"):
        require_own(tmp_path, ("record", "excite"), NAMES)


def test_what_an_earlier_session_left_is_set_aside_whole(tmp_path: Path) -> None:
    set_aside(tmp_path, NAMES)
    assert not list(tmp_path.iterdir())
    for session in ("first", "second"):
        for name in NAMES:
            (tmp_path / name).write_text(session)
        set_aside(tmp_path, NAMES)
    for number, session in enumerate(("first", "second"), 1):
        assert [(tmp_path / "earlier" / str(number) / name).read_text() for name in NAMES] == [session] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["earlier"]


def test_a_name_that_is_taken_is_numbered(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    assert unused(out) == out
    (tmp_path / "run").mkdir()
    (tmp_path / "run_2").mkdir()
    assert unused(out) == f"{out}_3"
