"""Keys and lines on a real terminal (a pty), and one that takes nothing."""

import os
import pty
import select
import sys
import time

import numpy as np
import pytest

from hardware.runtime.sessions.table import Status, table
from hardware.runtime.sessions.terminal import Lines, Screen, Terminal, next_key

STATUS = Status(
    robot="so101", state="running", fault="", joints=("pan", "gripper"), position=np.array([0.1, 0.2]),
    goal=np.array([0.15, 0.2]), temperature=np.array([31.0, np.nan]), rate=99.96, overruns=1, clipped=2,
    rejected=3, activity="episode 4", elapsed=1.25, kept=4, planned=10, recording=True, recorded=37, lost=0,
    problem="", keys="s success",
)  # fmt: skip


@pytest.fixture
def line(monkeypatch):
    """(the other end of the terminal, a text stream that writes to it); standard input reads from it."""
    master, slave = pty.openpty()
    monkeypatch.setattr(sys, "stdin", os.fdopen(os.dup(slave), "r"))
    stream = os.fdopen(slave, "w")
    yield master, stream
    stream.close()
    os.close(master)


def read(master: int, until: str) -> str:
    seen, end = "", time.monotonic() + 20
    while until not in seen and time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            seen += os.read(master, 4096).decode()
    return seen


def pressed(terminal: Terminal) -> str:
    end = time.monotonic() + 20
    while not (key := terminal.pressed()) and time.monotonic() < end:
        time.sleep(0.001)
    return key


@pytest.mark.parametrize(
    ("text", "waited", "key", "rest"),
    [
        ("", True, "", ""),
        ("sd", False, "s", "d"),
        ("\x1b[Aq", False, "up", "q"),
        ("\x1bOD", False, "left", ""),
        ("\x1b[5~", False, "pageup", ""),
        ("\x1b", False, "", "\x1b"),
        ("\x1b", True, "\x1b", ""),
        ("\x1b[", False, "", "\x1b["),
        ("\x1b[", True, "\x1b", "["),
        ("\x1b[1;5Cs", False, "", "s"),
        ("\x1bq", False, "\x1b", "q"),
        ("\x1b\x1b", False, "\x1b", "\x1b"),
    ],
)
def test_keys_and_sequences(text, waited, key, rest):
    assert next_key(text, waited) == (key, rest)


def test_keys_come_one_by_one_and_the_terminal_is_restored(line):
    import termios

    master, stream = line
    before = termios.tcgetattr(sys.stdin.fileno())
    with Screen(stream) as screen, Terminal(screen) as terminal:
        os.write(master, b"s\x1b[Aq")
        assert [pressed(terminal) for _ in range(3)] == ["s", "up", "q"]
        os.write(master, b"\x1b")
        assert pressed(terminal) == "\x1b"
        assert terminal.pressed() == ""
        os.write(master, b"y")
        assert terminal.confirm("move?") is True
        assert "move? [y/N]" in read(master, "move?")
    assert termios.tcgetattr(sys.stdin.fileno()) == before


def test_lines_stay_above_a_table_that_is_drawn_in_place(line):
    master, stream = line
    with Screen(stream) as screen:
        screen.show(STATUS)
        screen.tell("first")
        seen = read(master, "s success")
        assert seen.index("first") < seen.index("episode 4") < seen.index("gripper")
        screen.tell("second")
        seen = read(master, "second")
        # Up over the whole table, which goes, then the line.
        assert f"\x1b[{len(table(STATUS, 80))}A\x1b[J" in seen


def test_a_stopped_terminal_holds_nobody_up(line):
    master, stream = line
    with Screen(stream) as screen:
        # Nobody reads the other end: its buffer fills up, then writing to it blocks.
        for i in range(2000):
            screen.tell(f"{i} " + 200 * "x")
            screen.show(STATUS)
        assert screen._thread.is_alive()
    assert screen._thread.is_alive(), "it was left behind where it waits"
    read(master, "1999 ")


def test_what_is_no_terminal_gets_lines_only(tmp_path):
    with open(tmp_path / "log", "w") as file, Screen(file) as screen:
        screen.show(STATUS)
        screen.tell("one")
        screen.tell("two")
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_keys_as_lines(monkeypatch):
    reader, writer = os.pipe()
    monkeypatch.setattr(sys, "stdin", os.fdopen(reader, "r"))
    with Screen(open(os.devnull, "w")) as screen:
        keys = Lines(screen)
        assert keys.pressed() == ""
        os.write(writer, b"s\nredo\nq")
        assert [keys.pressed() for _ in range(4)] == ["s", "r", "q", ""]
        os.close(writer)
        # Whoever pressed them has gone: once more the key to stop, then nothing.
        assert [keys.pressed() for _ in range(3)] == ["q", "", ""] and not keys.open
    assert keys.attended is False


def test_the_table_fits_and_says_what_matters():
    rows = table(STATUS, 60)
    assert all(len(row) < 60 for row in rows)
    text = "\n".join(rows)
    assert "episode 4 1.2 s" in text and "4 of 10" in text and "100.0 Hz" in text and "31°C" in text
    assert "37 frames" in text
    worse = table(STATUS._replace(problem="the disk is full", fault="stall", lost=3), 200)
    assert any("NOT RECORDING: the disk is full" in row for row in worse) and "running: stall" in worse[0]
    assert "3 LOST" in "\n".join(table(STATUS._replace(lost=3), 80))
