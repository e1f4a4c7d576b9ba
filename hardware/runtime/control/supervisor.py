"""What the control loop may do: a pure function of time, state and health.

`advance(time, state, health, deadlines)` returns the next state; `action(state, health, deadlines)` what the
loop does in it. Nothing here reads a clock or touches hardware. `TRANSITIONS` is the whole behaviour: the first
row whose source and condition match wins, so rows are in order of urgency.

Stops follow the categories of IEC 60204-1 in spirit (this is no safety-rated system): every end of motion is a
controlled stop with power kept (`stopping`, `fault_hold`: the gate brakes, the arm holds at least `hold` s), then
a slow descent to rest (`settling`), and only then torque off (`limp`, `limp_fault`). Some faults have a way out
that comes first (`retreating`, see `Retreat`). Faults latch: they survive every state until an operator
acknowledges them in `limp_fault`, and nothing arms without a request.

`estop` brakes as hard as the gate can and holds, whatever else is asked. With an operator it is left only when
the input is released and the operator says so; unattended the arm is lowered after the hold like after a fault.
Pressed once more, it lets go at once.
"""

from collections.abc import Callable
from enum import Enum, StrEnum
from typing import Final, NamedTuple

from hardware.runtime.control.deadlines import Deadlines
from hardware.runtime.control.health import Health as Health
from hardware.runtime.control.health import Request as Request
from hardware.runtime.fault_codes import FaultCode


class Phase(StrEnum):
    """States of the supervisor. The order is that of the codes in logs."""

    DISCONNECTED = "disconnected"
    IDENTIFYING = "identifying"
    LIMP = "limp"
    ARMING = "arming"
    HOLD = "hold"
    RUNNING = "running"
    DEGRADED = "degraded"
    STOPPING = "stopping"
    FAULT_HOLD = "fault_hold"
    SETTLING = "settling"
    LIMP_FAULT = "limp_fault"
    ESTOP = "estop"
    RETREATING = "retreating"


CODES: Final = {phase: code for code, phase in enumerate(Phase)}
"""Numbers of the states, for logs and recordings."""


class Action(Enum):
    """What the loop does in this tick."""

    NOTHING = "nothing"
    """No exchange on the bus."""
    OBSERVE = "observe"
    """Read the servos, send nothing."""
    ENABLE = "enable"
    """Torque on with the present position as goal, then hold it."""
    HOLD = "hold"
    """Brake within the gate's limits and stay there."""
    FOLLOW = "follow"
    """Play the actions that are due through the gate."""
    BRAKE = "brake"
    """Like HOLD, with the gate's full deceleration whatever speed was chosen."""
    RETREAT = "retreat"
    """Go the way out of the latched fault, slowly, through the gate."""
    DESCEND = "descend"
    """Lower the arm slowly to its rest pose through the gate."""
    RELAX = "relax"
    """Torque off on every servo."""


class Retreat(Enum):
    """Where the arm goes by itself after a fault that has a way out, before it is lowered."""

    HOME = "home"
    """Slowly to the home pose."""
    RELEASE = "release"
    """Open the gripper, then raise the arm."""
    YIELD = "yield"
    """Let the goal come back to where the arm really is, so that it stops pushing."""


class State(NamedTuple):
    """Where the supervisor is, since when, and the latched fault (its name) if there is one."""

    phase: Phase = Phase.DISCONNECTED
    since: float = 0.0
    fault: FaultCode | None = None
    fault_since: float = 0.0
    retreat: Retreat | None = None
    """The way out that is still to be gone."""


MONITORS: Final[dict[FaultCode, Retreat | None]] = {
    FaultCode.STALLED: Retreat.YIELD,
    FaultCode.OFF_TRACK: Retreat.YIELD,
    FaultCode.OVERHEATED: None,
    FaultCode.VOLTAGE: None,
    FaultCode.OVERCURRENT: Retreat.YIELD,
    FaultCode.OVERLOADED: None,
    FaultCode.ENCODER_JUMPED: None,
    FaultCode.GRIPPER_STUCK: Retreat.RELEASE,
}
"""The monitors of `monitors.py`, each a latching fault of its own name, with the way out of it."""


