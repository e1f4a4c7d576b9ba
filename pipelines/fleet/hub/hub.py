"""The hub of a fleet: one process beside the store, that robots ask.

Zenoh's threads only queue what comes; one thread checks it, keeps it (many questions in one transaction), and answers
when it is on the disk. What is refused is one line in the log.
"""

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hardware.fleet.certificates import Authority
from hardware.fleet.link import Endpoint, direct, key, open_hub
from hardware.fleet.messages import PIECE, Answer, Batch, Refused, Request
from pipelines.fleet.conductor import Conductor
from pipelines.fleet.hub.desk import Desk
from pipelines.fleet.registry.records import Reported
from pipelines.fleet.registry.registry import Registry
from sim2real.errors import Sim2RealError
from sim2real.text import printable

AT_ONCE = 500
"""Questions answered by one transaction at most."""
WAITING = 20_000
"""Questions that may wait; further ones are asked again by their robots."""
LOOK = 0.5
"""s between two looks at what robots are to be told, and between two notes of their heartbeats."""
CONDUCT = 5.0
"""s between two looks at the rollout under way."""
ANOTHER = 3.0
"""s after which another agent may speak for a robot whose former one has fallen silent."""
AGAIN = 30.0
"""s in which a refusal is not logged twice."""
FILES = 4
"""Policy files kept in memory."""

Asked = tuple[str, Batch, Any]
"""A robot's name, what it says, and zenoh's query, by which it is answered."""


