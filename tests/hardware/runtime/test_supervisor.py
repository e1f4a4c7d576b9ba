"""The supervisor as a pure function: its promises hold for every sequence of health."""

from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.runtime.control.supervisor import (
    CONDITIONS,
    ENERGISED,
    MONITORS,
    TRANSITIONS,
    Action,
    Deadlines,
    Health,
    Phase,
    Request,
    Retreat,
    State,
    action,
    advance,
    diagram,
)

D = Deadlines()
GOOD = Health(armed=True, still=True, rested=True, relaxed=True, retreated=True)

age = st.sampled_from([0.0, 0.02, 0.05, 0.5, 1.5, 10.0])
health = st.builds(
    Health,
    request=st.sampled_from(list(Request)),
    connected=st.sampled_from([True, True, True, False]),
    identified=st.booleans(),
    feedback_age=age,
    bus_age=age,
    armed=st.booleans(),
    refused=st.sampled_from([False, False, False, True]),
    torque_lost=st.sampled_from([False, False, False, True]),
    torque_gone=st.sampled_from([False, False, False, True]),
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
    estop=st.sampled_from([False, False, False, True]),
    estop_press=st.sampled_from([False, False, False, True]),
    operator_age=age,
    warned=st.frozensets(st.sampled_from(sorted(MONITORS)), max_size=2),
    faulty=st.one_of(st.just(frozenset()), st.frozensets(st.sampled_from(sorted(MONITORS)), max_size=2)),
    retreated=st.booleans(),
    obstructed=st.sampled_from([False, False, False, True]),
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
            assert h.guarded
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
        # An emergency stop holds whatever else is asked; motion after it is the descent, once it is released or
        # nobody is there; nothing but a second press lets go before.
        if before.phase is Phase.ESTOP and changed:
            assert state.phase in (Phase.SETTLING, Phase.LIMP_FAULT, Phase.DISCONNECTED)
            assert state.fault is not None
            if state.phase is Phase.SETTLING and h.attended:
                assert not h.estop and h.request in (Request.SETTLE, Request.ACKNOWLEDGE)
            if state.phase is Phase.LIMP_FAULT:
                assert h.estop_press or h.bus_age > D.feedback_fault or h.torque_gone
        stoppable = before.phase in ENERGISED and before.phase not in (Phase.SETTLING, Phase.ESTOP)
        if stoppable and h.estop and h.connected:
            assert state.phase is Phase.ESTOP and action(state, h, D) is Action.BRAKE
        # A way out is gone once, with the fault latched.
        if changed and state.phase is Phase.RETREATING:
            assert before.phase is Phase.FAULT_HOLD and before.retreat is not None and state.fault is not None
        if before.phase is Phase.RETREATING and changed:
            assert state.retreat is None or (state.retreat is Retreat.YIELD is not before.retreat)
            assert state.retreat is None or (state.phase is Phase.FAULT_HOLD and h.obstructed)
        if changed and state.phase is Phase.LIMP and before.phase in ENERGISED:
            assert before.phase is Phase.SETTLING and h.rested
        doing = action(state, h, D)
        if state.phase in (Phase.FAULT_HOLD, Phase.HOLD, Phase.STOPPING):
            assert doing is Action.HOLD
        if doing in (Action.FOLLOW, Action.RETREAT):
            assert h.feedback_age <= D.feedback_hold
        if doing is Action.DESCEND:
            assert h.bus_age <= D.feedback_hold
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
            {"estop": True}, {"estop": True, "estop_press": True}, {"operator_age": 9.0}, {"retreated": True},
            {"obstructed": True},
            *({"faulty": frozenset([name])} for name in MONITORS),
        ):  # fmt: skip
            h = Health(
                request=request, connected=connected, identified=identified, feedback_age=feedback,
                bus_age=feedback, armed=armed, torque_lost=lost, torque_gone=lost,
                servo_fault=servo, still=True, relaxed=True,
            )._replace(**extra)  # fmt: skip
            for elapsed in (0.1, 2.0, 4.0, 25.0):
                way = Retreat.HOME if Phase.RETREATING in (row.target, row.sources[0]) else None
                after = advance(elapsed, State(row.sources[0], 0.0, None, 0.0, way), h, D)
                first = next(
                    (r for r in TRANSITIONS if row.sources[0] in r.sources
                     and (r.target is not Phase.RETREATING or way is not None)
                     and CONDITIONS[r.condition](elapsed, h, D)), None,
                )  # fmt: skip
                if first == row:
                    reachable = True
                    assert after.phase is row.target and after.fault == row.fault
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
    silent = run(state, h._replace(feedback_age=20.0, bus_age=20.0), 7, 2)
    assert silent.phase is Phase.LIMP_FAULT and silent.fault == "feedback_lost"