OBSTRUCTIONS: Final = frozenset(name for name, way in MONITORS.items() if way is Retreat.YIELD)
"""Monitors that see an arm pushing against something."""

Test = Callable[[float, Health, Deadlines], bool]
"""(seconds in this state, health, deadlines) → whether a condition holds."""


class Condition(StrEnum):
    """What transitions depend on, besides the faults (`FaultCode`), which are conditions as well."""

    CONNECTED = "connected"
    RECONNECTED = "reconnected"
    IDENTIFIED = "identified"
    ASKED_TO_ARM = "asked_to_arm"
    ARMED = "armed"
    ASKED_TO_RUN = "asked_to_run"
    NOT_ASKED_TO_RUN = "not_asked_to_run"
    IMPAIRED = "impaired"
    UNIMPAIRED = "unimpaired"
    STILL = "still"
    ASKED_TO_SETTLE = "asked_to_settle"
    HELD = "held"
    ESTOP_PRESSED = "estop_pressed"
    ESTOP_RELEASED = "estop_released"
    RETREAT_POSSIBLE = "retreat_possible"
    RETREAT_BARRED = "retreat_barred"
    RETREATED = "retreated"
    RETREAT_TOO_LONG = "retreat_too_long"
    OBSTRUCTED = "obstructed"
    SILENT = "silent"
    RESTED = "rested"
    TORQUE_GONE = "torque_gone"
    ACKNOWLEDGED = "acknowledged"


def _impaired(h: Health, d: Deadlines) -> bool:
    return (
        h.feedback_age > d.feedback_hold
        or bool(h.warned)
        or (h.policy_needed and h.remaining < 0)
        or (h.policy_needed and h.bad_chunks > 0)
        or (h.camera_needed and h.camera_age > d.camera_degraded)
    )


def _can_lower(t: float, h: Health, d: Deadlines) -> bool:
    """Whether every joint is heard; after a while it is enough that one is."""
    return h.feedback_age <= d.feedback_fault or (t >= d.silent and h.bus_age <= d.feedback_hold)


def _seen_by(monitor: FaultCode) -> Test:
    return lambda t, h, d: monitor in h.faulty


