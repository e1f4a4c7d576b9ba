"""A slice of benchmarks/soak.py: an arm at work under random faults, every promise watched."""

import gc
import json
import os
import threading

import pytest

from pipelines.cli import main
from pipelines.reliability.chaos import Chaos, ChaosOptions, run_chaos
from pipelines.reliability.tally import Tally, summary
from sim2real.errors import UserError


@pytest.mark.slow
def test_a_stretch_of_chaos_keeps_every_promise() -> None:
    """And leaks nothing: a second stretch on the same arm adds neither descriptors nor threads."""
    chaos = Chaos(ChaosOptions(seed=11, gap=2.0))
    try:
        chaos.advance(6.0)
        gc.collect()
        before = len(os.listdir("/proc/self/fd")), threading.active_count()
        tally = chaos.advance(25.0)
        gc.collect()
        assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
    finally:
        chaos.close()
    assert tally.broken == []
    assert tally.interventions >= 1 and tally.episodes >= 1 and sum(tally.faults.values()) >= 4
    assert 0 < max(tally.peaks.values()) <= 1.0 + 1e-6
    assert 0 < tally.uptime < 1 and "all kept" in summary(tally)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_end() -> None:
    first, second, other = (run_chaos(ChaosOptions(seed=seed, seconds=5, gap=1.0)) for seed in (3, 3, 4))
    assert first.as_dict() == second.as_dict() and first.as_dict() != other.as_dict()
    total = Tally()
    total.add(first)
    total.add(other)
    assert total.seconds == first.seconds + other.seconds and total.faults == first.faults + other.faults
    assert Tally.from_dict(json.loads(json.dumps(total.as_dict()))) == total


def test_a_broken_promise_is_found_and_named(monkeypatch, capsys) -> None:
    """With a bound that no arm can keep, the command says so, with the seed, and exits 1."""
    monkeypatch.setattr("pipelines.reliability.proving.SAG", 1e-5)
    assert main(["chaos", "--seconds", "4", "--seed", "9", "--json"]) == 1
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert any("sag" in text and "seed 9" in text for text in result["broken"])
    assert "--seed 9" in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--seconds", "0"], "--seconds must be positive, got 0"),
        (["--gap", "nan"], "--gap must be positive, got nan"),
        (["--only", "mute,late,mutes"], "cannot inject mutes here; faults are bit_flip"),
        (["--only", "kill_control"], "cannot inject kill_control here"),
        (["--robot", "nothing"], "nothing"),
        (["--seed", "-1"], "--seed must be 0 or more"),
        (["--out", "/dev/null/here"], "name a folder"),
        (["--mix", "field", "--gap", "3"], "--gap 3 goes with --mix even"),
        (["--stress", "2"], "--stress 2 goes with --mix field"),
    ],
)
def test_wrong_requests_are_explained(arguments, says, capsys) -> None:
    assert main(["chaos", *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert says in said and "\n" not in said


def test_options_are_checked() -> None:
    with pytest.raises(UserError, match="even or field"):
        ChaosOptions(mix="odd")  # type: ignore[arg-type]
