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

from hardware.runtime.control.health import Deadlines as Deadlines
from hardware.runtime.control.health import Health as Health
from hardware.runtime.control.health import Request as Request


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
    fault: str | None = None
    fault_since: float = 0.0
    retreat: Retreat | None = None
    """The way out that is still to be gone."""


MONITORS: Final[dict[str, Retreat | None]] = {
    "stalled": Retreat.YIELD,
    "off_track": Retreat.YIELD,
    "overheated": None,
    "voltage": None,
    "overcurrent": Retreat.YIELD,
    "overloaded": None,
    "encoder_jumped": None,
    "gripper_stuck": Retreat.RELEASE,
}
"""The monitors of `monitors.py`, each a latching fault of its own name, with the way out of it."""


OBSTRUCTIONS: Final = frozenset(name for name, way in MONITORS.items() if way is Retreat.YIELD)
"""Monitors that see an arm pushing against something."""

Condition = Callable[[float, Health, Deadlines], bool]
"""(seconds in this state, health, deadlines) → whether it holds."""


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


def _seen_by(monitor: str) -> Condition:
    return lambda t, h, d: monitor in h.faulty


CONDITIONS: Final[dict[str, Condition]] = {
    # Faults.
    "port_lost": lambda t, h, d: not h.connected,
    "feedback_lost": lambda t, h, d: h.feedback_age > d.feedback_fault,
    "torque_lost": lambda t, h, d: h.torque_lost,
    "servo_fault": lambda t, h, d: h.servo_fault,
    "policy_died": lambda t, h, d: h.policy_needed and not h.policy_alive and h.remaining < 0,
    "policy_late": lambda t, h, d: h.policy_needed and h.remaining < -d.policy_fault,
    "policy_invalid": lambda t, h, d: h.policy_needed and h.bad_chunks >= d.bad_chunks,
    "policy_rejected": lambda t, h, d: h.policy_needed and h.rejected > d.rejected_fault,
    "camera_lost": lambda t, h, d: h.camera_needed and h.camera_age > d.camera_fault,
    "watchdog_lost": lambda t, h, d: not h.guarded,
    "operator_lost": lambda t, h, d: h.operator_age > d.operator,
    "estop": lambda t, h, d: h.estop,
    "estop_pressed": lambda t, h, d: h.estop_press,
    **{name: _seen_by(name) for name in MONITORS},
    "arming_failed": lambda t, h, d: t > d.arming or h.refused,
    # The rest.
    "connected": lambda t, h, d: h.connected,
    "reconnected": lambda t, h, d: h.connected and h.request is Request.ACKNOWLEDGE,
    "identified": lambda t, h, d: h.identified,
    "asked_to_arm": lambda t, h, d: h.request is Request.ARM and h.feedback_age <= d.feedback_hold,
    "armed": lambda t, h, d: h.armed,
    "asked_to_run": lambda t, h, d: h.request is Request.RUN,
    "not_asked_to_run": lambda t, h, d: h.request is not Request.RUN,
    "impaired": lambda t, h, d: _impaired(h, d),
    "unimpaired": lambda t, h, d: not _impaired(h, d),
    "still": lambda t, h, d: h.still,
    "asked_to_settle": lambda t, h, d: h.request is Request.SETTLE and t >= d.hold,
    "held": lambda t, h, d: (
        t >= d.hold and h.still and _can_lower(t, h, d) and (not h.attended or h.request is Request.SETTLE)
    ),
    "estop_released": lambda t, h, d: (
        t >= d.hold
        and h.still
        and _can_lower(t, h, d)
        and (not h.attended or (not h.estop and h.request in (Request.SETTLE, Request.ACKNOWLEDGE)))
    ),
    "retreat_possible": lambda t, h, d: h.still and h.feedback_age <= d.feedback_hold and not h.torque_lost,
    "retreated": lambda t, h, d: h.retreated,
    "obstructed": lambda t, h, d: h.obstructed,
    "retreat_too_long": lambda t, h, d: t > d.retreat,
    "retreat_barred": lambda t, h, d: (
        h.feedback_age > d.feedback_fault or h.torque_lost or h.servo_fault or not h.guarded
    ),
    "silent": lambda t, h, d: t >= d.silent and h.bus_age > d.feedback_fault,
    "rested": lambda t, h, d: h.rested,
    "settling_too_long": lambda t, h, d: t > d.settling,
    "torque_gone": lambda t, h, d: h.torque_gone,
    "rest_unreachable": lambda t, h, d: h.bus_age > d.silent or h.torque_gone,
    "acknowledged": lambda t, h, d: (
        h.request is Request.ACKNOWLEDGE and h.relaxed and h.connected and not h.estop
    ),
}


