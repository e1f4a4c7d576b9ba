"""The agent of one robot: runs `deploy` with its policy, tells the hub what came of it, takes up what is offered.

A person starts it at the robot, and with it lets the arm move. From then on it runs a few episodes at a time, each run
with its own supervisor, gate and watchdog. The hub can offer a policy, which is taken up between two runs if its
signature is the publisher's, and can ask to stop. After a stop or a fault nothing runs until a person at the robot
says so.
"""

import fcntl
import secrets
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from hardware.fleet.certificates import Identity
from hardware.fleet.link import Endpoint
from hardware.fleet.messages import MANY, Answer, Batch, Offer, Refused
from hardware.fleet.outbox import QUOTA, Outbox, OutboxFull
from hardware.fleet.runs import Run, results
from hardware.fleet.shelf import Shelf
from hardware.fleet.signing import SignatureError
from hardware.fleet.talk import NoAnswer, Talk
from sim2real.errors import Sim2RealError, UserError
from sim2real.files import read_json, write_json, write_text
from sim2real.text import printable

HEARTBEAT = 1.0
"""s between two questions to the hub."""
GREETING = 1.0
"""s after the start until the hub is asked for the first time."""
LEFT = 50
"""Policies that were left, remembered at most."""
KNOCKS = 10.0
"""s between two tries to find out why there is no answer."""
PATIENCE = (5.0, 60.0)
"""s after a run that did not work, and at most after many in a row."""
ENDING = 90.0
"""s that a run may take to lower the arm and let go when the agent ends."""


@dataclass(frozen=True)
class Settings:
    """What a person at the robot decides. `arguments` are further ones of `deploy`."""

    hub: Endpoint
    identity: Identity
    state: Path
    port: str | None = None
    """None: nothing is run, what others leave in `runs` is told."""
    arguments: tuple[str, ...] = ()
    episodes: int = 5
    """Of one run."""
    record: bool = False
    """Whether each run is recorded as a data set."""
    runs: Path | None = None
    quota: int = QUOTA
    heartbeat: float = HEARTBEAT

    @property
    def folder(self) -> Path:
        return self.runs or self.state / "runs"


@dataclass
class Memory:
    """What an agent knows after it was killed. Whole on the disk at all times."""

    offer: dict[str, Any] | None = None
    """What the hub offered last and we took up."""
    good: str | None = None
    """The policy before it."""
    left: dict[str, str] = field(default_factory=dict)
    """Policies that we have left or refused by ourselves, and why."""
    stop: str | None = None
    """The last request to stop that was obeyed."""
    held: str = ""
    """Why nothing runs until a person says so."""
    runs: int = 0
    alone: int = 0
    """Episodes since the hub was last heard."""

    @classmethod
    def at(cls, path: Path) -> "Memory":
        return cls(**read_json(path)) if path.exists() else cls()