CONDITIONS: Final[dict[Condition | FaultCode, Test]] = {
    # Faults.
    FaultCode.PORT_LOST: lambda t, h, d: not h.connected,
    FaultCode.FEEDBACK_LOST: lambda t, h, d: h.feedback_age > d.feedback_fault,
    FaultCode.TORQUE_LOST: lambda t, h, d: h.torque_lost,
    FaultCode.SERVO_FAULT: lambda t, h, d: h.servo_fault,
    FaultCode.POLICY_DIED: lambda t, h, d: h.policy_needed and not h.policy_alive and h.remaining < 0,
    FaultCode.POLICY_LATE: lambda t, h, d: h.policy_needed and h.remaining < -d.policy_fault,
    FaultCode.POLICY_INVALID: lambda t, h, d: h.policy_needed and h.bad_chunks >= d.bad_chunks,
    FaultCode.POLICY_REJECTED: lambda t, h, d: h.policy_needed and h.rejected > d.rejected_fault,
    FaultCode.CAMERA_LOST: lambda t, h, d: h.camera_needed and h.camera_age > d.camera_fault,
    FaultCode.WATCHDOG_LOST: lambda t, h, d: not h.guarded,
    FaultCode.OPERATOR_LOST: lambda t, h, d: h.operator_age > d.operator,
    FaultCode.ESTOP: lambda t, h, d: h.estop,
    Condition.ESTOP_PRESSED: lambda t, h, d: h.estop_press,
    **{name: _seen_by(name) for name in MONITORS},
    FaultCode.ARMING_FAILED: lambda t, h, d: t > d.arming or h.refused,
    # The rest.
    Condition.CONNECTED: lambda t, h, d: h.connected,
    Condition.RECONNECTED: lambda t, h, d: h.connected and h.request is Request.ACKNOWLEDGE,
    Condition.IDENTIFIED: lambda t, h, d: h.identified,
    Condition.ASKED_TO_ARM: lambda t, h, d: h.request is Request.ARM and h.feedback_age <= d.feedback_hold,
    Condition.ARMED: lambda t, h, d: h.armed,
    Condition.ASKED_TO_RUN: lambda t, h, d: h.request is Request.RUN,
    Condition.NOT_ASKED_TO_RUN: lambda t, h, d: h.request is not Request.RUN,
    Condition.IMPAIRED: lambda t, h, d: _impaired(h, d),
    Condition.UNIMPAIRED: lambda t, h, d: not _impaired(h, d),
    Condition.STILL: lambda t, h, d: h.still,
    Condition.ASKED_TO_SETTLE: lambda t, h, d: h.request is Request.SETTLE and t >= d.hold,
    Condition.HELD: lambda t, h, d: (
        t >= d.hold and h.still and _can_lower(t, h, d) and (not h.attended or h.request is Request.SETTLE)
    ),
    Condition.ESTOP_RELEASED: lambda t, h, d: (
        t >= d.hold
        and h.still
        and _can_lower(t, h, d)
        and (not h.attended or (not h.estop and h.request in (Request.SETTLE, Request.ACKNOWLEDGE)))
    ),
    Condition.RETREAT_POSSIBLE: lambda t, h, d: (
        h.still and h.feedback_age <= d.feedback_hold and not h.torque_lost
    ),
    Condition.RETREATED: lambda t, h, d: h.retreated,
    Condition.OBSTRUCTED: lambda t, h, d: h.obstructed,
    Condition.RETREAT_TOO_LONG: lambda t, h, d: t > d.retreat,
    Condition.RETREAT_BARRED: lambda t, h, d: (
        h.feedback_age > d.feedback_fault or h.torque_lost or h.servo_fault or not h.guarded
    ),
    Condition.SILENT: lambda t, h, d: t >= d.silent and h.bus_age > d.feedback_fault,
    Condition.RESTED: lambda t, h, d: h.rested,
    FaultCode.SETTLING_TOO_LONG: lambda t, h, d: t > d.settling,
    Condition.TORQUE_GONE: lambda t, h, d: h.torque_gone,
    FaultCode.REST_UNREACHABLE: lambda t, h, d: h.bus_age > d.silent or h.torque_gone,
    Condition.ACKNOWLEDGED: lambda t, h, d: (
        h.request is Request.ACKNOWLEDGE and h.relaxed and h.connected and not h.estop
    ),
}


class Transition(NamedTuple):
    """One row of the table.

    `fault` is what the row latches. `retreat` is the way out that it opens; a row that leads to `retreating` counts
    only while there is one. A row that `clears` takes a latched fault back.
    """

    sources: tuple[Phase, ...]
    condition: Condition | FaultCode
    target: Phase
    fault: FaultCode | None = None
    retreat: Retreat | None = None
    clears: bool = False


def _latching(
    sources: tuple[Phase, ...],
    fault: FaultCode,
    target: Phase,
    retreat: Retreat | None = None,
    *,
    on: Condition | None = None,
) -> Transition:
    """A row that latches `fault`: when its own condition holds, or the condition `on`."""
    return Transition(sources, on or fault, target, fault, retreat)


P = Phase
ENERGISED: Final = (
    *(P.ARMING, P.HOLD, P.RUNNING, P.DEGRADED, P.STOPPING),
    *(P.FAULT_HOLD, P.SETTLING, P.ESTOP, P.RETREATING),
)
"""States in which torque is on."""
_WORKING: Final = (P.HOLD, P.RUNNING, P.DEGRADED, P.STOPPING)
_MOVING: Final = (P.RUNNING, P.DEGRADED)
_STOPPABLE: Final = tuple(phase for phase in ENERGISED if phase not in (P.SETTLING, P.ESTOP))

