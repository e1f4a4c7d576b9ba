"""Commands that write into a folder leave alone what is somebody's there."""

import json
from pathlib import Path

import pytest

from pipelines.runs import require_own
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
