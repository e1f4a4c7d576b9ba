"""Failures in a row are counted on disk; too many of them disable an arm until somebody has looked."""

import os
import pty
import time

import pytest

from hardware.runtime.control.supervisor import Phase
from hardware.runtime.safety.escalation import LIMIT, Escalation, Failures
from pipelines.cli import main
from sim2real.errors import Sim2RealError

from .test_session import Keys, check_limp, make  # noqa: F401  (a fixture)


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    folder = tmp_path / "state"
    monkeypatch.setenv("SIM2REAL_STATE", str(folder))
    return folder


def failures() -> Failures:
    """As another process would see it."""
    return Failures("so101", "/dev/ttyACM7")


def test_more_than_three_in_a_row_disable_the_arm():
    for k in range(LIMIT):
        assert failures().note(f"policy_late: {k}").failures == k + 1
        failures().check()
    assert failures().note("camera_lost").disabled
    with pytest.raises(Sim2RealError, match="4 failures in a row.*camera_lost.*--acknowledge") as error:
        failures().check()
    assert error.value.exit_code == 1
    # Other arms go on, and nothing but an acknowledgement clears it.
    Failures("so101", "/dev/ttyACM8").check()
    assert failures().acknowledge().failures == 4
    failures().check()
    assert failures().read().failures == 0


def test_a_good_run_sets_the_count_back_and_decisions_do_not_count():
    for _ in range(3):
        failures().note("policy_late")
    failures().note("estop: key")
    failures().note("operator_lost")
    assert failures().read().failures == 3
    failures().note(None)
    assert failures().read().failures == 0


def test_a_damaged_count_is_looked_at(state):
    failures().note("policy_late")
    failures().path.write_text("{")
    with pytest.raises(Sim2RealError, match="cannot be read"):
        failures().check()
    failures().acknowledge()
    failures().check()


def test_pseudo_terminals_with_the_same_number_are_different_arms():
    paths = []
    for _ in range(2):
        time.sleep(0.05)
        master, slave = pty.openpty()
        paths.append((os.ttyname(slave), Failures("so101", os.ttyname(slave)).path))
        os.close(master)
        os.close(slave)
    (first, one), (second, two) = paths
    assert first != second or one != two


def test_an_arm_that_ends_with_the_run_leaves_nothing(state):
    gone = Failures("so101", "/dev/pts/999", keep=False)
    for _ in range(6):
        gone.note("policy_late")
    gone.check()
    assert not state.exists()


def test_the_commands_refuse_and_acknowledge(tmp_path, capsys):
    for _ in range(4):
        failures().note("policy_late")
    words = ["--policy", "zero", "--task", "reach", "--goal", "0.2,0,0.1", "--out", str(tmp_path / "out")]
    assert main(["deploy", "--port", "/dev/ttyACM7", *words]) == 1
    assert "disabled" in capsys.readouterr().err
    assert main(["deploy", "--acknowledge", "--port", "/dev/ttyACM7"]) == 0
    assert "4 failures" in capsys.readouterr().out
    assert main(["deploy", "--port", "/dev/ttyACM7", *words]) == 2, "now it is the port that is missing"
    assert "no serial port" in capsys.readouterr().err
    assert main(["deploy", "--acknowledge", "--port", "/dev/ttyACM7"]) == 0
    assert "nothing to acknowledge" in capsys.readouterr().out
    assert main(["deploy", "--acknowledge"]) == 2
    assert "--port" in capsys.readouterr().err


def test_people_are_told_while_the_arm_holds(make, tmp_path, capfd):  # noqa: F811
    """The hook runs when the fault comes, with what is known about it; the arm is lowered as always."""

    class Broken:
        horizon = 4

        def reset(self, seed):
            pass

        def act(self, observation):
            raise RuntimeError("no")

    log = tmp_path / "log"
    command = f'echo "$FAULT|$FAILURES|$DISABLED|$OUT" >> {log}'
    said: list[str] = []
    for _ in range(2):
        failures().note("policy_late")
    for _ in range(2):
        session, world = make(policy=Broken(), episodes=3)
        escalation = Escalation(failures(), command, said.append, {"OUT": "there"})
        session.on_fault = escalation.call
        session.run()
        escalation.finish(ended_well=False)
        check_limp(session, world, "policy_died")
    fault = "policy_died: RuntimeError: no"
    assert log.read_text().splitlines() == [f"{fault}|{k}|{int(k == 4)}|there" for k in (3, 4)]
    assert len(said) == 1 and said[0].startswith("CALL A HUMAN: 4 failures in a row")
    # An operator's decision is no failure.
    session, world = make(Keys(("episode 0", " "), ("FAULT", "s")), episodes=3)
    session.run()
    assert session.loop.state.fault == "estop"
    check_limp(session, world, "estop")


def test_a_fault_on_the_way_down_is_told_as_well(make):  # noqa: F811
    session, _ = make(episodes=1)
    told: list[str] = []
    session.on_fault = told.append
    original = session.loop.tick

    def unplugging():
        original()
        if session.loop.phase is Phase.SETTLING:
            session.loop.link.arm.unplugged = True

    session.loop.tick = unplugging
    session.run()
    assert told == ["port_lost: the simulated port has gone away"] == session.loop.faults


def test_a_count_that_cannot_be_kept_is_said(state):
    state.write_text("a file where a folder should be")
    said: list[str] = []
    escalation = Escalation(failures(), None, said.append, {})
    escalation.call("policy_late")
    escalation.finish(ended_well=False)
    assert any("cannot be kept" in line for line in said)


def test_a_run_without_motion_neither_counts_nor_clears(tmp_path):
    """A dry run moves nothing: what ends it says nothing about failures in a row, and what goes well neither."""
    log, said = tmp_path / "log", []
    for _ in range(LIMIT):
        failures().note("policy_late")
    dry = Escalation(failures(), f'echo "$FAULT|$FAILURES|$DISABLED" >> {log}', said.append, {}, counts=False)
    dry.call("port_lost")
    dry.finish(ended_well=False)
    assert log.read_text() == f"port_lost|{LIMIT}|0\n", "people are told nevertheless"
    Escalation(failures(), None, said.append, {}, counts=False).finish(ended_well=True)
    assert failures().read().failures == LIMIT and failures().read().last == "policy_late"
    Escalation(failures(), None, said.append, {}).finish(ended_well=True)
    assert failures().read().failures == 0 and said == []
