"""Every fault that can be injected, declared once: what happens, where, and what the arm must then do.

`faults.py` reads a fault's name and parameters against this table and puts it into effect, the proofs walk
through its cases, `sim2real chaos` draws from it, and the table in `docs/safety.md` is printed from it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

FEETECH, DYNAMIXEL = "feetech", "dynamixel"


class Place(StrEnum):
    """Where a fault is injected."""

    BUS = "bus"
    PORT = "port"
    SERVO = "servo"
    CAMERA = "camera"
    POLICY = "policy"
    PROCESS = "process"
    DISK = "disk"
    OPERATOR = "operator"


EMULATED: Final = frozenset({Place.BUS, Place.PORT, Place.SERVO, Place.CAMERA})
"""Places that are part of the emulated arm; the others belong to the program that drives it."""


@dataclass(frozen=True)
class FaultParameter:
    """A number that a fault takes: its value when none is given, its unit and its range (inclusive)."""

    name: str
    default: float
    unit: str
    low: float
    high: float
    text: str

    def __post_init__(self) -> None:
        if not self.low <= self.default <= self.high:
            raise ValueError(f"parameter {self.name}: default {self.default} outside {self.low}..{self.high}")


@dataclass(frozen=True)
class Case:
    """One use of a fault, and what must come of it while the arm is at work.

    `values` are parameters as on the command line; `latches` the faults of which one must be latched, ()
    that nothing may be latched and work goes on; "" among others that nothing need be. `per_day` is how often
    it is assumed to happen to one arm that works day and night: an assumption for fleet figures, not a measurement.
    What passes by itself is common, what lasts is rare.
    """

    values: str = ""
    latches: tuple[str, ...] = ()
    per_day: float = 0.1


@dataclass(frozen=True)
class FaultKind:
    """One row of the catalogue.

    `strength` is False where servos lose their strength or turn by themselves, so that how far
    the arm then sags or swings is up to physics and not to any program. `families`: the protocols that have it.
    """

    name: str
    place: Place
    what: str
    response: str
    cases: tuple[Case, ...]
    tests: tuple[str, ...]
    parameters: tuple[FaultParameter, ...] = ()
    lasts: float = 0.2
    strength: bool = True
    families: tuple[str, ...] = (FEETECH, DYNAMIXEL)

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or not self.cases or not self.lasts > 0:
            raise ValueError(f"fault {self.name!r} needs a name, a case and a duration")

    def parameter(self, name: str) -> FaultParameter | None:
        return next((p for p in self.parameters if p.name == name), None)


ID = FaultParameter("id", 0, "", 0, 253, "servo ID; 0: every servo")
ONE = FaultParameter("id", 3, "", 1, 253, "servo ID")
SHARE = FaultParameter("p", 1.0, "", 0, 1, "share of the replies that are hit")
EVER: Final = math.inf

_MATRIX = "runtime/test_proof.py::test_every_fault_in_every_state"
_CAMERA = "test_cameras.py::test_every_way_a_stream_fails_is_noticed_and_ends"
_CAMERA_LOOP = "runtime/test_loop.py::test_a_camera_that_stops_degrades_then_latches"
_KILL = "runtime/test_kill.py::test_whoever_dies_the_arm_ends_at_rest"
_RECORDER = "runtime/test_recorder_states.py::test_the_arm_does_not_mind"
_LOST = ("feedback_lost",)
_TORQUE = ("torque_lost",)
_JUMPED = ("feedback_lost", "encoder_jumped")
_BELIEVED = (
    *("torque_lost", "servo_fault", "overloaded", "overcurrent", "overheated", "voltage"),
    *("stalled", "off_track", "gripper_stuck"),
)
"""What may be seen in false values that no check can tell from true ones."""

_DAMAGE = "discarded and counted; the last good value counts until its deadline, then hold"

KINDS: Final = (
    FaultKind(
        "bit_flip", Place.BUS, "a bit of a reply is inverted", _DAMAGE,
        (Case("p=0.3,for=0.5", per_day=20), Case("for=0.2", per_day=10), Case("for=1.4", _LOST, per_day=0.02)),
        (_MATRIX, "test_bus.py::test_damage_is_attributed", "test_fuzz.py::test_damaged_replies_on_a_line"),
        (ID, SHARE, FaultParameter("bits", 1, "", 1, 64, "bits per reply")),
    ),
    FaultKind(
        "truncate", Place.BUS, "the end of a reply is missing", _DAMAGE,
        (Case("p=0.3,for=0.5", per_day=5), Case("for=0.2", per_day=2), Case("for=1.4", _LOST, per_day=0.01)),
        (_MATRIX, "test_fuzz.py::test_damaged_replies_on_a_line"), (ID, SHARE),
    ),
    FaultKind(
        "garbage", Place.BUS, "random bytes before a reply", _DAMAGE,
        (Case("for=0.5", per_day=5),),
        (_MATRIX, "test_fuzz.py::test_random_and_damaged_bytes"),
        (ID, SHARE, FaultParameter("bytes", 8, "", 1, 200, "number of bytes")),
    ),
    FaultKind(
        "compensate", Place.BUS, "two bytes of a reply change so that a plain sum does not see it",
        "rejected by plausibility (by the checksum where it is a CRC); the last good value counts until its "
        "deadline, then hold",
        (
            Case("id=3,p=0.1,for=0.5", ("", *_BELIEVED), per_day=1),
            Case("id=3,for=1.4", ("", *_JUMPED, *_BELIEVED), per_day=0.01),
        ),
        (_MATRIX, "test_bus.py::test_random_damage_never_yields_a_wrong_position"),
        (ID, SHARE, FaultParameter("by", 4, "", 1, 127, "how much each byte changes")),
    ),
    FaultKind(
        "wrong_id", Place.BUS, "a reply carries the ID of another servo", _DAMAGE,
        (Case("id=3,for=0.2", per_day=0.5), Case("id=3,for=1.4", _LOST, per_day=0.005)), (_MATRIX,), (ID, SHARE),
    ),
    FaultKind(
        "duplicate", Place.BUS, "a reply is sent twice", "counts once; input is cleared before the next request",
        (Case("for=0.5", per_day=2),), (_MATRIX, "test_bus.py::test_a_reply_sent_twice_counts_once"), (ID, SHARE),
    ),
    FaultKind(
        "late", Place.BUS, "a reply is held back", "dropped; never shifts a cycle",
        (
            Case("id=3,ms=12,for=0.3", per_day=30),
            Case("ms=30,for=0.2", per_day=10),
            Case("ms=30,for=1.4", _LOST, per_day=0.05),
        ),
        (_MATRIX, "test_bus.py::test_late_replies_never_shift_a_cycle"),
        (ID, SHARE, FaultParameter("ms", 15, "ms", 0, 1000, "by how much")),
    ),
    FaultKind(
        "empty", Place.BUS, "a whole reply, but without parameters", "a protocol error, never data",
        (Case("id=3,for=0.2", per_day=0.5), Case("id=3,for=1.4", _LOST, per_day=0.005)), (_MATRIX,), (ID, SHARE),
    ),
    FaultKind(
        "mute", Place.BUS, "one servo does not answer",
        "the others stay valid; hold, latched after 1 s with the joint's name",
        (Case("id=3,for=0.2", per_day=5), Case("id=3,for=1.4", _LOST, per_day=0.05)),
        (_MATRIX, "runtime/test_loop.py::test_one_silent_servo_latches_and_is_named"), (ONE,),
    ),
    FaultKind(
        "mute_all", Place.BUS, "no servo answers", "hold within 3 periods; goes on, or latches after 1 s",
        (Case("for=0.2", per_day=2), Case("for=1.4", _LOST, per_day=0.05)),
        (
            _MATRIX,
            "runtime/test_loop.py::test_bus_silence_holds_at_once_and_recovers",
            "runtime/test_loop.py::test_bus_silence_that_lasts_ends_in_limp_fault",
        ),
    ),
    FaultKind(
        "wrong_baud", Place.BUS, "servos run at another baud rate: they hear nothing and are heard as nothing",
        "as when they are silent",
        (Case("id=3,for=1.4", _LOST, per_day=0.005), Case("for=0.2", per_day=0.02)), (_MATRIX,), (ID,),
    ),
    FaultKind(
        "ignore_writes", Place.BUS, "goals do not reach the servo; it answers as ever",
        "the joint stays behind: seen in the tracking error, or by the servo's own load; never a jump when "
        "it hears again",
        (Case("id=3,for=0.1", per_day=0.5),), (_MATRIX,), (ID,),
    ),
    FaultKind(
        "second_master", Place.BUS, "another program reads from the same servos",
        "a second opener is refused; unexpected bytes are counted and dropped",
        (Case("rate=20,for=0.5", per_day=0.1),),
        (
            _MATRIX,
            "test_pty.py::test_second_opener_is_refused",
            "test_pty.py::test_busy_names_the_process_that_holds_the_port",
        ),
        (FaultParameter("rate", 20, "Hz", 0.1, 200, "how often it reads"),),
    ),
    FaultKind(
        "unplug", Place.PORT, "the port disappears", "one message, no crash; latched, never armed again by "
        "itself. Nobody can reach the servos any more: they hold their last goal",
        (Case("for=1", ("port_lost",), per_day=0.03),),
        (
            _MATRIX,
            "test_bus.py::test_unplugging_is_a_port_error",
            "runtime/test_loop.py::test_a_port_that_dies_is_no_crash",
        ),
        lasts=EVER,
    ),
    FaultKind(
        "rename", Place.PORT, "the port disappears and comes back under another name",
        "as unplugged; the next start identifies the arm again by model, IDs and EEPROM",
        (Case("for=0.5", ("port_lost",), per_day=0.02),),
        (_MATRIX, "test_faults.py::test_a_port_under_another_name_is_identified_again"), lasts=0.5,
    ),
    FaultKind(
        "brown_out", Place.SERVO, "the supply dips: RAM is lost, the torque goes, the EEPROM stays",
        "seen by read-back; the others hold, latched; arming is needed again",
        (Case("id=3", _TORQUE, per_day=0.03), Case("", _TORQUE, per_day=0.03)),
        (_MATRIX, "test_serial_arm.py::test_a_brown_out_is_seen"), (ID,),
        lasts=0.05, strength=False,
    ),
    FaultKind(
        "overload", Place.SERVO, "a servo is loaded beyond its threshold and protects itself",
        "fault hold, latched and named; the arm is lowered with what strength is left",
        (Case("id=2,for=0.5", ("servo_fault", "overloaded", "torque_lost"), per_day=0.05),), (_MATRIX,), (ONE,),
        lasts=0.5, strength=False,
    ),
    FaultKind(
        "overheat", Place.SERVO, "a motor is hotter than its limit, and its servo lets go",
        "fault hold, latched and named; the other joints are lowered",
        (Case("id=2,for=2", ("servo_fault", "torque_lost", "overheated"), per_day=0.02),),
        (_MATRIX, "runtime/test_loop.py::test_a_servo_that_reports_overheating_latches"),
        (ONE, FaultParameter("to", 80, "°C", 30, 125, "temperature")), lasts=EVER, strength=False,
    ),
    FaultKind(
        "watchdog_trip", Place.SERVO, "the servo's own bus watchdog has stopped it",
        "seen, explained, latched; cleared only by arming again",
        (Case("id=3", ("torque_lost", "servo_fault"), per_day=0.03),),
        ("runtime/test_proof.py::test_dynamixel_servos_at_work",), (ONE,),
        lasts=0.05, strength=False, families=(DYNAMIXEL,),
    ),
    FaultKind(
        "encoder_jump", Place.SERVO, "an encoder slips: position and goal are both off from then on",
        "rejected by the residual check; hold, latched",
        (Case("id=4,by=0.3,for=1.4", _JUMPED, per_day=0.005),),
        (_MATRIX, "test_serial_arm.py::test_an_encoder_that_jumped_stays_invalid_until_rearmed"),
        (ONE, FaultParameter("by", 0.3, "rad", -3.2, 3.2, "how far")), lasts=EVER, strength=False,
    ),
    FaultKind(
        "wrap", Place.SERVO, "the position that is read is off by one turn (4095 → 0)",
        "rejected as impossible; hold, latched when it lasts",
        (Case("id=5,for=0.03", per_day=0.1), Case("id=5,for=1.4", _JUMPED, per_day=0.005)), (_MATRIX,),
        (ONE, FaultParameter("turns", 1, "", -1, 1, "by how many turns")),
    ),
    FaultKind(
        "eeprom_locked", Place.SERVO, "what is written to the EEPROM is not taken",
        "surfaced with register and value, not retried for ever; nothing moves",
        (Case("for=60", per_day=0.005),), (_MATRIX, "test_faults.py::test_a_locked_eeprom_is_surfaced"), (ID,),
        lasts=EVER,
    ),
    FaultKind(
        "camera_stale", Place.CAMERA, "pictures come rarely",
        "degraded while the newest picture is too old; goes on by itself",
        (Case("every=0.5,for=2", per_day=2),), (_MATRIX, _CAMERA),
        (FaultParameter("every", 0.5, "s", 0.05, 60, "time between pictures"),), lasts=2.0,
    ),
    FaultKind(
        "camera_frozen", Place.CAMERA, "the same picture again and again",
        "detected by its hash; degraded, then latched", (Case("for=8", ("camera_lost",), per_day=0.02),),
        (_MATRIX, _CAMERA, "test_cameras.py::test_repeated_pictures_do_not_count_as_new"), lasts=8.0,
    ),
    FaultKind(
        "camera_black", Place.CAMERA, "pictures are black", "detected by brightness; degraded, then latched",
        (Case("for=1", per_day=0.5), Case("for=5", ("camera_lost",), per_day=0.02)),
        (_MATRIX, _CAMERA, _CAMERA_LOOP),
        lasts=5.0,
    ),
    FaultKind(
        "camera_stall", Place.CAMERA, "no more pictures", "degraded at the deadline, then latched",
        (Case("for=1", per_day=1), Case("for=5", ("camera_lost",), per_day=0.05)), (_MATRIX, _CAMERA, _CAMERA_LOOP),
        lasts=5.0,
    ),
    FaultKind(
        "policy_nan", Place.POLICY, "actions are not a number",
        "the chunk is refused, the one being executed goes on; four in a row latch",
        (Case("for=0.06", per_day=0.1), Case("for=1", ("policy_invalid",), per_day=0.01)),
        (_MATRIX, "runtime/test_loop.py::test_invalid_chunks_are_refused_then_latch"),
    ),
    FaultKind(
        "policy_inf", Place.POLICY, "actions are infinite", "as not a number",
        (Case("for=1", ("policy_invalid",), per_day=0.01),), (_MATRIX,),
    ),
    FaultKind(
        "policy_jump", Place.POLICY, "actions jump to and fro", "rejected or clipped: the limits hold",
        (Case("for=0.5", per_day=0.2), Case("by=0.1,for=1", per_day=0.5), Case("for=4", per_day=0.02)),
        (_MATRIX, "runtime/test_loop.py::test_a_teleporting_policy_stays_within_the_limits"),
        (FaultParameter("by", 1.5, "rad", 0.01, 6.3, "how far"),), lasts=0.5,
    ),
    FaultKind(
        "policy_stall", Place.POLICY, "no more chunks",
        "the chunk is played out, the arm decelerates and holds; latched after 1 s",
        (Case("for=0.8", per_day=2), Case("for=1.4", ("policy_late",), per_day=0.05)),
        (_MATRIX, "runtime/test_loop.py::test_a_stalled_policy_plays_out_then_holds_then_latches"),
        lasts=0.8,
    ),
    FaultKind(
        "policy_raise", Place.POLICY, "the policy raises an exception",
        "the chunk is played out, the arm holds; latched, with the exception's text",
        (Case("for=0.1", ("policy_died",), per_day=0.02),),
        (_MATRIX, "runtime/test_inference.py::test_failures_are_named"),
    ),
    FaultKind(
        "server_gone", Place.POLICY, "the policy server elsewhere does not answer any more",
        "as when no more chunks come; it is asked again for as long",
        (Case("for=0.8", per_day=0.5), Case("for=1.4", ("policy_late",), per_day=0.05)),
        (_MATRIX, "runtime/test_remote.py::test_whatever_a_server_does_the_arm_is_lowered_and_let_go"),
        lasts=1.4,
    ),
    FaultKind(
        "overrun", Place.PROCESS, "the control loop is kept from running",
        "whole periods are skipped, phase is kept, no burst of commands",
        (Case("ms=45,for=0.5", per_day=10), Case("ms=400,for=0.05", per_day=2)),
        (_MATRIX, "runtime/test_loop.py::test_overruns_skip_whole_periods_and_keep_phase"),
        (FaultParameter("ms", 45, "ms", 0, 5000, "for how long, once per tenth of a second"),),
    ),
    FaultKind(
        "clock_jump", Place.PROCESS, "the wall clock jumps", "no effect",
        (Case("by=-3600,for=1", per_day=0.5),), (_MATRIX,),
        (FaultParameter("by", -3600, "s", -1e9, 1e9, "how far"),), lasts=1.0,
    ),
    FaultKind(
        "sigterm", Place.PROCESS, "the control process is asked to end", "stop, hold, lower, limp; exit status "
        "143", (Case(per_day=0.5),), (_MATRIX, "runtime/test_session.py::test_an_interrupt_at_any_moment"),
    ),
    FaultKind(
        "kill_control", Place.PROCESS, "the control process is killed (SIGKILL)",
        "the watchdog process opens the port, holds, lowers, lets go", (Case(per_day=0.02),),
        ("runtime/test_watchdog.py::test_control_is_gone",),
        lasts=EVER,
    ),
    FaultKind(
        "stop_control", Place.PROCESS, "the control process hangs (SIGSTOP)",
        "the watchdog process kills it, then as above", (Case(per_day=0.01),),
        ("runtime/test_watchdog.py::test_control_is_gone",),
        lasts=EVER,
    ),
    FaultKind(
        "kill_helper", Place.PROCESS, "inference, camera or recorder is killed or hangs",
        "the arm holds or goes on by what it still has; what was recorded before is safe", (Case(per_day=0.05),),
        (_KILL, _RECORDER, "runtime/test_inference.py::test_failures_are_named"), lasts=EVER,
    ),
    FaultKind(
        "kill_watchdog", Place.PROCESS, "the watchdog process dies, or is stopped for 3 s",
        "nobody could lower the arm if control died as well: stop, hold, lower, limp; latched. Never armed then",
        (Case("", ("watchdog_lost",), per_day=0.01),),
        (
            _MATRIX, "runtime/test_watchdog.py::test_a_dead_watchdog_ends_the_session",
            "runtime/test_watchdog.py::test_a_watchdog_that_is_stopped_counts_as_gone",
            "runtime/test_loop.py::test_torque_stays_off_without_a_watchdog",
        ),
        lasts=EVER,
    ),
    FaultKind(
        "estop", Place.OPERATOR, "somebody presses the emergency stop",
        "brake with full deceleration and hold, whatever else is asked; latched. Unattended it is lowered then",
        (Case("", ("estop",), per_day=0.05),),
        (
            _MATRIX,
            "runtime/test_loop.py::test_an_emergency_stop_brakes_hard_and_holds",
            "runtime/test_loop.py::test_a_second_press_lets_go_but_a_held_key_does_not",
        ),
        lasts=0.05,
    ),
    FaultKind(
        "operator_gone", Place.OPERATOR, "the operator shows no sign of life where one is required",
        "stop, hold, lower, limp; latched after the operator's deadline",
        (Case("for=0.5", per_day=5), Case("for=2", ("operator_lost",), per_day=0.1)),
        (_MATRIX, "runtime/test_loop.py::test_an_operator_who_falls_silent_stops_the_arm"),
        lasts=2.0,
    ),
    FaultKind(
        "disk_full", Place.DISK, "nothing more can be written", "the episode is lost, the arm goes on",
        (Case(per_day=0.02),),
        (
            _RECORDER, "runtime/test_recorder.py::test_a_full_disk_is_reported_and_the_loop_goes_on",
            "runtime/test_session.py::test_trouble_of_the_recorder_does_not_stop_the_arm",
        ),
        lasts=EVER,
    ),
)  # fmt: skip
"""Every fault that the emulator can have, declared once."""

CATALOGUE: Final[Mapping[str, FaultKind]] = MappingProxyType({kind.name: kind for kind in KINDS})
"""Every fault by its name."""


def markdown() -> str:
    """The catalogue as a table for the documentation."""
    rows = ["| fault | where | what happens | what the arm must do | proof |", "|---|---|---|---|---|"]
    for kind in CATALOGUE.values():
        names = [f"`{p.name}`" for p in kind.parameters]
        takes = f" ({', '.join(names)})" if names else ""
        proof = ", ".join(f"`{test}`" for test in kind.tests)
        only = "" if len(kind.families) > 1 else f" ({kind.families[0]} only)"
        rows.append(
            f"| `{kind.name}`{takes} | {kind.place.value} | {kind.what}{only} | {kind.response} | {proof} |"
        )
    return "\n".join(rows) + "\n"