class Hub:
    """Answers as soon as it is made; `run` keeps until `stop`. Raises Sim2RealError where it cannot listen."""

    def __init__(
        self,
        registry: Registry,
        listen: Sequence[Endpoint],
        hosts: Sequence[str] = (),
        log: Callable[[str], None] = print,
    ) -> None:
        self.registry = registry
        self.log = log
        self._listen = list(listen)
        self._hosts = [*dict.fromkeys([*(endpoint.host for endpoint in listen), *hosts])]
        self._inbox: queue.Queue[tuple[str, str, Any]] = queue.Queue(WAITING)
        self._reports: dict[str, tuple[float, Reported]] = {}
        self._speakers: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._logged: dict[str, float] = {}
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._stop = threading.Event()
        self.kept = 0
        """Messages that were new."""
        self.desk = Desk.look(registry)
        self._session: Any = None
        self._open()

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        """Keep and answer until `stop`."""
        watcher = threading.Thread(target=self._watch, name="fleet desk", daemon=True)
        watcher.start()
        while not self._stop.is_set():
            self._keep()
        watcher.join(timeout=10)
        self._session.close()
        self._note_reports()

    # The link

    def _open(self) -> None:
        names = sorted(self.desk.robots)
        tls = None
        if any(endpoint.scheme == "tls" for endpoint in self._listen):
            authority = Authority(Path(self.registry.store) / "ca", create=True)
            tls = (authority.folder / "ca.crt", *authority.hub(self._hosts))
        self._session = open_hub(self._listen, tls, names)
        self._served = set(names)
        self._serving = []
        for name in names:
            for part in ("in", "policy"):
                told = direct(partial(self._came, name, part))
                self._serving.append(self._session.declare_queryable(key(name, part), told))
            told = direct(partial(self._came, name, "alive"))
            alive = self._session.liveliness().declare_subscriber(key(name, "alive"), told, history=True)
            self._serving.append(alive)

    def _watch(self) -> None:
        """Look again at what robots are to be told, and serve those that were enrolled meanwhile."""
        conductor, conduct_next = Conductor(self.registry), 0.0
        while not self._stop.wait(LOOK):
            try:
                self._note_reports()
                if time.monotonic() >= conduct_next:
                    conductor.look()
                    conduct_next = time.monotonic() + CONDUCT
                self.desk = Desk.look(self.registry)
                new = set(self.desk.robots) - self._served
                if new:
                    self.log(f"enrolled: {', '.join(sorted(new))}")
                    self._served = set()
                    self._session.close()
                    self._open()
            except Sim2RealError as error:
                self._tell(f"cannot look into the registry: {error}")

    def _came(self, name: str, part: str, what: Any) -> None:
        """In a thread of zenoh's, which must not be held up: a thread of its own for each robot would be too many."""
        try:
            self._inbox.put_nowait((name, part, what))
        except queue.Full:
            self._tell("more is asked than can be answered; robots will ask again")

    def _presence(self, name: str, sample: Any) -> None:
        here = str(sample.kind).endswith("PUT")
        self.log(f"{name} is {'here' if here else 'gone'}")
        if not here:
            self._speakers.pop(name, None)
            robot = self.desk.robots.get(name)
            with self._lock:
                last = self._reports.get(name)
                policy = last[1].policy if last else robot.policy if robot else None
                when = last[0] if last else (robot.last_seen if robot and robot.last_seen else time.time())
                self._reports[name] = (when, Reported("offline", policy))

    # Questions

    def _heard(self, name: str, query: Any) -> Batch | None:
        """What a robot says, if it may; it is told why not."""
        try:
            batch = Batch.decode(bytes(query.payload) if query.payload is not None else b"")
            self._check_speaker(name, batch)
        except Refused as error:
            self._tell(f"refused from {name}: {error}")
            _reply(query, Answer(refused=str(error), sequence=error.sequence).encode())
            return None
        return batch

    def _check_speaker(self, name: str, batch: Batch) -> None:
        """Raise Refused unless this agent may speak for the robot now."""
        robot = self.desk.robots.get(name)
        if robot is None:
            raise Refused(f"no robot '{name}' is enrolled")
        if robot.fingerprint and batch.certificate != robot.fingerprint:
            raise Refused(
                f"the certificate {batch.certificate[:12]} is not the one that '{name}' was last enrolled with "
                f"({robot.fingerprint[:12]})"
            )
        now = time.monotonic()
        session, when = self._speakers.get(name, (batch.session, now))
        if session != batch.session and now - when < ANOTHER:
            raise Refused(f"another agent speaks for '{name}' already")
        self._speakers[name] = (batch.session, now)

    def _give(self, name: str, query: Any) -> None:
        """A piece of a policy file."""
        try:
            request = Request.decode(bytes(query.payload) if query.payload is not None else b"")
            content = self._content(request.digest)
        except (Refused, Sim2RealError) as error:
            self._tell(f"refused to {name}: {error}")
            _reply(query, b"")
            return
        _reply(query, content[request.offset : request.offset + PIECE])

    def _content(self, digest: str) -> bytes:
        if digest not in self._files:
            self._files[digest] = self.registry.content(self.registry.policy(digest).digest)
            while len(self._files) > FILES:
                self._files.popitem(last=False)
        self._files.move_to_end(digest)
        return self._files[digest]

    # Keeping

    def _keep(self) -> None:
        """Keep what was asked, in one transaction, and answer."""
        try:
            came = [self._inbox.get(timeout=0.2)]
        except queue.Empty:
            return
        while len(came) < AT_ONCE:
            try:
                came.append(self._inbox.get_nowait())
            except queue.Empty:
                break
        desk = self.desk
        asked: list[Asked] = []
        for name, part, what in came:
            if part == "alive":
                self._presence(name, what)
            elif part == "policy":
                self._give(name, what)
            elif (batch := self._heard(name, what)) is not None and name in desk.robots:
                asked.append((name, batch, what))
        kept = self._write(asked, desk)
        now = time.time()
        for number, (name, batch, query) in enumerate(asked):
            if number not in kept:
                # It is not acknowledged; the robot has it still.
                _reply(query, Answer(refused="the hub cannot write what comes").encode())
                continue
            with self._lock:
                report = Reported(batch.state, batch.policy, batch.firmware, batch.camera, batch.details)
                self._reports[name] = (now, report)
            answer = Answer(
                acknowledged=batch.messages[-1].sequence if batch.messages else None,
                offer=desk.offers.get(name),
                stop=desk.robots[name].stop,
            )
            _reply(query, answer.encode())

    def _write(self, asked: Sequence[Asked], desk: Desk) -> set[int]:
        """Which of them are on the disk now: all in one transaction, or as many as can be, one by one."""
        batches = {
            number: (name, batch.outbox, batch.messages)
            for number, (name, batch, _) in enumerate(asked)
            if batch.messages
        }
        kept = set(range(len(asked))) - set(batches)
        try:
            if batches:
                self.kept += self.registry.ingest(batches.values(), desk.robots)
            return kept | set(batches)
        except Sim2RealError as error:
            self._tell(f"what comes cannot be kept: {error}")
        for number, batch in batches.items():
            try:
                self.kept += self.registry.ingest([batch], desk.robots)
                kept.add(number)
            except Sim2RealError as error:
                self._tell(f"what comes from {batch[0]} cannot be kept: {error}")
        return kept

    def _note_reports(self) -> None:
        with self._lock:
            reports, self._reports = self._reports, {}
        try:
            self.registry.seen(reports)
        except Sim2RealError as error:
            self._tell(f"heartbeats cannot be noted: {error}")

    def _tell(self, text: str) -> None:
        """One line, not again within half a minute."""
        now = time.monotonic()
        with self._lock:
            if now - self._logged.get(text, -AGAIN) < AGAIN:
                return
            if len(self._logged) > 1000:
                self._logged.clear()
            self._logged[text] = now
        self.log(printable(text, 500))


def _reply(query: Any, payload: bytes) -> None:
    """Answer; who asked may be gone by now, and will ask again."""
    try:
        query.reply(query.key_expr, payload)
        query.drop()
    except Exception:
        # Whatever zenoh says: nobody waits for this answer any more.
        pass