TRANSITIONS: Final[tuple[Transition, ...]] = (
    _latching((*ENERGISED, P.LIMP, P.IDENTIFYING, P.LIMP_FAULT), FaultCode.PORT_LOST, P.DISCONNECTED),
    Transition((P.ESTOP,), Condition.ESTOP_PRESSED, P.LIMP_FAULT),
    _latching(_STOPPABLE, FaultCode.ESTOP, P.ESTOP),
    _latching((P.SETTLING,), FaultCode.ESTOP, P.ESTOP, on=Condition.ESTOP_PRESSED),
    _latching((P.LIMP, P.IDENTIFYING), FaultCode.ESTOP, P.LIMP_FAULT),
    # Torque does not come on where nobody could lower the arm.
    _latching((P.LIMP,), FaultCode.WATCHDOG_LOST, P.LIMP_FAULT),
    _latching((P.ARMING,), FaultCode.ARMING_FAILED, P.LIMP_FAULT),
    _latching(_WORKING, FaultCode.TORQUE_LOST, P.FAULT_HOLD),
    _latching((*_WORKING, P.ARMING), FaultCode.SERVO_FAULT, P.FAULT_HOLD),
    _latching(_WORKING, FaultCode.FEEDBACK_LOST, P.FAULT_HOLD),
    _latching((*_WORKING, P.ARMING), FaultCode.WATCHDOG_LOST, P.FAULT_HOLD),
    _latching(_MOVING, FaultCode.POLICY_DIED, P.FAULT_HOLD),
    _latching(_MOVING, FaultCode.POLICY_LATE, P.FAULT_HOLD),
    _latching(_MOVING, FaultCode.POLICY_INVALID, P.FAULT_HOLD),
    _latching(_MOVING, FaultCode.POLICY_REJECTED, P.FAULT_HOLD),
    _latching(_MOVING, FaultCode.CAMERA_LOST, P.FAULT_HOLD, retreat=Retreat.HOME),
    _latching(_MOVING, FaultCode.OPERATOR_LOST, P.FAULT_HOLD),
    *(_latching((*_WORKING, P.ARMING), name, P.FAULT_HOLD, way) for name, way in MONITORS.items()),
    Transition((P.DISCONNECTED,), Condition.RECONNECTED, P.IDENTIFYING, clears=True),
    Transition((P.DISCONNECTED,), Condition.CONNECTED, P.IDENTIFYING),
    Transition((P.IDENTIFYING,), Condition.IDENTIFIED, P.LIMP),
    Transition((P.LIMP,), Condition.ASKED_TO_ARM, P.ARMING),
    Transition((P.ARMING,), Condition.ARMED, P.HOLD),
    Transition((P.HOLD,), Condition.ASKED_TO_RUN, P.RUNNING),
    Transition((P.HOLD,), Condition.ASKED_TO_SETTLE, P.SETTLING),
    Transition(_MOVING, Condition.NOT_ASKED_TO_RUN, P.STOPPING),
    Transition((P.RUNNING,), Condition.IMPAIRED, P.DEGRADED),
    Transition((P.DEGRADED,), Condition.UNIMPAIRED, P.RUNNING),
    Transition((P.STOPPING,), Condition.STILL, P.HOLD),
    Transition((P.FAULT_HOLD, P.ESTOP), Condition.TORQUE_GONE, P.LIMP_FAULT),
    Transition((P.FAULT_HOLD,), Condition.RETREAT_POSSIBLE, P.RETREATING),
    Transition((P.RETREATING,), Condition.RETREAT_BARRED, P.FAULT_HOLD),
    Transition((P.FAULT_HOLD, P.RETREATING), Condition.OBSTRUCTED, P.FAULT_HOLD, retreat=Retreat.YIELD),
    Transition((P.RETREATING,), Condition.RETREATED, P.FAULT_HOLD),
    Transition((P.RETREATING,), Condition.RETREAT_TOO_LONG, P.FAULT_HOLD),
    Transition((P.FAULT_HOLD,), Condition.HELD, P.SETTLING),
    Transition((P.ESTOP,), Condition.ESTOP_RELEASED, P.SETTLING),
    Transition((P.FAULT_HOLD, P.ESTOP), Condition.SILENT, P.LIMP_FAULT),
    Transition((P.SETTLING,), Condition.RESTED, P.LIMP),
    _latching((P.SETTLING,), FaultCode.REST_UNREACHABLE, P.LIMP_FAULT),
    _latching((P.SETTLING,), FaultCode.SETTLING_TOO_LONG, P.LIMP_FAULT),
    Transition((P.LIMP_FAULT,), Condition.ACKNOWLEDGED, P.LIMP, clears=True),
)