class Agent:
    """`run` goes on until `stop`. Raises UserError where the state's folder is another agent's or cannot be written."""

    def __init__(self, settings: Settings, say: Callable[[str], None] = lambda text: say_line(text)) -> None:
        self.settings = settings
        self.say = say
        identity, state = settings.identity, settings.state
        self._lock = _locked(state)
        self.outbox = Outbox(state / "outbox.db", settings.quota)
        self.shelf = Shelf(state / "policies", identity.publisher.read_text())
        self._memory_file = state / "agent.json"
        try:
            self.memory = Memory.at(self._memory_file)
        except TypeError as error:
            raise UserError(f"{self._memory_file} is not an agent's: {error}") from None
        tls = (
            (identity.authority, identity.certificate, identity.key) if settings.hub.scheme == "tls" else None
        )
        self.talk = Talk(identity.name, settings.hub, tls)
        self.session = secrets.token_hex(8)
        self._known: set[str] = set()
        self._note = state / "run.json"
        self._run = Run.left(self._note)
        self._policy = ""
        self._wait_until = 0.0
        self._failures = 0
        self._next_ask = 0.0
        self._online: bool | None = None
        self._told = self._reason = ""
        self._next_reason = 0.0
        self._said: set[str] = set()
        self._ending = False
        self._full = False
        """Whether results wait for room in the outbox."""

    def stop(self) -> None:
        """End what runs, tell what came of it, and end."""
        self._ending = True

    def run(self) -> None:
        """Until `stop`."""
        if self._run is not None:
            self.say(f"a run that an earlier agent started goes on in {self._run.folder}")
        # The link takes a moment; being offline until then is no news.
        self._next_ask = time.monotonic() + GREETING
        while not self._ending:
            try:
                self.step(time.monotonic())
            except Sim2RealError as error:
                # A disk that is full may have room later; what runs meanwhile runs without us.
                self._say_once(str(error))
                time.sleep(1.0)
            time.sleep(0.1)
        self._end()

    def step(self, now: float) -> None:
        """One round."""
        self._heed_person()
        if self._run is not None and self._run.ended():
            self._finished(self._run, now)
        self._read_results()
        if now >= self._next_ask:
            self._next_ask = now + self.settings.heartbeat
            self._ask()
        if self._run is None and now >= self._wait_until:
            self._begin(now)

    # What the hub says

    def _ask(self) -> None:
        batch = self._batch(self.outbox.next(MANY))
        try:
            answer = self.talk.ask(batch)
        except (NoAnswer, Refused) as error:
            if self._online is not False:
                self.say(f"offline: {error}; what happens meanwhile is kept and told later")
            self._online = False
            self._find_reason()
            return
        if answer.refused:
            self._refused(answer)
            return
        if self._online is not True:
            self.say(f"online at {self.settings.hub} as {self.settings.identity.name}")
        self._online = True
        self._told = self._reason = ""
        if answer.acknowledged is not None and batch.messages:
            self.outbox.acknowledge(min(answer.acknowledged, batch.messages[-1].sequence))
            if len(batch.messages) == MANY:
                self._next_ask = 0.0
        if self.memory.alone:
            self._remember(alone=0)
        self._heed_stop(answer.stop)
        if answer.offer is not None:
            self._consider(answer.offer)

    def _find_reason(self) -> None:
        """Say why the hub cannot be reached, whenever that is another reason than before."""
        now = time.monotonic()
        if now < self._next_reason:
            return
        self._next_reason = now + KNOCKS
        reason = self.talk.reason()
        if reason and reason != self._reason:
            self.say(f"the hub at {self.settings.hub} cannot be reached: {printable(reason)}")
        self._reason = reason

    def _refused(self, answer: Answer) -> None:
        if answer.sequence is not None:
            self.say(f"the hub will not take message {answer.sequence}: {answer.refused}; it is put aside")
            self.outbox.put_aside(answer.sequence, answer.refused)
        elif answer.refused != self._told:
            self.say(f"the hub refuses this robot: {printable(answer.refused)}")
        self._told, self._online = answer.refused, False

    def _heed_stop(self, asked: str | None) -> None:
        if asked is None or asked == self.memory.stop:
            return
        self.say("the hub asks to stop: the run ends by its supervisor, and none is started until --resume")
        self._remember(stop=asked, held="stopped from the hub")
        self._event("state", {"held": self.memory.held})
        if self._run is not None:
            self._run.stop()

    def _consider(self, offer: Offer) -> None:
        """Take up what is offered, if it may be loaded."""
        digest = offer.manifest.digest
        before = self.memory.offer
        if offer.to_json() == before or digest in self.memory.left:
            return
        try:
            for one in filter(None, (offer.fallback, offer)):
                if not self.shelf.has(one.manifest.digest):
                    self.shelf.check(one)
                    self.shelf.put(one, self.talk.fetch(one.manifest))
                self.shelf.take(one.manifest.digest)
        except NoAnswer as error:
            self.say(f"policy {digest[:12]} did not come: {error}")
            return
        except (SignatureError, UserError) as error:
            # Not the policy is to blame but the offer: the policy may come with a better one.
            self._say_once(f"policy {digest[:12]} is refused: {error}")
            return
        except OSError as error:
            self.say(f"policy {digest[:12]} cannot be kept: {error}")
            return
        self._remember(offer=offer.to_json(), good=before["manifest"]["digest"] if before else None)
        self.say(f"policy {digest[:12]} ({printable(offer.manifest.name)}) is taken up with the next run")
        self._event("state", {"took": digest})

    def _say_once(self, text: str) -> None:
        """Tell people and the hub something that may be so again and again."""
        if text in self._said:
            return
        if len(self._said) > 100:
            self._said.clear()
        self._said.add(text)
        self.say(printable(text))
        self._event("state", {"said": printable(text)})

    def _leave(self, digest: str, why: str) -> None:
        self.say(f"policy {digest[:12]} is refused: {why}")
        left = {**self.memory.left, digest: printable(why)}
        self._remember(left=dict(list(left.items())[-LEFT:]))
        self._event("state", {"left": digest, "why": printable(why)})

    # What runs

    @property
    def chosen(self) -> str | None:
        """The policy of the next run."""
        if self.memory.offer is None:
            return None
        offer = Offer.from_json(self.memory.offer)
        digest = offer.manifest.digest
        fallback = offer.fallback.manifest.digest if offer.fallback is not None else self.memory.good
        if digest in self.memory.left:
            return fallback
        if offer.max_episodes is not None and self.memory.alone >= offer.max_episodes:
            return fallback
        return digest

    def _begin(self, now: float) -> None:
        if self.settings.port is None or self.memory.held or self._full or (digest := self.chosen) is None:
            return
        try:
            policy = self.shelf.take(digest)
        except SignatureError as error:
            self._leave(digest, str(error))
            return
        number = self.memory.runs + 1
        self._remember(runs=number)
        folder = self.settings.folder / f"{number:06d}"
        arguments = ["--policy", str(policy), "--port", self.settings.port, "--yes"]
        if self.settings.record:
            arguments += ["--task", self.shelf.offer(digest).manifest.task]
        # Goals that are drawn differ from run to run and from robot to robot.
        seed = zlib.crc32(self.settings.identity.name.encode()) % 100_000 + number
        arguments += [
            "--episodes",
            str(self.settings.episodes),
            "--seed",
            str(seed),
            *self.settings.arguments,
        ]
        try:
            self._run = Run.start(
                self._note, folder, "record" if self.settings.record else "deploy", arguments
            )
        except OSError as error:
            self.say(f"cannot start a run: {error}")
            self._wait_until = now + PATIENCE[1]
            return
        self._policy = digest

    def _finished(self, run: Run, now: float) -> None:
        self._run = None
        self._note.unlink(missing_ok=True)
        if run.status in (0, None) or run.asked:
            self._failures = 0
            return
        self._failures += 1
        wait = min(PATIENCE[0] * 2 ** (self._failures - 1), PATIENCE[1])
        said = printable(run.said())
        self._event("state", {"run": run.folder.name, "status": run.status, "said": said})
        self.say(f"run {run.folder.name} ended with status {run.status}: {said}")
        self._wait_until = now + wait

    def _read_results(self) -> None:
        """Put what runs have left into the outbox, each once, whoever started them."""
        for name, episodes, when, faults in results(self.settings.folder, self._known):
            if not self.outbox.told(name):
                messages: list[tuple[str, dict[str, Any], float]] = [
                    ("episode", row, when) for row in episodes
                ]
                if faults:
                    messages.append(
                        ("state", {"run": name, "faults": [printable(f) for f in faults[:10]]}, when)
                    )
                try:
                    self.outbox.add_all(messages, run=name)
                except OutboxFull:
                    self._full = True
                    return
                except Refused as error:
                    self.say(f"the result in {self.settings.folder / name} is not told: {error}")
                    self.outbox.add_all([], run=name)
                if messages:
                    self._next_ask = 0.0
                self._count(episodes, faults)
            self._known.add(name)
        self._full = False

    def _count(self, episodes: Sequence[dict[str, Any]], faults: Sequence[str]) -> None:
        if self.settings.port is None:
            return
        if self._online is not True:
            self._remember(alone=self.memory.alone + len(episodes))
        if faults:
            self._remember(held=printable(f"fault: {faults[0]}"))
            self.say(f"{self.memory.held}; nothing runs until --resume")
        offer = None if self.memory.offer is None else Offer.from_json(self.memory.offer)
        safety = sum(row["safety_events"] for row in episodes)
        limit = None if offer is None else offer.max_safety_events
        if offer is not None and limit is not None and safety > limit:
            digest = offer.manifest.digest
            if all(row["policy"] in (digest, None) for row in episodes):
                self._leave(digest, f"{safety} safety events in one run, at most {limit} are allowed")

    # A person, and the end

    def _heed_person(self) -> None:
        flag = self.settings.state / RESUME
        if flag.exists():
            flag.unlink(missing_ok=True)
            if self.memory.held:
                self._event("intervention", {"resumed": self.memory.held})
                self.say(f"a person says to go on (it was held: {self.memory.held})")
            self._remember(held="", left={})
            self._failures, self._wait_until = 0, 0.0

    def _end(self) -> None:
        if self._run is not None:
            self.say("ending the run: the arm is lowered and let go")
            self._run.stop()
            until = time.monotonic() + ENDING
            while not self._run.ended() and time.monotonic() < until:
                time.sleep(0.1)
        self._read_results()
        self._ask()
        self.talk.close()
        self.outbox.close()
        self._lock.close()

    def _event(self, kind: str, body: dict[str, Any]) -> None:
        try:
            self.outbox.add(kind, body)
        except Sim2RealError:
            pass  # unimportant, and told to people here already

    def _batch(self, messages: tuple[Any, ...]) -> Batch:
        running = self._run is not None
        details = {"waiting": len(self.outbox), "runs": self.memory.runs}
        if self.memory.held:
            details["held"] = self.memory.held  # type: ignore[assignment]
        if self.memory.left:
            details["left"] = dict(list(self.memory.left.items())[-5:])  # type: ignore[assignment]
        return Batch(
            outbox=self.outbox.name,
            session=self.session,
            certificate=self.settings.identity.fingerprint,
            state="stopping" if running and self._run and self._run.asked else
            "running" if running else "held" if self.memory.held else
            "watching" if self.settings.port is None else "waiting" if self.chosen is None else "idle",
            policy=self._policy if running and self._policy else self.chosen,
            firmware="",
            camera="",
            details=details,
            messages=messages,
        )  # fmt: skip

    def _remember(self, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self.memory, name, value)
        try:
            write_json(self._memory_file, vars(self.memory))
        except OSError as error:
            raise Sim2RealError(f"cannot write {self._memory_file}: {error}") from None


RESUME = "resume"
"""A file in the state's folder by which a person says to go on."""


def resume(state: Path) -> None:
    """Tell the agent of `state`, now or when it starts, that somebody has looked and it may go on."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        write_text(state / RESUME, "")
    except OSError as error:
        raise UserError(f"cannot write {state}: {error}") from None


def say_line(text: str) -> None:
    """One line for people, with the time."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _locked(state: Path) -> IO[str]:
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = open(state / "lock", "w")
    except OSError as error:
        raise UserError(f"cannot write the agent's folder {state}: {error}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(
            f"another agent runs in {state}; end it, or name another folder with --state"
        ) from None
    return file
