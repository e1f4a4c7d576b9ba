"""The command line from outside: overview, help of every command, mistakes, what gets imported."""

import errno
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from pipelines.cli import COMMANDS, GROUPS, command_module, main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments], capture_output=True, text=True, timeout=120
    )


def test_overview_lists_every_command() -> None:
    result = run("--help")
    assert result.returncode == 0
    for name in COMMANDS:
        assert f"\n  {name} " in result.stdout
        assert command_module(name).GROUP in GROUPS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"sim2real {name}" in text
    assert "examples:" in text
    module = import_module(f"pipelines.commands.{name.replace('-', '_')}")
    assert f"sim2real {name}" in module.EXAMPLES


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_flag_is_one_line_and_status_2(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--no-such-flag"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert f"see 'sim2real {name} --help'" in error


def test_an_unknown_command_suggests_the_nearest() -> None:
    result = run("pretrian")
    assert result.returncode == 2
    assert "did you mean 'pretrain'?" in result.stderr


def test_no_help_page_imports_anything_heavy() -> None:
    code = (
        "import sys\n"
        "from pipelines.cli import COMMANDS, main\n"
        "for name in COMMANDS: main([name, '--help'])\n"
        "heavy = {'torch', 'lightning', 'pybullet', 'cv2', 'onnxruntime', 'scipy', 'matplotlib', 'numba'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout.strip().endswith("HEAVY []"), result.stdout[-300:] + result.stderr[-300:]


def test_ctrl_c_in_a_compiler_is_ctrl_c(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A just-in-time compiler that is interrupted fails in its own way while it puts things in order."""

    def run(args: object) -> int:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("no compiled object yet")

    module = import_module("pipelines.commands.robots")
    monkeypatch.setattr(module, "run", run)
    assert main(["robots"]) == 130
    assert capsys.readouterr().err.strip() == "sim2real robots: stopped by Ctrl-C"
    monkeypatch.setattr(module, "run", lambda args: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        main(["robots"])


@pytest.mark.parametrize(
    "command", ["sweep --task reach", "pretrain --task reach", "identify --data x", "demo"]
)
def test_a_folder_for_results_that_cannot_be_is_told_before_any_work(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper" / "still"):
        assert main([*command.split(), "--out", str(out)]) == 2
        assert capsys.readouterr().err.endswith(
            f"--out {out}: {tmp_path / 'file'} is a file; name a folder\n"
        )
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/x/config.json")

    monkeypatch.setattr(import_module("pipelines.commands.robots"), "run", run)
    assert main(["robots"]) == 1
    assert capsys.readouterr().err == "sim2real robots: runs/x/config.json: No space left on device\n"


def test_compiling_is_announced_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(import_module("pipelines.commands.chaos"), "run", lambda args: 0)
    assert main(["chaos"]) == 0
    assert "the first start compiles" in capsys.readouterr().err
    (tmp_path / "sim2real_0a1b").mkdir()
    (tmp_path / "sim2real_0a1b" / "servo.step_into-289.py311.1.nbc").touch()
    assert main(["chaos"]) == 0
    assert capsys.readouterr().err == ""


def test_compiled_code_is_kept_without_a_home(tmp_path: Path) -> None:
    """As in a container; the package may be read-only besides, and numba raises where it finds no place."""
    (tmp_path / "file").touch()
    environment = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    environment |= {"HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path)}
    code = "import os, sim2real.compiled; print(os.environ['NUMBA_CACHE_DIR'])"

    def place() -> Path:
        words = [sys.executable, "-c", code]
        return Path(subprocess.run(words, env=environment, capture_output=True, text=True).stdout.strip())

    private = tmp_path / f"sim2real-{os.getuid()}"
    assert place().parent == private
    assert private.stat().st_mode & 0o777 == 0o700
    private.chmod(0o777)  # anybody could leave code there
    assert tmp_path / "file" in place().parents
