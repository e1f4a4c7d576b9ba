"""`sim2real fleet dashboard`: the pages and /metrics, on this machine only."""

import re
import threading
import urllib.parse
from collections.abc import Sequence
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pipelines.fleet.dashboard import metrics, pages
from pipelines.fleet.registry.records import EpisodeRecord
from pipelines.fleet.registry.registry import Registry
from pipelines.page import Section
from sim2real.errors import Sim2RealError, UserError
from sim2real.local_http import LocalHandler

CALLERS = 16
"""Requests that are answered at a time."""

LARGEST_VIDEO = 1 << 28

RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}")
"""Names of runs, which robots tell: nothing else of what they tell becomes a path."""


class Dashboard(ThreadingHTTPServer):
    """Serves at `url` until `shutdown`. runs: folders with one folder per robot, which holds its runs (or has a folder
    `runs` that does). Raises UserError when the port is taken.
    """

    daemon_threads = True

    def __init__(self, registry: Registry, port: int = 0, runs: Sequence[str | Path] = ()) -> None:
        self.registry = registry
        self.runs = [Path(folder) for folder in runs]
        self.metrics = metrics.collector(registry)
        self.room = threading.BoundedSemaphore(CALLERS)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"cannot listen on 127.0.0.1:{port}: {getattr(error, 'strerror', error)}"
            ) from None
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self.room:
            super().process_request_thread(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a browser that went away is nobody's business

    def folder(self, episode: EpisodeRecord) -> Path | None:
        """The folder of the run that an episode is of, if it is on this machine."""
        run = episode.details.get("run")
        if not isinstance(run, str) or not RUN.fullmatch(run):
            return None
        for base in self.runs:
            for folder in (base / episode.robot / run, base / episode.robot / "runs" / run):
                if folder.is_dir():
                    return folder
        return None

    def videos(self, episode: EpisodeRecord) -> list[Path]:
        """Video files of an episode's recording."""
        folder, number = self.folder(episode), episode.details.get("episode")
        if folder is None or not isinstance(number, int):
            return []
        return sorted(folder.glob(f"videos/**/episode_{number:06d}.mp4"))

    def joints(self, episode: EpisodeRecord) -> list[Section]:
        """What the joints did, as the run's own report shows it."""
        from pipelines.reports.arm import sections

        folder = self.folder(episode)
        if folder is None:
            return []
        try:
            return sections(folder)
        except (OSError, ValueError, KeyError) as error:
            section = Section("Joints")
            section.text(f"The run's files cannot be read: {error}", "note")
            return [section]


class _Handler(LocalHandler):
    server: Dashboard

    def do_GET(self) -> None:
        path = urllib.parse.unquote(self.path.partition("?")[0])
        what, _, which = path.lstrip("/").partition("/")
        registry = self.server.registry
        try:
            if path == "/":
                self.send_page(pages.overview(registry))
            elif path == "/metrics":
                self.send(200, *metrics.exposition(self.server.metrics))
            elif path == "/status":
                from pipelines.fleet.status import status

                self.send_json(200, status(registry))
            elif what == "robot":
                self.send_page(pages.robot(registry, which))
            elif what == "policy":
                self.send_page(pages.policy(registry, which))
            elif what == "rollout" and which.isascii() and which.isdecimal():
                self.send_page(pages.rollout(registry, int(which[:9])))
            elif what == "episode" and (
                part := re.fullmatch(r"(\d{1,12})(?:/video/(\d{1,2}))?", which, re.ASCII)
            ):
                self._episode(int(part[1]), part[2])
            else:
                self.send_json(
                    404,
                    {"error": "there is /, /robot/NAME, /policy/DIGEST, /rollout/ID, /episode/ID, /metrics"},
                )
        except UserError as error:
            self.send_json(404, {"error": str(error)})
        except Sim2RealError as error:
            self.send_json(503, {"error": str(error)})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.close_connection = True
        self.send_json(405, {"error": "the dashboard shows; `sim2real fleet` acts"})

    def _episode(self, number: int, video: str | None) -> None:
        record = self.server.registry.episode(number)
        videos = self.server.videos(record)
        if video is None:
            urls = [f"/episode/{number}/video/{i}" for i in range(len(videos))]
            self.send_page(pages.episode(self.server.registry, number, self.server.joints(record), urls))
        elif int(video) < len(videos) and videos[int(video)].stat().st_size <= LARGEST_VIDEO:
            self.send(200, "video/mp4", videos[int(video)].read_bytes())
        else:
            self.send_json(404, {"error": "there is no such video"})
