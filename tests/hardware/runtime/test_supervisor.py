"""The supervisor as a pure function: its promises hold for every sequence of health."""

from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.runtime.supervisor import (
    CONDITIONS,
    ENERGISED,
    TRANSITIONS,
    Action,
    Deadlines,
    Health,
    Phase,
    Request,
    State,
    action,
    advance,
    diagram,
)

D = Deadlines()
GOOD = Health(armed=True, still=True, rested=True, relaxed=True)

age = st.sampled_from([0.0, 0.02, 0.05, 0.5, 1.5, 10.0])
health = st.builds(
    Health,
    request=st.sampled_from(list(Request)),
    connected=st.sampled_from([True, True, True, False]),
    identified=st.booleans(),
    feedback_age=age,
    armed=st.booleans(),
    torque_lost=st.sampled_from([False, False, False, True]),
    servo_fault=st.sampled_from([False, False, False, True]),
    policy_needed=st.booleans(),
    policy_alive=st.sampled_from([True, True, False]),
    remaining=st.sampled_from([0.3, 0.01, -0.1, -2.0]),
    bad_chunks=st.integers(0, 5),
    rejected=age,
    camera_needed=st.booleans(),
    camera_age=age,
    still=st.booleans(),
    rested=st.booleans(),
    attended=st.booleans(),
    relaxed=st.booleans(),
    guarded=st.sampled_from([True, True, True, False]),
)
steps = st.lists(st.tuples(health, st.sampled_from([0.01, 0.01, 0.2, 1.5, 30.0])), min_size=1, max_size=60)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(steps=steps)
def test_promises_hold_for_every_sequence(steps):
    state, time = State(), 0.0
    for h, dt in steps:
        time += dt
        before, state = state, advance(time, state, h, D)
        allowed = [row for row in TRANSITIONS if before.phase in row.sources]
        changed = before.phase is not state.phase
        if changed:
            targets = {row.target for row in allowed} | {Phase.LIMP_FAULT}
            assert state.phase in targets and state.since == time
        # A fault latches: only an acknowledgement, with torque off or the port gone, clears it.
        if before.fault is not None and state.fault is None:
            assert h.request is Request.ACKNOWLEDGE
            assert before.phase in (Phase.LIMP_FAULT, Phase.DISCONNECTED)
        elif before.fault is not None:
            assert (state.fault, state.fault_since) == (before.fault, before.fault_since)
        # Nothing arms by itself, and nothing arms with a fault.
        if changed and state.phase is Phase.ARMING:
            assert before.phase is Phase.LIMP and h.request is Request.ARM and state.fault is None
        # Torque comes on in one place only.
        if before.phase not in ENERGISED and state.phase in ENERGISED:
            assert state.phase is Phase.ARMING
        # Motion on the policy's behalf only when asked for, never with a fault.
        if state.phase in (Phase.RUNNING, Phase.DEGRADED):
            assert state.fault is None
            if before.phase is Phase.HOLD:
                assert h.request is Request.RUN
        # The arm is not lowered before it has held still for a second, and not let go without being lowered
        # unless it does not answer.
        if changed and state.phase is Phase.SETTLING:
            assert time - before.since >= D.hold
        if changed and state.phase is Phase.LIMP and before.phase in ENERGISED:
            assert before.phase is Phase.SETTLING and h.rested
        doing = action(state, h, D)
        if state.phase in (Phase.FAULT_HOLD, Phase.HOLD, Phase.STOPPING):
            assert doing is Action.HOLD
        if doing in (Action.FOLLOW, Action.DESCEND):
            assert h.feedback_age <= D.feedback_hold
        if state.phase is Phase.LIMP:
            assert state.fault is None


