"""The arm's side of a policy server: handshake, chunks, and servers that misbehave."""

import contextlib
import time

import numpy as np
import pytest

from hardware.runtime.sources.inference import InferenceProcess, observed_features
from hardware.runtime.sources.sources import LocalPolicy
from sim2real.camera import CameraModel
from sim2real.errors import HardwareError, UserError
from sim2real.policies import remote
from sim2real.policies.messages import Line, Message
from sim2real.policies.remote import RemotePolicy, Surroundings, offered
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task

from .servers import StubServer, good
from .test_loop import Rig

ROBOT = Robot.load("so101")


def observation(command: float = 0.1) -> dict[str, np.ndarray]:
    made = {f.name: np.zeros(f.size) for f in observed_features(load_task("reach"), ROBOT)}
    made["joint_command"] = np.full(6, command)
    return made


@pytest.fixture
def serve():
    running = []

    def make(*arguments, **options) -> StubServer:
        running.append(StubServer(*arguments, **options))
        return running[-1]

    yield make
    for server in running:
        with contextlib.suppress(OSError):
            server.close()


def test_a_chunk_answers_its_observation(serve):
    server = serve()
    policy = RemotePolicy(server.spec, "reach", ROBOT)
    policy.reset(7)
    assert policy.horizon == 8
    np.testing.assert_array_equal(policy.act(observation(0.25)), np.full((8, 6), 0.25))
    policy.reset(8)
    policy.act(observation())
    first, second = (message.fields for message in server.seen)
    assert (first["episode"], first["seed"], first["number"]) == (1, 7, 1)
    assert (second["episode"], second["seed"], second["number"]) == (2, 8, 2)
    assert first["time"] < second["time"]
    assert list(server.seen[0].arrays) == ["joint_command"], "nothing that was not asked for"
    hello = server.hellos[0].fields
    assert hello["joints"] == list(ROBOT.joint_names) and hello["task"] == "reach"
    assert hello["lower"] == pytest.approx(ROBOT.lower) and hello["gripper"] == "gripper"
    assert hello["rates"] == {"policy": 30, "command": 100}
    policy.close()


def test_what_a_server_offers_is_asked_without_a_task(serve):
    offer = offered(serve(task="push", name="my checkpoint", rate=50, horizon=16).spec, ROBOT)
    assert (offer.task, offer.name, offer.rate, offer.horizon) == ("push", "my checkpoint", 50.0, 16)


def test_a_server_with_another_rate_is_resampled(serve):
    ramp = np.arange(1, 11)[:, None] * 0.05 * np.ones(6)  # 1 rad/s at 20 Hz
    server = serve(lambda line, message: good(line, message, ramp), calm=0, rate=20, horizon=10)
    policy = RemotePolicy(server.spec, "reach", ROBOT)
    assert policy.horizon == 15
    chunk = policy.act(observation(0.0))
    np.testing.assert_allclose(chunk, np.arange(1, 16)[:, None] / 30 * np.ones(6))
    policy.close()


def test_pictures_are_sent_as_jpeg_with_their_times(serve):
    import cv2

    class Reader:
        camera = CameraModel.from_table(ROBOT.camera_tables["front"], "front")
        picture = np.zeros((480, 640, 3), np.uint8)
        picture[:, :320] = (200, 30, 10)

        def latest(self):
            return 41.5, self.picture

    server = serve(pictures=["front"])
    policy = RemotePolicy(server.spec, "reach", ROBOT, Surroundings(cameras={"front": Reader()}))
    policy.act(observation())
    assert server.hellos[0].fields["cameras"] == {"front": [480, 640]}
    assert server.seen[0].times == {"front": 41.5}
    decoded = cv2.imdecode(np.frombuffer(server.seen[0].pictures["front"], np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_allclose(decoded[240, 100, ::-1], (200, 30, 10), atol=6)
    policy.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "another version of the protocol: 2, this arm has 1"),
        ({"robot": "koch"}, "another robot: koch, this arm has so101"),
        ({"joints": ["a", "b"]}, "another joints: ['a', 'b']"),
        ({"task": "lift"}, "for the task 'lift', not for 'reach'; use --task lift"),
        ({"features": ["joint_torque"]}, "wants to observe joint_torque; there is joint_position"),
        ({"features": None}, "cannot be used"),
        ({"features": "joint_command"}, "cannot be used"),
        ({"pictures": ["wrist"]}, "wants to see the camera wrist; there is none"),
        ({"horizon": 0}, "horizon must be 1 to 256, got 0"),
        ({"horizon": 10**9}, "horizon must be 1 to 256"),
        ({"rate": 1000}, "rate must be 1 to 100 Hz, got 1000"),
        ({"rate": "nan"}, "rate must be 1 to 100 Hz, got nan"),
    ],
)
def test_an_offer_that_does_not_fit_is_refused(serve, changes, words):
    with pytest.raises(UserError) as caught:
        RemotePolicy(serve(**changes).spec, "reach", ROBOT)
    assert words in str(caught.value)