def test_an_arm_that_is_partly_heard_is_lowered_not_dropped():
    """One joint that never answers again, five that do: held, then lowered by those; only silence lets go."""
    latched = State(Phase.FAULT_HOLD, 0.0, "feedback_lost", 0.0)
    h = GOOD._replace(feedback_age=3.0, bus_age=0.005, rested=False)
    assert run(latched, h, 4.9, 0).phase is Phase.FAULT_HOLD
    settling = run(latched, h, 5.2, 0)
    assert settling.phase is Phase.SETTLING and action(settling, h, D) is Action.DESCEND
    silent = h._replace(bus_age=0.05)
    assert action(settling, silent, D) is Action.HOLD
    one_off = h._replace(torque_lost=True)
    assert run(settling, one_off, 5, 6).phase is Phase.SETTLING, "those that hold lower the arm"
    assert run(settling, one_off._replace(torque_gone=True), 0.1, 6).phase is Phase.LIMP_FAULT
    assert run(settling, h._replace(bus_age=9.0), 0.1, 6).phase is Phase.LIMP_FAULT


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
            arrow = next(
                line for line in text.splitlines() if f"{source.value} --> {row.target.value}:" in line
            )
            names = arrow.split(": ")[1].split(", ")
            assert (f"{row.condition}*" if row.fault else row.condition) in names


def test_a_released_stop_waits_for_the_operator():
    pressed = GOOD._replace(request=Request.RUN, attended=True, estop=True, estop_press=True, rested=False)
    stopped = advance(1.0, State(Phase.RUNNING, 0.0), pressed, D)
    assert stopped == State(Phase.ESTOP, 1.0, "estop", 1.0)
    held = pressed._replace(estop_press=False)
    for request in Request:
        assert run(stopped, held._replace(request=request), 60, 1).phase is Phase.ESTOP
    released = held._replace(estop=False)
    for request in (Request.NONE, Request.ARM, Request.RUN, Request.STOP):
        assert run(stopped, released._replace(request=request), 60, 1).phase is Phase.ESTOP
    down = run(stopped, released._replace(request=Request.ACKNOWLEDGE), 3, 61)
    assert down.phase is Phase.SETTLING
    assert run(down, GOOD._replace(attended=True), 1, 65).phase is Phase.LIMP_FAULT


def test_a_second_press_lets_go_at_once():
    stopped = State(Phase.ESTOP, 1.0, "estop", 1.0)
    again = advance(1.01, stopped, GOOD._replace(estop=True, estop_press=True), D)
    assert again.phase is Phase.LIMP_FAULT and action(again, GOOD, D) is Action.RELAX
    # Still pressed: no acknowledgement counts.
    asked = GOOD._replace(request=Request.ACKNOWLEDGE, estop=True)
    assert run(again, asked, 5, 2).phase is Phase.LIMP_FAULT
    assert run(again, asked._replace(estop=False), 1, 8).phase is Phase.LIMP


def test_unattended_a_stop_is_lowered_although_it_is_still_pressed():
    stopped = State(Phase.ESTOP, 1.0, "estop", 1.0)
    h = GOOD._replace(estop=True, rested=False)
    assert run(stopped, h, 0.9, 1).phase is Phase.ESTOP
    down = run(stopped, h, 5, 1)
    assert down.phase is Phase.SETTLING
    # Pressed anew on the way down it stops again.
    assert advance(9.0, down, h._replace(estop_press=True), D).phase is Phase.ESTOP


def test_a_stop_that_is_pressed_keeps_the_arm_from_arming():
    limp = State(Phase.LIMP, 0.0)
    assert advance(1, limp, GOOD._replace(request=Request.ARM, estop=True), D).phase is Phase.LIMP_FAULT