_ROWS: Final = {phase: tuple(row for row in TRANSITIONS if phase in row.sources) for phase in Phase}


def advance(time: float, state: State, health: Health, deadlines: Deadlines) -> State:
    """The next state. At most one transition is taken per call."""
    elapsed = time - state.since
    for row in _ROWS[state.phase]:
        if row.target is P.RETREATING and state.retreat is None:
            continue
        opened = None if row.fault is not None else row.retreat
        if opened is not None and state.retreat is opened:
            continue
        if not CONDITIONS[row.condition](elapsed, health, deadlines):
            continue
        fault, since, retreat = state.fault, state.fault_since, state.retreat
        if row.fault is not None and fault is None:
            fault, since, retreat = row.fault, time, row.retreat
        target = row.target
        if row.clears:
            fault = None
        elif fault is not None and target is P.LIMP:
            target = P.LIMP_FAULT
        elif fault is not None and target is P.IDENTIFYING:
            # A port that comes back after a fault is left alone until a person has looked.
            return state
        # A way out is gone once, and only from where the fault stopped the arm. One that is barred may open another.
        if opened is not None:
            retreat = opened
        elif target not in (P.FAULT_HOLD, P.RETREATING) or state.phase is P.RETREATING:
            retreat = None
        return State(target, time, fault, since, retreat)
    return state


_ACTIONS: Final = {
    P.DISCONNECTED: Action.NOTHING,
    P.IDENTIFYING: Action.NOTHING,
    P.LIMP: Action.OBSERVE,
    P.ARMING: Action.ENABLE,
    P.HOLD: Action.HOLD,
    P.RUNNING: Action.FOLLOW,
    P.DEGRADED: Action.FOLLOW,
    P.STOPPING: Action.HOLD,
    P.FAULT_HOLD: Action.HOLD,
    P.SETTLING: Action.DESCEND,
    P.LIMP_FAULT: Action.RELAX,
    P.ESTOP: Action.BRAKE,
    P.RETREATING: Action.RETREAT,
}


def action(state: State, health: Health, deadlines: Deadlines) -> Action:
    """What the loop does in `state`."""
    # An arm that is being lowered goes on as long as any joint is heard: it cannot be left where it is.
    age = health.bus_age if state.phase is P.SETTLING else health.feedback_age
    if state.phase in (P.DEGRADED, P.SETTLING, P.RETREATING) and age > deadlines.feedback_hold:
        return Action.HOLD
    return _ACTIONS[state.phase]


def diagram() -> str:
    """The transition table as a Mermaid state diagram, for the documentation: one arrow per pair of states."""
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for row in TRANSITIONS:
        for source in row.sources:
            name = f"{row.condition}*" if row.fault is not None else str(row.condition)
            arrows.setdefault((source, row.target), []).append(name)
    lines = ["stateDiagram-v2", "    [*] --> disconnected"]
    lines += [
        f"    {source.value} --> {target.value}: {', '.join(names)}"
        for (source, target), names in arrows.items()
    ]
    return "\n".join(lines)
