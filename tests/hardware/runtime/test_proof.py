"""Every fault in every state it can meet: real bytes, simulated physics, stepped clock.

Each case brings an arm into a state, injects one fault of the catalogue, and looks at what became of it: the
witness (`pipelines/reliability/proving.py`) has seen every step of the physics, and the end is what the catalogue says.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.emulator.faults.catalogue import CATALOGUE, Case, FaultKind, Place
from hardware.emulator.faults.fault import parse_fault
from hardware.runtime.control.supervisor import ENERGISED, Phase, Request, Retreat
from pipelines.reliability.proving import ProvingRig
from pipelines.reliability.stand_ins import Sway
from sim2real.errors import Sim2RealError
from sim2real.robot import Robot

WORKING = (Phase.HOLD, Phase.RUNNING, Phase.DEGRADED, Phase.STOPPING)
LIMP = (Phase.LIMP, Phase.LIMP_FAULT, Phase.IDENTIFYING, Phase.DISCONNECTED)
FOLLOWING = (Phase.RUNNING, Phase.DEGRADED)
ON_THE_WAY_OUT = (Phase.FAULT_HOLD, Phase.RETREATING, Phase.SETTLING, Phase.ESTOP)
STATES = (*WORKING, Phase.ARMING, *LIMP, *ON_THE_WAY_OUT)
assert set(STATES) == set(Phase), "no state is left out"

SWING = 0.25
"""rad, at 0.4 Hz; less where the table is in the way."""

FOLLOWED = (Place.POLICY, Place.CAMERA)
"""Places that matter only while a policy is followed; the same holds for an operator's signs of life."""

LEFT_OUT = {
    "sigterm": "ends a session, not a loop: test_session.py",
    "kill_control": "needs real processes: test_watchdog.py",
    "stop_control": "needs real processes: test_watchdog.py",
    "kill_helper": "needs real processes: test_kill.py, test_recorder_states.py",
    "disk_full": "needs a real process: test_recorder_states.py",
}


def cases(kind: FaultKind, phase: Phase) -> tuple[Case, ...]:
    """All of them while a policy runs, the worst one otherwise."""
    return kind.cases if phase is Phase.RUNNING else kind.cases[-1:]


def pairs() -> list[tuple[Phase, str]]:
    found = []
    for phase in STATES:
        for kind in CATALOGUE.values():
            if kind.name in LEFT_OUT or "feetech" not in kind.families:
                continue
            if phase not in FOLLOWING and irrelevant(kind):
                continue
            # Before there is a loop nobody can press anything.
            if phase is Phase.IDENTIFYING and kind.place in (Place.OPERATOR, Place.PROCESS):
                continue
            found.append((phase, kind.name))
    return found


def irrelevant(kind: FaultKind) -> bool:
    """Whether it must not matter where no policy is followed."""
    return kind.place in FOLLOWED or kind.name == "operator_gone"


class Prover(ProvingRig):
    """A rig that can be brought into any state, again and again. Its home is nearer than the robot's, to save time."""

    def __init__(self, name: str) -> None:
        robot = Robot.load(name)
        super().__init__(replace(robot, home=robot.rest + 0.4 * (robot.home - robot.rest)))
        self.base = robot.rest + 0.2 * (robot.home - robot.rest)
        self.policy = Sway(robot, self.base, SWING * np.ones(robot.n))

    @property
    def phase(self) -> Phase:
        return self.loop.phase

    def fresh(self, position: np.ndarray | None = None) -> None:
        """Whatever was before: as new, limp at rest or at `position`, with driver and loop newly started."""
        self.reset(position)
        self.connect()
        self.start_whole()
        assert self.until(lambda: self.phase is Phase.LIMP, 1.0)

    def enter(self, phase: Phase) -> None:
        """Bring the loop into `phase`. For ARMING and IDENTIFYING: to just before it."""
        if phase in (Phase.LIMP, Phase.ARMING, Phase.IDENTIFYING):
            self.fresh()
            return
        # Held up by a hand, so to speak, until the torque comes on.
        self.fresh(self.base)
        loop = self.loop
        loop.request = Request.ARM
        assert self.until(lambda: self.phase is Phase.HOLD, 3.0)
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
            self.inject("camera_stall:for=0.6")
        elif phase in (Phase.FAULT_HOLD, Phase.LIMP_FAULT):
            self.inject("policy_raise:for=0.1")
        elif phase is Phase.ESTOP:
            loop.estop.press("test")
        elif phase is Phase.RETREATING:
            patient = loop.settings
            loop.settings = replace(patient, deadlines=replace(patient.deadlines, camera_fault=0.1))
            self.inject("camera_stall:for=0.2")
        assert self.until(lambda: self.phase is phase, 8.0)
        if phase is Phase.RETREATING:
            loop.settings = patient
            self.run(0.15)
            assert self.phase is phase and not loop.gate.at_rest

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


