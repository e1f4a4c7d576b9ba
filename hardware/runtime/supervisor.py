"""What the control loop may do: a pure function of time, state and health.

`advance(time, state, health, deadlines)` returns the next state; `action(state, health, deadlines)` what the
loop does in it. Nothing here reads a clock or touches hardware. `TRANSITIONS` is the whole behaviour: the first
row whose source and condition match wins, so rows are in order of urgency.

Stops follow the categories of IEC 60204-1 in spirit (this is no safety-rated system): every end of motion is a
controlled stop with power kept (`stopping`, `fault_hold`: the gate brakes, the arm holds at least `hold` s), then
a slow descent to rest (`settling`), and only then torque off (`limp`, `limp_fault`). Faults latch: they survive
every state until an operator acknowledges them in `limp_fault`, and nothing arms without a request.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, NamedTuple


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


CODES: Final = {phase: code for code, phase in enumerate(Phase)}
"""Numbers of the states, for logs and recordings."""


class Request(Enum):
    """What the session or the operator wants. A wish stays until it changes; none of them skips a state."""

    NONE = "none"
    ARM = "arm"
    RUN = "run"
    STOP = "stop"
    SETTLE = "settle"
    ACKNOWLEDGE = "acknowledge"


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
    DESCEND = "descend"
    """Lower the arm slowly to its rest pose through the gate."""
    RELAX = "relax"
    """Torque off on every servo."""


@dataclass(frozen=True)
class Deadlines:
    """How long each signal may be missing, s."""

    feedback_hold: float = 0.025
    """Joint feedback older than this: brake and hold (before three periods at 100 Hz have passed)."""
    feedback_fault: float = 1.0
    """Joint feedback older than this: latch."""
    policy_fault: float = 1.0
    """After the last action was due, with no new chunk: latch. (Until then the arm has stopped at that action.)"""
    camera_degraded: float = 0.3
    camera_fault: float = 3.0
    """Age of the newest camera frame, where the task needs one."""
    bad_chunks: int = 4
    """Chunks refused in a row (not finite, wrong size): latch. The brief's "more than three failures"."""
    rejected_fault: float = 1.0
    """Requests rejected by the gate without a break: latch."""
    arming: float = 3.0
    hold: float = 1.0
    """Least time still before torque may go."""
    settling: float = 20.0
    silent: float = 5.0
    """A latched fault with no feedback at all: give up lowering the arm and switch torque off."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < float("inf"):
                raise ValueError(f"deadline {name} must be positive, got {value}")
        if self.hold < 1.0:
            raise ValueError(f"the arm must hold still for at least 1 s before torque goes, got {self.hold}")


class Health(NamedTuple):
    """Everything the supervisor knows in one tick. Ages in s; infinite when there was never a value."""

    request: Request = Request.NONE
    connected: bool = True
    """The port is open and has not died."""
    identified: bool = True
    """All servos answered and are what calibration and robot say they are."""
    feedback_age: float = 0.0
    """Age of the oldest joint's last good reading."""
    armed: bool = False
    """Torque is on and the arm has been seen not to move."""
    torque_lost: bool = False
    """A servo that should hold has let go (brown-out, reset)."""
    servo_fault: bool = False
    """A servo reports overload, heat, voltage or current."""
    policy_needed: bool = False
    policy_alive: bool = True
    remaining: float = 1.0
    """s until the last known action is due; negative when the policy is late."""
    bad_chunks: int = 0
    """Chunks refused in a row."""
    rejected: float = 0.0
    """s for which the gate has rejected every request."""
    camera_needed: bool = False
    camera_age: float = 0.0
    still: bool = False
    """The goal has stopped moving."""
    rested: bool = False
    """The descent has arrived."""
    attended: bool = False
    """An operator is there to decide what follows a fault."""
    relaxed: bool = False
    """Torque off has been confirmed."""
    guarded: bool = True
    """The watchdog process is there."""


class State(NamedTuple):
    """Where the supervisor is, since when, and the latched fault (its name) if there is one."""

    phase: Phase = Phase.DISCONNECTED
    since: float = 0.0
    fault: str | None = None
    fault_since: float = 0.0