def test_nobody_there_and_no_address():
    server = StubServer()
    server.close()
    with pytest.raises(HardwareError, match="no policy server answers at tcp://127.0.0.1"):
        offered(server.spec, ROBOT)
    with pytest.raises(UserError, match=r"HOST:PORT.*e\.g\. --policy tcp://127.0.0.1:5555"):
        offered("tcp://nowhere", ROBOT)


def closes(line: Line, message: Message) -> None:
    line.socket.shutdown(2)


def stalls(line: Line, message: Message) -> None:
    time.sleep(60)


def babbles(line: Line, message: Message) -> None:
    line.socket.sendall(np.random.default_rng(0).bytes(4000))


def answers_another(line: Line, message: Message) -> None:
    line.send(Message("chunk", {"number": 999}, {"chunk": np.zeros((8, 6))}))


def floods(line: Line, message: Message) -> None:
    line.send(Message("chunk", {"number": message.fields["number"]}, {"chunk": np.zeros((4000, 6))}))


def complains(line: Line, message: Message) -> None:
    line.send(Message("problem", {"message": "out of memory"}))


def sends_nothing(line: Line, message: Message) -> None:
    line.send(Message("chunk", {"number": message.fields["number"]}))


FATAL = {
    closes: "closed the connection",
    stalls: "not answered within 1 s",
    babbles: "does not speak this protocol",
    answers_another: "with 'chunk' 999",
    floods: "too long",
    complains: "out of memory",
    sends_nothing: "without the array 'chunk'",
}


@pytest.mark.parametrize("misdeed", FATAL, ids=lambda f: f.__name__)
def test_a_server_that_breaks_the_protocol_has_died(serve, misdeed, monkeypatch):
    monkeypatch.setattr(remote, "ANSWER_TIMEOUT", 1.0)
    policy = RemotePolicy(serve(misdeed).spec, "reach", ROBOT)
    policy.act(observation())
    with pytest.raises(HardwareError, match="policy server tcp://") as caught:
        policy.act(observation())
    assert FATAL[misdeed] in str(caught.value)


@pytest.mark.parametrize(
    "rows",
    [np.full((8, 6), np.nan), np.zeros((8, 3)), np.zeros(6), np.zeros((0, 6)), np.zeros((2, 3, 6))],
    ids=lambda rows: str(rows.shape),
)
def test_wrong_chunks_reach_the_loop_as_they_are(serve, rows):
    """The loop refuses them like those of any other policy; nothing here repairs or hides them."""
    server = serve(lambda line, message: good(line, message, rows), rate=20)
    policy = RemotePolicy(server.spec, "reach", ROBOT)
    policy.act(observation())
    got = policy.act(observation())
    assert not np.isfinite(got).all() or got.ndim != 2 or got.shape[1] != 6 or len(got) == 0


def wait(condition, seconds: float = 30.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError("nothing came")


def test_it_is_a_policy_source_behind_the_inference_process(serve):
    """Timestamped chunks; then a shape that is refused; then a server that dies. `poll` and `send` never wait."""
    deeds = iter([lambda line, message: good(line, message, np.zeros((8, 3))), closes])
    server = serve(lambda line, message: next(deeds)(line, message), calm=2)
    source = InferenceProcess(server.spec, "reach", "so101")
    try:
        source.wait_ready()
        source.reset(3)
        source.send(12.5, observation(0.2))
        answer = wait(source.poll)
        assert answer.chunk.start == 12.5 and answer.chunk.period == pytest.approx(1 / 30)
        np.testing.assert_array_equal(answer.chunk.positions, np.full((8, 6), 0.2))
        source.send(12.6, observation())
        answer = wait(source.poll)
        assert answer.chunk is None and "shape" in answer.problem and source.alive
        source.send(12.7, observation())
        wait(lambda: not source.alive)
        assert "closed the connection" in source.problem
    finally:
        source.close()


def test_an_unreachable_server_is_one_message(serve):
    server = serve()
    server.close()
    source = InferenceProcess(server.spec, "reach", "so101")
    with pytest.raises(UserError, match="no policy server answers"):
        source.wait_ready()
    source.close()


@pytest.mark.parametrize(
    ("misdeed", "fault", "detail"),
    [
        (closes, "policy_died", "closed the connection"),
        (babbles, "policy_died", "does not speak this protocol"),
        (lambda line, message: good(line, message, np.full((8, 6), np.nan)), "policy_invalid", "not finite"),
        (lambda line, message: good(line, message, np.zeros((8, 4))), "policy_invalid", "4 joints"),
    ],
    ids=["closes", "babbles", "nan", "shape"],
)
def test_whatever_a_server_does_the_arm_is_lowered_and_let_go(serve, misdeed, fault, detail):
    """On simulated physics: within the gate's limits all the time, at rest and limp in the end."""
    rig = Rig()
    try:
        policy = RemotePolicy(serve(misdeed, calm=20).spec, "reach", ROBOT)
        rig.loop.policy.source = LocalPolicy(policy, 1 / ROBOT.policy_rate, rig.clock, 0.02)
        rig.start()
        assert rig.run(25.0, rig.loop.ended)
        rig.check_ended(fault)
        assert len(rig.loop.faults) == 1 and detail in rig.loop.faults[0]
        policy.close()
    finally:
        rig.world.close()