DYNAMIXEL = [
    kind.name
    for kind in CATALOGUE.values()
    if "dynamixel" in kind.families and kind.place in (Place.BUS, Place.PORT, Place.SERVO)
]


@pytest.mark.slow
@pytest.mark.parametrize("phase", [phase for phase in STATES if phase not in FOLLOWING], ids=str)
def test_where_no_policy_is_followed_its_faults_do_not_matter(rig, request, phase):
    """Nor do those of what only a policy needs: the arm does what it would have done."""
    rig.enter(phase)
    before = rig.loop.state
    for kind in CATALOGUE.values():
        if irrelevant(kind):
            rig.inject(f"{kind.name}:for=4")
    if phase is Phase.ARMING:
        rig.loop.request = Request.ARM
    rig.run(1.2)
    assert rig.injector.active("policy_raise") and rig.injector.active("camera_stall")
    assert rig.loop.state.fault == before.fault
    if phase in ON_THE_WAY_OUT:
        finds_its_way_out(rig, CATALOGUE["policy_raise"])
    else:
        after = {Phase.ARMING: Phase.HOLD, Phase.STOPPING: Phase.HOLD, Phase.IDENTIFYING: Phase.LIMP}
        assert rig.phase is after.get(phase, phase)
    assert rig.witness.broken == []
    request.node.stash[FAILED] = False


@pytest.mark.parametrize("what", ["estop", "kill_watchdog:for=9"])
def test_a_stop_while_torque_fails_to_come_on(rig, request, what):
    """One servo has its torque and hears nothing, so arming fails: no goal may be sent, that nobody has measured."""
    rig.enter(Phase.ARMING)
    start = rig.plant.world.position
    rig.loop.request = Request.ARM
    rig.injector.add(parse_fault("wrong_baud:id=3,at=0.1,for=0.8"), rig.clock.now())
    rig.until(lambda: rig.torque.any(), 1.0)
    assert rig.loop.phase is Phase.ARMING and not rig.loop.link.enabled
    rig.inject(what)
    farthest = 0.0
    for _ in range(600):
        rig.loop.tick()
        farthest = max(farthest, float(np.abs(rig.plant.world.position - start).max()))
        if rig.loop.ended():
            break
    assert farthest < 0.12
    assert rig.phase is Phase.LIMP_FAULT and not rig.torque.any()
    assert rig.loop.state.fault == CATALOGUE[what.split(":")[0]].cases[0].latches[0]
    assert rig.witness.broken == []
    request.node.stash[FAILED] = False


