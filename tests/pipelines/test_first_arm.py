"""docs/first-arm.md, tried as a new user would: every command line is understood, and the first steps are run."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from hardware.emulator.launch import EmulatorHandle, start_emulator
from pipelines.cli import _parser

pytestmark = pytest.mark.realtime

ROOT = Path(__file__).parents[2]
PAGES = ("first-arm.md", "policy-server.md")


def command_lines(page: str) -> list[list[str]]:
    """Every `sim2real …` line of a page's shell blocks, as words."""
    text = (ROOT / "docs" / page).read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("sim2real ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


LINES = [words for page in PAGES for words in command_lines(page)]


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_every_command_line_is_understood(words: list[str]) -> None:
    module = import_module(f"pipelines.commands.{words[0].replace('-', '_')}")
    _parser(words[0], module).parse_args(words[1:])


def test_the_pages_have_command_lines() -> None:
    named = {words[0] for words in LINES}
    steps = {"setup", "calibrate", "check-calibration", "doctor", "record", "identify", "finetune", "deploy"}
    assert steps | {"serve", "emulate", "pretrain"} <= named


@pytest.fixture(scope="module")
def arm() -> Iterator[EmulatorHandle]:
    with start_emulator("so101", camera=False) as handle:
        yield handle


def line_of(*start: str) -> list[str]:
    """The first line of the page that begins with these words and names the port."""
    return next(
        words
        for words in command_lines("first-arm.md")
        if words[: len(start)] == list(start) and "--port" in words
    )


@pytest.mark.slow
def test_the_first_steps(arm: EmulatorHandle, tmp_path: Path) -> None:
    def run(words: list[str], **changes: str) -> "subprocess.Popen[str]":
        places = {"/dev/ttyACM0": arm.port, "/tmp/ttyARM": arm.port} | changes
        words = [places.get(word, word) for word in words]
        words = [str(ROOT / word) if word.startswith("examples/") else word for word in words]
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines", *words], cwd=tmp_path, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def done(process: "subprocess.Popen[str]") -> str:
        said, _ = process.communicate(timeout=200)
        assert process.returncode == 0, said
        return said

    whole = line_of("setup", "--port")
    assert done(run([*whole, "--baud", "1000000"])).count("STS3215") == 6
    # The hand and the one who reads go on at the same time.
    reader, hand = [words for words in command_lines("first-arm.md") if "/tmp/ttyARM" in words][1:3]
    reading = run(reader)
    assert reading.stdout is not None and reading.stdout.readline().startswith("recording for")
    done(run(hand))
    assert "written to arm.json and into the servos" in done(reading)
    assert "arm.json: no problem found" in done(run(line_of("check-calibration")))
    assert (tmp_path / "arm.png").stat().st_size > 1000
    assert "the servos store what the file says" in done(run([*line_of("doctor"), "--reads", "50"]))
    dry = line_of("deploy")
    assert "--dry-run" in dry
    assert "the arm is  limp" in done(run([*dry, "--seconds", "0.5"]))
