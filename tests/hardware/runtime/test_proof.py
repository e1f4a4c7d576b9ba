"""Every fault in every state it can meet: real bytes, simulated physics, stepped clock.

Each case brings an arm into a state, injects one fault of the catalogue, and looks at what became of it: the
witness (`pipelines/proving.py`) has seen every step of the physics, and the end is what the catalogue says.
"""

import numpy as np
import pytest

from hardware.emulator.catalogue import CATALOGUE, Case, FaultKind, Place
from hardware.emulator.faults import parse_fault
from hardware.runtime.supervisor import ENERGISED, Phase, Request
from pipelines.proving import Rig
from sim2real.errors import Sim2RealError

WORKING = (Phase.HOLD, Phase.RUNNING, Phase.DEGRADED, Phase.STOPPING)
LIMP = (Phase.LIMP, Phase.LIMP_FAULT, Phase.IDENTIFYING, Phase.DISCONNECTED)
ON_THE_WAY_OUT = (Phase.FAULT_HOLD, Phase.SETTLING, Phase.ESTOP)
STATES = (*WORKING, Phase.ARMING, *LIMP, *ON_THE_WAY_OUT)

LEFT_OUT = {
    "sigterm": "ends a session, not a loop: test_session.py",
    "kill_control": "needs real processes: test_watchdog.py",
    "stop_control": "needs real processes: test_watchdog.py",
    "kill_helper": "needs real processes: test_watchdog.py",
    "disk_full": "never reaches the loop: test_recorder.py",
}


def cases(kind: FaultKind, phase: Phase) -> tuple[Case, ...]:
    """All of them while a policy runs, the worst one otherwise."""
    return kind.cases if phase is Phase.RUNNING else kind.cases[-1:]


def pairs() -> list[tuple[Phase, str]]:
    found = []
    for phase in STATES:
        for kind in CATALOGUE.values():
            if kind.name in LEFT_OUT or "feetech" not in kind.families or kind.place is Place.CAMERA:
                continue
            # Nobody asks a policy while none is followed, or while the last one does not answer.
            if kind.place is Place.POLICY and phase is not Phase.RUNNING:
                continue
            found.append((phase, kind.name))
    return found


class Prover(Rig):
    """A rig that can be brought into any state, again and again."""

    @property
    def phase(self) -> Phase:
        return self.loop.phase

    def fresh(self) -> None:
        """Whatever was before: as new, with driver and loop newly started."""
        self.reset()
        self.connect()
        self.start()
        assert self.until(lambda: self.phase is Phase.LIMP, 1.0)

    def enter(self, phase: Phase) -> None:
        """Bring the loop into `phase`. For ARMING and IDENTIFYING: to just before it."""
        self.fresh()
        loop = self.loop
        if phase in (Phase.LIMP, Phase.ARMING, Phase.IDENTIFYING):
            return
        loop.request = Request.ARM
        assert self.until(lambda: self.phase is Phase.HOLD, 3.0)
        loop.travel(self.base)
        loop.request = Request.RUN
        assert self.until(lambda: loop.arrived, 5.0)
        loop.request = Request.STOP
        assert self.until(lambda: self.phase is Phase.HOLD, 2.0)
        loop.request = Request.NONE
        if phase in (Phase.SETTLING, Phase.DISCONNECTED, Phase.HOLD):
            if phase is not Phase.HOLD:
                loop.request = Request.SETTLE
            if phase is Phase.DISCONNECTED:
                self.line.unplug()
            assert self.until(lambda: self.phase is phase, 3.0)
            return
        loop.start_policy(0)
        loop.request = Request.RUN
        self.run(0.4)
        assert self.phase is Phase.RUNNING
        if phase is Phase.STOPPING:
            loop.request = Request.STOP
        elif phase is Phase.DEGRADED:
            self.inject("policy_stall:for=0.9")
        elif phase in (Phase.FAULT_HOLD, Phase.LIMP_FAULT):
            self.inject("policy_raise:for=0.1")
        elif phase is Phase.ESTOP:
            loop.estop.press("test")
        assert self.until(lambda: self.phase is phase, 8.0)

    def inject(self, text: str) -> None:
        self.injector.add(parse_fault(text), self.clock.now())


@pytest.fixture(scope="module")
def shared():
    rigs: dict[str, Prover] = {}
    yield rigs
    for rig in rigs.values():
        rig.close()


@pytest.fixture
def rig(shared, request):
    """One arm of a kind for all cases; a new one after a case that failed."""
    robot = "koch" if "dynamixel" in request.node.name else "so101"
    if robot not in shared:
        shared[robot] = Prover(robot)
    rig = shared[robot]
    rig.witness.broken.clear()
    yield rig
    if request.node.stash.get(FAILED, True):
        shared.pop(robot).close()


FAILED = pytest.StashKey[bool]()


@pytest.mark.slow
@pytest.mark.parametrize(("phase", "name"), pairs(), ids=lambda value: str(value))
def test_every_fault_in_every_state(rig, request, phase, name):
    for case in cases(CATALOGUE[name], phase):
        check(rig, phase, CATALOGUE[name], case)
    request.node.stash[FAILED] = False