@pytest.mark.parametrize(
    ("phase", "fault"),
    [
        (phase, fault)
        for phase in Phase
        for fault in (None, "policy_late")
        if not (fault and phase is Phase.LIMP)
    ],
)
def test_every_state_has_a_way_to_limp(phase, fault):
    """Good health and an operator who asks for one thing after the other end in `limp`, from everywhere."""
    state, time = State(phase, 0.0, fault, 0.0), 0.0
    for request in (Request.STOP, Request.SETTLE, Request.ACKNOWLEDGE, Request.NONE):
        for _ in range(300):
            time += 0.01
            state = advance(time, state, GOOD._replace(request=request), D)
    assert state.phase is Phase.LIMP and state.fault is None


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: f"{row.condition}-{row.target.value}")
def test_every_row_can_be_taken(row):
    """No row is dead: there is a health for which it, and no row above it, applies."""
    from itertools import product

    values = [
        st_values
        for st_values in (
            list(Request), [True, False], [True, False], [0.0, 2.0, 9.0], [True, False], [False, True],
            [False, True],
        )
    ]  # fmt: skip
    reachable = False
    for request, connected, identified, feedback, armed, lost, servo in product(*values):
        for extra in (
            {}, {"policy_needed": True, "policy_alive": False, "remaining": -0.1},
            {"policy_needed": True, "remaining": -2.0}, {"policy_needed": True, "bad_chunks": 4},
            {"policy_needed": True, "rejected": 2.0}, {"camera_needed": True, "camera_age": 5.0},
            {"camera_needed": True, "camera_age": 1.0}, {"rested": True}, {"rested": False}, {"guarded": False},
        ):  # fmt: skip
            h = Health(
                request=request, connected=connected, identified=identified, feedback_age=feedback,
                armed=armed, torque_lost=lost, servo_fault=servo, still=True, relaxed=True,
            )._replace(**extra)  # fmt: skip
            for elapsed in (0.1, 2.0, 4.0, 25.0):
                after = advance(elapsed, State(row.sources[0], 0.0), h, D)
                first = next(
                    (r for r in TRANSITIONS if row.sources[0] in r.sources
                     and CONDITIONS[r.condition](elapsed, h, D)), None,
                )  # fmt: skip
                if first == row:
                    reachable = True
                    assert after.phase is row.target and (after.fault == row.condition) == row.latch
    assert reachable


def run(state: State, h: Health, seconds: float, start: float) -> State:
    for k in range(round(seconds * 100)):
        state = advance(start + k * 0.01, state, h, D)
    return state


def test_a_late_policy_degrades_then_latches():
    running = State(Phase.RUNNING, 0.0)
    h = GOOD._replace(request=Request.RUN, policy_needed=True)
    assert run(running, h, 5, 0).phase is Phase.RUNNING
    late = run(running, h._replace(remaining=-0.2), 0.1, 5)
    assert late.phase is Phase.DEGRADED
    assert run(late, h, 0.1, 6).phase is Phase.RUNNING, "a policy that comes back is followed again"
    latched = run(late, h._replace(remaining=-1.2), 0.1, 6)
    assert latched == State(Phase.FAULT_HOLD, 6.0, "policy_late", 6.0)
    # No operator: held for a second, lowered, let go, and the fault stays.
    ended = run(latched, h._replace(remaining=-1.2, rested=False), 1.1, 6)
    assert ended.phase is Phase.SETTLING
    ended = run(ended, h._replace(request=Request.RUN), 5, 8)
    assert ended.phase is Phase.LIMP_FAULT and ended.fault == "policy_late"


def test_an_operator_decides_when_there_is_one():
    latched = State(Phase.FAULT_HOLD, 0.0, "camera_lost", 0.0)
    h = GOOD._replace(attended=True)
    assert run(latched, h, 60, 0).phase is Phase.FAULT_HOLD
    assert run(latched, h._replace(request=Request.SETTLE, rested=False), 2, 60).phase is Phase.SETTLING


def test_bus_silence_holds_within_three_periods():
    h = GOOD._replace(request=Request.RUN, feedback_age=0.031)
    state = run(State(Phase.RUNNING, 0.0), h, 0.02, 0)
    assert state.phase is Phase.DEGRADED and action(state, h, D) is Action.HOLD
    back = h._replace(feedback_age=0.001)
    assert action(run(state, back, 0.02, 1), back, D) is Action.FOLLOW
    silent = run(state, h._replace(feedback_age=20.0), 7, 2)
    assert silent.phase is Phase.LIMP_FAULT and silent.fault == "feedback_lost"


def test_deadlines_are_checked():
    with pytest.raises(ValueError, match="at least 1 s"):
        Deadlines(hold=0.5)
    for field in fields(Deadlines):
        with pytest.raises(ValueError, match=field.name):
            Deadlines(**{field.name: 0.0})


def test_the_diagram_shows_every_row():
    text = diagram()
    for row in TRANSITIONS:
        for source in row.sources:
            assert f"{source.value} --> {row.target.value}: {row.condition}" in text