def test_an_arm_that_is_held_on_its_way_home_stops_pushing(rig, request):
    """Something holds the arm while it goes home after a lost camera: it yields, then it is lowered."""
    rig.enter(Phase.RUNNING)
    loop, servo = rig.loop, rig.plant.world.servo
    loop.goals.robot = Robot.load("so101")  # whose home is far enough
    loop.settings = replace(loop.settings, deadlines=replace(loop.settings.deadlines, camera_fault=0.1))
    rig.inject("camera_stall:for=0.2")
    assert rig.until(lambda: rig.phase is Phase.RETREATING, 3.0)
    held = rig.plant.world.position
    low, high = rig.plant.world.robot.lower.copy(), rig.plant.world.robot.upper.copy()
    low[:3], high[:3] = held[:3] - 0.02, held[:3] + 0.02
    rig.plant.world.set_joint_limits(low, high)
    try:
        assert rig.until(lambda: loop.state.retreat is Retreat.YIELD, 8.0)
        assert loop.state.fault == "camera_lost"
        assert rig.until(lambda: loop.state.retreat is None, 8.0)
        rig.run(0.5)
        assert np.abs(servo.duty[:3]).max() < 0.6, "it does not push any more"
    finally:
        rig.plant.world.set_joint_limits(*rig.calibration.limits)
    finds_its_way_out(rig, CATALOGUE["camera_stall"])
    request.node.stash[FAILED] = False


EVENTS = st.one_of(
    st.sampled_from(list(Request)),
    st.sampled_from(["press", "policy", "travel", "attend", "leave"]),
    st.sampled_from(
        [
            "mute:id=3,for=0.3", "mute_all:for=0.4", "mute_all:for=1.2", "brown_out:id=2", "brown_out",
            "policy_jump:for=0.5", "policy_nan:for=0.3", "policy_stall:for=1.6", "camera_stall:for=0.6",
            "overrun:ms=60,for=0.2", "late:ms=30,for=0.2", "ignore_writes:id=4,for=0.3", "wrong_baud:id=3,for=0.6",
            "kill_watchdog:for=0.3", "overload:id=3,for=0.3", "encoder_jump:id=4,by=0.3,for=0.5",
        ]
    ),
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=4, derandomize=True, database=None)
@given(events=st.lists(st.tuples(EVENTS, st.sampled_from([0.02, 0.1, 0.5])), min_size=8, max_size=14))
def test_whatever_is_asked_and_whatever_fails_the_promises_hold(shared, events):
    """Requests, stops and faults in any order: limits kept, faults latched, nothing armed that nobody asked for."""
    rig = shared.setdefault("so101", Prover("so101"))
    rig.witness.broken.clear()
    rig.enter(Phase.HOLD)
    loop = rig.loop
    for event, pause in events:
        before = loop.state
        if isinstance(event, Request):
            loop.request = event
        elif event == "press":
            loop.estop.press("somebody")
        elif event == "policy":
            loop.start_policy(1)
            loop.request = Request.RUN
        elif event == "travel":
            loop.travel(rig.robot.home)
            loop.request = Request.RUN
        elif event in ("attend", "leave"):
            loop.attended = event == "attend"
        else:
            rig.inject(event)
        rig.run(pause)
        if before.fault is not None and loop.state.fault != before.fault:
            assert loop.state.fault is None and loop.request in (Request.ACKNOWLEDGE, Request.ARM)
        if loop.phase in ENERGISED and before.phase not in ENERGISED:
            assert loop.request is Request.ARM
    loop.stop_policy()
    loop.attended, loop.request = False, Request.STOP
    rig.run(1.0)
    loop.request = Request.SETTLE
    assert rig.until(loop.ended, 60.0)
    assert not rig.torque.any() or loop.phase is Phase.DISCONNECTED
    assert rig.witness.broken == []


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
        ends = {phase, Phase.DISCONNECTED}
        if {"estop", "watchdog_lost"} & set(case.latches):
            ends |= {Phase.LIMP_FAULT}
        assert rig.phase in ends
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
        if loop.state.fault is None:
            assert rig.phase is Phase.HOLD
        else:
            assert loop.state.fault in case.latches and rig.phase in (Phase.FAULT_HOLD, Phase.LIMP_FAULT)
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
    assert loop.state.fault in case.latches, f"{text}: {rig.phase} with {loop.state.fault}"
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