DYNAMIXEL = (
    "bit_flip",
    "compensate",
    "mute",
    "ignore_writes",
    "brown_out",
    "overload",
    "watchdog_trip",
    "unplug",
    "wrap",
    "wrong_id",
    "empty",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", DYNAMIXEL)
def test_dynamixel_servos_at_work(rig, request, name):
    """The other family: what is different on its line and in its servos."""
    check(rig, Phase.RUNNING, CATALOGUE[name], CATALOGUE[name].cases[-1])
    request.node.stash[FAILED] = False


def check(rig: Prover, phase: Phase, kind: FaultKind, case: Case) -> None:
    text = f"{kind.name}:{case.values}".rstrip(":")
    rig.enter(phase)
    before = rig.loop.state.fault
    fault = parse_fault(text)
    lasts = min(fault.lasts, 3.0)
    if phase is Phase.IDENTIFYING:
        identifies_or_refuses(rig, text)
    elif phase in LIMP:
        rig.inject(text)
        rig.run(min(lasts, 0.5) + 0.3)
        assert not rig.torque.any() or phase is Phase.DISCONNECTED
        assert rig.phase in (phase, Phase.DISCONNECTED)
    elif phase is Phase.ARMING:
        arms_or_refuses(rig, text, case)
    elif phase in WORKING:
        works_on_or_latches(rig, phase, text, kind, case, lasts)
    else:
        rig.inject(text)
        finds_its_way_out(rig, kind)
        assert before in (None, rig.loop.state.fault), "the first fault stays"
    assert rig.witness.broken == [], text


def identifies_or_refuses(rig: Prover, text: str) -> None:
    """A driver either finds the arm as it should be, or says what is wrong; torque stays off."""
    rig.loop = None
    rig.inject(text)
    start = rig.clock.now()
    try:
        rig.connect()
    except Sim2RealError as error:
        assert len(str(error)) > 20
    assert rig.clock.now() - start < 15.0
    assert not rig.torque.any()


def arms_or_refuses(rig: Prover, text: str, case: Case) -> None:
    loop = rig.loop
    loop.request = Request.ARM
    at = rig.clock.now() + 0.1
    rig.injector.add(parse_fault(text + ("," if ":" in text else ":") + "at=0.1"), rig.clock.now())
    assert rig.until(lambda: rig.phase is Phase.HOLD or loop.ended(), 30.0)
    assert rig.clock.now() > at
    if rig.phase is Phase.HOLD:
        loop.request = Request.NONE
        rig.run(0.3)
        assert rig.phase in (Phase.HOLD, Phase.FAULT_HOLD)
    elif rig.phase is not Phase.DISCONNECTED:
        assert loop.state.fault in {"arming_failed", *case.latches}
        assert not rig.torque.any()


def works_on_or_latches(
    rig: Prover, phase: Phase, text: str, kind: FaultKind, case: Case, lasts: float
) -> None:
    loop = rig.loop
    rig.inject(text)
    rig.until(lambda: loop.state.fault is not None, lasts + 1.0)
    if not case.latches:
        assert loop.state.fault is None, f"{text} latched {loop.state.fault}"
        assert rig.phase is (Phase.RUNNING if phase in (Phase.RUNNING, Phase.DEGRADED) else Phase.HOLD)
        return
    if loop.state.fault is None and "" in case.latches:
        return
    allowed = {*case.latches, "policy_late"} if phase is Phase.DEGRADED else case.latches
    assert loop.state.fault in allowed, f"{text}: {rig.phase} with {loop.state.fault}"
    assert loop.faults
    if rig.phase is Phase.DISCONNECTED:
        # Nobody can reach the servos any more: they hold where they were told to be.
        rig.idle(1.0)
        assert np.abs(rig.plant.world.velocity).max() < 0.1 and rig.torque.all()
    elif phase is Phase.RUNNING:
        finds_its_way_out(rig, kind)
    else:
        rig.run(0.5)
        assert rig.phase not in WORKING


def finds_its_way_out(rig: Prover, kind: FaultKind) -> None:
    """By itself from a latched fault (or from being lowered) to limp, at rest if the servos have their strength."""
    loop = rig.loop
    fault = loop.state.fault
    rig.until(loop.ended, 40.0)
    assert loop.ended()
    assert fault is None or loop.state.fault == fault
    if rig.phase is Phase.DISCONNECTED:
        return
    assert not rig.torque.any()
    assert rig.phase is (Phase.LIMP if loop.state.fault is None else Phase.LIMP_FAULT)
    if kind.strength and "rest_unreachable" not in str(loop.state.fault):
        assert np.abs(rig.plant.world.position - rig.robot.rest)[:5].max() < 0.15
    # Nothing arms by itself, whatever is asked for except an acknowledgement.
    if loop.state.fault is not None:
        for wish in (Request.ARM, Request.RUN, Request.NONE):
            loop.request = wish
            rig.run(0.05)
            assert rig.phase not in ENERGISED and not rig.torque.any()