class Transition(NamedTuple):
    """One row of the table.

    `latch` makes the condition's name the latched fault (`fault`). `retreat` is the way out that a row opens; a row
    that leads to `retreating` counts only while there is one.
    """

    sources: tuple[Phase, ...]
    condition: str
    target: Phase
    latch: bool = False
    retreat: Retreat | None = None

    @property
    def fault(self) -> str:
        """Name of the fault: an emergency stop is one, however it was seen."""
        return self.condition.removesuffix("_pressed")


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
    Transition((*ENERGISED, P.LIMP, P.IDENTIFYING, P.LIMP_FAULT), "port_lost", P.DISCONNECTED, latch=True),
    Transition((P.ESTOP,), "estop_pressed", P.LIMP_FAULT),
    Transition(_STOPPABLE, "estop", P.ESTOP, latch=True),
    Transition((P.SETTLING,), "estop_pressed", P.ESTOP, latch=True),
    Transition((P.LIMP, P.IDENTIFYING), "estop", P.LIMP_FAULT, latch=True),
    # Torque does not come on where nobody could lower the arm.
    Transition((P.LIMP,), "watchdog_lost", P.LIMP_FAULT, latch=True),
    Transition((P.ARMING,), "arming_failed", P.LIMP_FAULT, latch=True),
    Transition(_WORKING, "torque_lost", P.FAULT_HOLD, latch=True),
    Transition((*_WORKING, P.ARMING), "servo_fault", P.FAULT_HOLD, latch=True),
    Transition(_WORKING, "feedback_lost", P.FAULT_HOLD, latch=True),
    Transition((*_WORKING, P.ARMING), "watchdog_lost", P.FAULT_HOLD, latch=True),
    Transition(_MOVING, "policy_died", P.FAULT_HOLD, latch=True),
    Transition(_MOVING, "policy_late", P.FAULT_HOLD, latch=True),
    Transition(_MOVING, "policy_invalid", P.FAULT_HOLD, latch=True),
    Transition(_MOVING, "policy_rejected", P.FAULT_HOLD, latch=True),
    Transition(_MOVING, "camera_lost", P.FAULT_HOLD, latch=True, retreat=Retreat.HOME),
    Transition(_MOVING, "operator_lost", P.FAULT_HOLD, latch=True),
    *(Transition((*_WORKING, P.ARMING), name, P.FAULT_HOLD, True, way) for name, way in MONITORS.items()),
    Transition((P.DISCONNECTED,), "reconnected", P.IDENTIFYING),
    Transition((P.DISCONNECTED,), "connected", P.IDENTIFYING),
    Transition((P.IDENTIFYING,), "identified", P.LIMP),
    Transition((P.LIMP,), "asked_to_arm", P.ARMING),
    Transition((P.ARMING,), "armed", P.HOLD),
    Transition((P.HOLD,), "asked_to_run", P.RUNNING),
    Transition((P.HOLD,), "asked_to_settle", P.SETTLING),
    Transition(_MOVING, "not_asked_to_run", P.STOPPING),
    Transition((P.RUNNING,), "impaired", P.DEGRADED),
    Transition((P.DEGRADED,), "unimpaired", P.RUNNING),
    Transition((P.STOPPING,), "still", P.HOLD),
    Transition((P.FAULT_HOLD, P.ESTOP), "torque_gone", P.LIMP_FAULT),
    Transition((P.FAULT_HOLD,), "retreat_possible", P.RETREATING),
    Transition((P.RETREATING,), "retreat_barred", P.FAULT_HOLD),
    Transition((P.FAULT_HOLD, P.RETREATING), "obstructed", P.FAULT_HOLD, retreat=Retreat.YIELD),
    Transition((P.RETREATING,), "retreated", P.FAULT_HOLD),
    Transition((P.RETREATING,), "retreat_too_long", P.FAULT_HOLD),
    Transition((P.FAULT_HOLD,), "held", P.SETTLING),
    Transition((P.ESTOP,), "estop_released", P.SETTLING),
    Transition((P.FAULT_HOLD, P.ESTOP), "silent", P.LIMP_FAULT),
    Transition((P.SETTLING,), "rested", P.LIMP),
    Transition((P.SETTLING,), "rest_unreachable", P.LIMP_FAULT, latch=True),
    Transition((P.SETTLING,), "settling_too_long", P.LIMP_FAULT, latch=True),
    Transition((P.LIMP_FAULT,), "acknowledged", P.LIMP),
)


_ROWS: Final = {phase: tuple(row for row in TRANSITIONS if phase in row.sources) for phase in Phase}


def advance(time: float, state: State, health: Health, deadlines: Deadlines) -> State:
    """The next state. At most one transition is taken per call."""
    elapsed = time - state.since
    for row in _ROWS[state.phase]:
        if row.target is P.RETREATING and state.retreat is None:
            continue
        opened = None if row.latch else row.retreat
        if opened is not None and state.retreat is opened:
            continue
        if not CONDITIONS[row.condition](elapsed, health, deadlines):
            continue
        fault, since, retreat = state.fault, state.fault_since, state.retreat
        if row.latch and fault is None:
            fault, since, retreat = row.fault, time, row.retreat
        target = row.target
        if row.condition in ("acknowledged", "reconnected"):
            fault = None
        elif fault is not None and target is P.LIMP:
            target = P.LIMP_FAULT
        elif fault is not None and target is P.IDENTIFYING:
            # A port that comes back after a fault is left alone until somebody has looked.
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
            name = f"{row.condition}*" if row.latch else row.condition
            arrows.setdefault((source, row.target), []).append(name)
    lines = ["stateDiagram-v2", "    [*] --> disconnected"]
    lines += [
        f"    {source.value} --> {target.value}: {', '.join(names)}"
        for (source, target), names in arrows.items()
    ]
    return "\n".join(lines)