def test_a_lost_camera_sends_the_arm_home_first():
    h = GOOD._replace(request=Request.RUN, camera_needed=True, camera_age=4.0, retreated=False, rested=False)
    latched = advance(1.0, State(Phase.RUNNING, 0.0), h, D)
    assert latched == State(Phase.FAULT_HOLD, 1.0, "camera_lost", 1.0, Retreat.HOME)
    going = run(latched, h, 0.02, 1)
    assert going.phase is Phase.RETREATING and action(going, h, D) is Action.RETREAT
    there = advance(3.0, going, h._replace(retreated=True), D)
    assert there == State(Phase.FAULT_HOLD, 3.0, "camera_lost", 1.0)
    assert run(there, h, 2, 3).phase is Phase.SETTLING, "once there it is lowered like after any fault"
    assert run(going, h, 11, 1).phase is not Phase.RETREATING, "not for ever"


def test_an_arm_that_is_obstructed_on_its_way_out_stops_pushing():
    going = State(Phase.RETREATING, 1.0, "camera_lost", 1.0, Retreat.HOME)
    h = GOOD._replace(obstructed=True, retreated=False, rested=False)
    barred = advance(2.0, going, h, D)
    assert barred == State(Phase.FAULT_HOLD, 2.0, "camera_lost", 1.0, Retreat.YIELD)
    yielding = advance(2.01, barred, h._replace(obstructed=False), D)
    assert (yielding.phase, yielding.retreat) == (Phase.RETREATING, Retreat.YIELD)
    assert advance(3.0, yielding, GOOD, D) == State(Phase.FAULT_HOLD, 3.0, "camera_lost", 1.0)
    # The same where the fault has stopped it.
    held = State(Phase.FAULT_HOLD, 1.0, "policy_late", 1.0)
    assert advance(2.0, held, h, D) == State(Phase.FAULT_HOLD, 2.0, "policy_late", 1.0, Retreat.YIELD)


@pytest.mark.parametrize("phase", [Phase.FAULT_HOLD, Phase.ESTOP])
def test_an_arm_that_nothing_holds_is_not_said_to_be_held(phase):
    """Whoever attends is not asked to lower an arm that has fallen, or was never up."""
    state = State(phase, 0.0, "torque_lost", 0.0)
    h = GOOD._replace(attended=True, torque_lost=True, torque_gone=True)
    assert advance(0.01, state, h, D) == State(Phase.LIMP_FAULT, 0.01, "torque_lost", 0.0)


def test_warnings_degrade_and_faults_latch_by_name():
    h = GOOD._replace(request=Request.RUN, warned=frozenset({"overheated"}))
    degraded = run(State(Phase.RUNNING, 0.0), h, 0.1, 0)
    assert degraded.phase is Phase.DEGRADED and action(degraded, h, D) is Action.FOLLOW
    for name in MONITORS:
        latched = advance(1.0, degraded, h._replace(faulty=frozenset({name})), D)
        assert (latched.phase, latched.fault) == (Phase.FAULT_HOLD, name)


def test_torque_does_not_come_on_where_nobody_could_lower_the_arm():
    h = GOOD._replace(request=Request.ARM, guarded=False, armed=False)
    after = run(State(Phase.LIMP, 0.0), h, 1.0, 0)
    assert (after.phase, after.fault) == (Phase.LIMP_FAULT, "watchdog_lost")


def test_an_arm_that_moves_while_torque_comes_on_is_not_tried_again():
    arming = State(Phase.ARMING, 0.0)
    h = GOOD._replace(request=Request.ARM, armed=False)
    assert run(arming, h, 1.0, 0).phase is Phase.ARMING
    failed = advance(0.1, arming, h._replace(refused=True), D)
    assert (failed.phase, failed.fault) == (Phase.LIMP_FAULT, "arming_failed")


def test_an_operator_who_is_gone_stops_the_arm():
    h = GOOD._replace(request=Request.RUN, operator_age=D.operator + 0.01)
    assert advance(1.0, State(Phase.RUNNING, 0.0), h, D).fault == "operator_lost"
