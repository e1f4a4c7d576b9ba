"""Text from files, servers and requests is never imported, run, or shown as it is."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hardware.emulator.launch import start_emulator
from hardware.runtime.sources.inference import InferenceProcess
from pipelines.cli import main
from pipelines.learning.export import export_policy
from pipelines.learning.finetune import finetune
from pipelines.learning.finetune_settings import FinetuneSettings
from sim2real.errors import UserError
from sim2real.policies.messages import Line, Message, MessageError, decode, encode
from sim2real.text import printable
from tests.pipelines.test_policy_export import INFO, network

CODE = """
from pathlib import Path
Path("ran").touch()
from sim2real.tasks.reach import Reach
class Own(Reach):
    name = "own"
    def __init__(self):
        super().__init__(6)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that holds a module which leaves a trace when it is imported."""
    (tmp_path / "trap_module.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_policy_file_names_no_code_to_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_policy(network(), replace(INFO, task="trap_module:Own"), here / "p.onnx")
    for command in (
        ["evaluate", "--policy", "p.onnx", "--draws", "1", "--workers", "0"],
        ["sweep", "--policy", "p.onnx", "--draws", "2", "--workers", "0", "--out", "s"],
        ["deploy", "--policy", "p.onnx", "--port", "emulated", "--seconds", "1", "--out", "d"],
        ["serve", "--policy", "p.onnx", "--listen", "127.0.0.1:0"],
    ):
        assert main(command) == 2, command
        assert "give --task trap_module:Own if you trust it" in capsys.readouterr().err
    with pytest.raises(UserError, match="give --task trap_module:Own if you trust it"):
        finetune(FinetuneSettings(policy="p.onnx", data="nowhere"), here / "f", workers=0)
    assert not (here / "ran").exists()


def test_a_sweep_directory_names_no_code_to_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--task", "trap_module:Own", "--policy", "zero"]
    command = ["sweep", *own, "--draws", "2", "--workers", "0", "--out", "s"]
    assert main(command) == 0
    (here / "ran").unlink()
    assert main(["sweep", "--out", "s", "--replay", "0"]) == 2
    assert "add --task trap_module:Own if you trust it" in capsys.readouterr().err
    assert main(["sweep", "--against", "s", "--policy", "zero", "--out", "t"]) == 2
    assert "if you trust it" in capsys.readouterr().err
    assert not (here / "ran").exists()
    assert main(["sweep", *own, "--out", "s", "--replay", "0"]) == 0


@pytest.fixture
def announcing() -> Iterator[str]:
    """A policy server that offers a policy for whatever task it likes to name."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            line = Line(connection)
            hello = line.receive()
            welcome = {
                "version": 1,
                "name": "it",
                "robot": "so101",
                "joints": hello.fields["joints"],
                "task": "trap_module:Own",
                "features": ["goal"],
                "pictures": [],
                "horizon": 4,
                "rate": 30,
            }
            line.send(Message("welcome", welcome))
            line.close()

    threading.Thread(target=serve, daemon=True).start()
    yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


def test_a_server_names_no_code_to_run(
    here: Path, announcing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (
        ["evaluate", "--policy", announcing, "--draws", "1"],
        ["deploy", "--policy", announcing, "--port", "emulated", "--seconds", "1", "--out", "d"],
    ):
        assert main(command) == 2, command
        assert "give --task trap_module:Own if you trust it" in capsys.readouterr().err
    assert not (here / "ran").exists()


@pytest.mark.realtime
def test_the_emulator_answers_programs_of_this_machine_and_imports_nothing(here: Path) -> None:
    with start_emulator("so101", task="reach") as arm:

        def ask(path: str, **headers: str) -> int:
            request = urllib.request.Request(f"{arm.control_url}{path}", headers=headers)
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                return error.code

        assert ask("/state") == 200
        assert ask("/state", Origin=arm.control_url) == 200
        assert ask("/state", Host="attacker.example") == 403
        assert ask("/state", Origin="http://attacker.example") == 403
        assert ask("/success?task=trap_module:Own&goal=0.2,0,0.1") == 400
        assert ask("/success?task=reach&goal=0.2,0,0.1&op=episode") in (200, 409)
    assert not (here / "ran").exists()


@pytest.mark.parametrize(
    "field", ["1" * 400, "1e999", "-1e400", "NaN", "Infinity", "[" + "9" * 30 + "]", "0." + "1" * 400]
)
def test_numbers_that_no_message_holds(field: str) -> None:
    header = json.dumps({"type": "welcome", "parts": []})[:-1] + f', "rate": {field}}}'
    with pytest.raises(MessageError, match="not a message of this protocol"):
        decode(header.encode(), b"")


def test_texts_of_messages_are_printable() -> None:
    sent = Message("problem\x07", {"message": "\x1b]0;title\x07 hello\r\n", "list": ["\x9b1m"], "number": 3})
    data = encode(sent)
    header = int.from_bytes(data[4:8], "little")
    got = decode(data[12 : 12 + header], data[12 + header :])
    assert got.type.isprintable() and got.fields["message"].isprintable()
    assert got.fields["list"][0].isprintable() and got.fields["number"] == 3
    assert printable("häßlich 🤖") == "häßlich 🤖" and len(printable("x" * 1000)) == 301


class Long:
    """A policy whose chunks are longer than an arm takes."""

    horizon = 300

    def __init__(self, task: object, robot: object) -> None:
        self.n = robot.n  # type: ignore[attr-defined]

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation: object) -> np.ndarray:
        return np.zeros((self.horizon, self.n))


class Lying(Long):
    """A policy that gives other chunks than it says."""

    horizon = 8

    def act(self, observation: object) -> np.ndarray:
        return np.zeros((7, self.n))


@pytest.mark.parametrize(
    ("name", "words"), [("Long", "300 actions, an arm takes 1 to 256"), ("Lying", r"\(7, 6\).*\(8, 6\)")]
)
def test_chunks_that_never_fit_are_known_before_the_arm_is_armed(name: str, words: str) -> None:
    source = InferenceProcess(f"{__name__}:{name}", "reach", "so101")
    try:
        with pytest.raises(UserError, match=words):
            source.wait_ready()
    finally:
        source.close()