Condition = Callable[[float, Health, Deadlines], bool]
"""(seconds in this state, health, deadlines) → whether it holds."""

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
    "arming_failed": lambda t, h, d: t > d.arming,
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
        t >= d.hold
        and h.still
        and h.feedback_age <= d.feedback_fault
        and (not h.attended or h.request is Request.SETTLE)
    ),
    "silent": lambda t, h, d: t >= d.silent and h.feedback_age > d.feedback_fault,
    "rested": lambda t, h, d: h.rested,
    "settling_too_long": lambda t, h, d: t > d.settling,
    "rest_unreachable": lambda t, h, d: h.feedback_age > d.silent or h.torque_lost,
    "acknowledged": lambda t, h, d: h.request is Request.ACKNOWLEDGE and h.relaxed and h.connected,
}


def _impaired(h: Health, d: Deadlines) -> bool:
    return (
        h.feedback_age > d.feedback_hold
        or (h.policy_needed and h.remaining < 0)
        or (h.policy_needed and h.bad_chunks > 0)
        or (h.camera_needed and h.camera_age > d.camera_degraded)
    )


class Transition(NamedTuple):
    """One row of the table. `latch` makes the condition's name the latched fault."""

    sources: tuple[Phase, ...]
    condition: str
    target: Phase
    latch: bool = False


P = Phase
ENERGISED: Final = (P.ARMING, P.HOLD, P.RUNNING, P.DEGRADED, P.STOPPING, P.FAULT_HOLD, P.SETTLING)
"""States in which torque is on."""
_WORKING: Final = (P.HOLD, P.RUNNING, P.DEGRADED, P.STOPPING)
_MOVING: Final = (P.RUNNING, P.DEGRADED)

TRANSITIONS: Final[tuple[Transition, ...]] = (
    Transition((*ENERGISED, P.LIMP, P.IDENTIFYING, P.LIMP_FAULT), "port_lost", P.DISCONNECTED, latch=True),
    Transition((P.ARMING,), "arming_failed", P.LIMP_FAULT, latch=True),
    Transition(_WORKING, "torque_lost", P.FAULT_HOLD, latch=True),
    Transition((*_WORKING, P.ARMING), "servo_fault", P.FAULT_HOLD, latch=True),
    Transition(_WORKING, "feedback_lost", P.FAULT_HOLD, latch=True),
    Transition((*_WORKING, P.ARMING), "watchdog_lost", P.FAULT_HOLD, latch=True),
    Transition(_MOVING, "policy_died", P.FAULT_HOLD, latch=True),
    Transition(_MOVING, "policy_late", P.FAULT_HOLD, latch=True),
    Transition(_MOVING, "policy_invalid", P.FAULT_HOLD, latch=True),
    Transition(_MOVING, "policy_rejected", P.FAULT_HOLD, latch=True),
    Transition(_MOVING, "camera_lost", P.FAULT_HOLD, latch=True),
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
    Transition((P.FAULT_HOLD,), "held", P.SETTLING),
    Transition((P.FAULT_HOLD,), "silent", P.LIMP_FAULT),
    Transition((P.SETTLING,), "rested", P.LIMP),
    Transition((P.SETTLING,), "rest_unreachable", P.LIMP_FAULT, latch=True),
    Transition((P.SETTLING,), "settling_too_long", P.LIMP_FAULT, latch=True),
    Transition((P.LIMP_FAULT,), "acknowledged", P.LIMP),
)


def advance(time: float, state: State, health: Health, deadlines: Deadlines) -> State:
    """The next state. At most one transition is taken per call."""
    elapsed = time - state.since
    for row in TRANSITIONS:
        if state.phase not in row.sources or not CONDITIONS[row.condition](elapsed, health, deadlines):
            continue
        fault, since = state.fault, state.fault_since
        if row.latch and fault is None:
            fault, since = row.condition, time
        target = row.target
        if row.condition in ("acknowledged", "reconnected"):
            fault = None
        elif fault is not None and target is P.LIMP:
            target = P.LIMP_FAULT
        elif fault is not None and target is P.IDENTIFYING:
            # A port that comes back after a fault is left alone until somebody has looked.
            return state
        return State(target, time, fault, since)
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
}


def action(state: State, health: Health, deadlines: Deadlines) -> Action:
    """What the loop does in `state`."""
    if state.phase in (P.DEGRADED, P.SETTLING) and health.feedback_age > deadlines.feedback_hold:
        return Action.HOLD
    return _ACTIONS[state.phase]


def diagram() -> str:
    """The transition table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> disconnected"]
    for row in TRANSITIONS:
        mark = " (latches)" if row.latch else ""
        lines += [
            f"    {source.value} --> {row.target.value}: {row.condition}{mark}" for source in row.sources
        ]
    return "\n".join(lines)
