"""Killed processes and full disks in a soak: how often they come, how they are counted, what a full disk is."""

import subprocess
import sys

import pytest

from hardware.emulator.faults.catalogue import CATALOGUE
from pipelines.reliability.chaos import OUTSIDE
from pipelines.reliability.kill_trials import Trial, fill_disk
from pipelines.reliability.outside import Outside, counted, drawn
from pipelines.reliability.tally import ATTEND, DAY, Tally


def test_they_come_as_often_as_the_catalogue_says() -> None:
    days = 20_000
    found = drawn(days * DAY, seed=3)
    assert {fault.name for fault in found} == OUTSIDE
    for name in OUTSIDE:
        expected = days * sum(case.per_day for case in CATALOGUE[name].cases)
        assert sum(fault.name == name for fault in found) == pytest.approx(expected, abs=4 * expected**0.5)
    assert drawn(days * DAY, seed=3) == found != drawn(days * DAY, seed=4)
    assert {(fault.role, fault.how) for fault in found if fault.name == "kill_helper"} == {
        (role, how) for role in ("inference", "camera", "recorder") for how in ("kill", "stop")
    }
    assert drawn(1.0, seed=3) == []


def test_a_run_that_goes_on_needs_nobody() -> None:
    fault = Outside("disk_full", "recorder", "fill", 7)
    went_on = counted(fault, Trial(["fill recorder"], 7, ended="limp [], status 0"))
    assert went_on.interventions == 0 and went_on.successes == went_on.hit_episodes == 1
    assert went_on.broken == [] and went_on.faults == {"disk_full": 1}
    gone = counted(fault, Trial(["kill control"], 7, ended="status -9", problems=["it was let go"]))
    assert gone.interventions == 1 and gone.down == ATTEND and gone.people == {"disk_full": 1}
    assert gone.broken == ["fill recorder, seed 7: it was let go"]
    total = Tally(seconds=DAY, exposure=DAY)
    total.add(went_on)
    total.add(gone)
    assert total.episodes == 2 and total.uptime == pytest.approx(1 - ATTEND / (DAY + ATTEND))


def test_a_full_disk_takes_files_and_nothing_else(tmp_path) -> None:
    program = (
        "import sys\n"
        "file = open(sys.argv[1], 'wb', buffering=0)\n"
        "for line in sys.stdin:\n"
        "    try:\n"
        "        file.write(b'x' * 100)\n"
        "        print('written', flush=True)\n"
        "    except OSError as error:\n"
        "        print(error.strerror, flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "file")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert child.stdin is not None and child.stdout is not None

    def ask() -> str:
        child.stdin.write("\n")
        child.stdin.flush()
        return child.stdout.readline().strip()

    try:
        assert ask() == "written"
        fill_disk([child.pid])
        assert ask() == "File too large" and (tmp_path / "file").stat().st_size == 100
    finally:
        child.kill()
        child.wait()
    fill_disk([child.pid])  # who has gone needs no disk
