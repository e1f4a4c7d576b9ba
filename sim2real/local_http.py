"""What every HTTP server of ours has in common: it answers programs of this machine, and pages that it gave out itself.

A web page elsewhere must not reach it through a user's browser: foreign host names and origins, which browsers always
tell, are refused. Requests are bounded, callers that say nothing are left.
"""

import hmac
import json
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

MAX_BODY = 1_000_000
SILENCE = 10.0
"""Seconds for which a connection may say nothing."""

STYLE_AND_PICTURES = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; media-src 'self'; "
"""What our pages may load: nothing from elsewhere, and scripts only where a page names its own."""


class LocalHandler(BaseHTTPRequestHandler):
    """A request to a server on loopback. Subclasses have `do_GET` and `do_POST`, and begin the latter with `body`."""

    protocol_version = "HTTP/1.1"
    timeout: ClassVar[float | None] = SILENCE
    server: ThreadingHTTPServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def parse_request(self) -> bool:
        """Whether the request is to be answered; one that is not has its answer already."""
        if not super().parse_request():
            return False
        port = self.server.server_address[1]
        ours = {f"127.0.0.1:{port}", f"localhost:{port}"}
        host, origin = self.headers.get("Host"), self.headers.get("Origin")
        if host in (None, *ours) and origin in (None, *(f"http://{name}" for name in ours)):
            return True
        self.close_connection = True
        self.send_json(
            403, {"error": f"only programs on this machine are answered, as http://127.0.0.1:{port}"}
        )
        return False

    def body(self) -> bytes | None:
        """The body of a request; None after refusing one that is too long."""
        said = self.headers.get("Content-Length") or "0"
        length = int(said) if said.isascii() and said.isdecimal() else -1
        if 0 <= length <= MAX_BODY:
            return self.rfile.read(length)
        self.close_connection = True
        self.send_json(413, {"error": f"a request takes 0 to {MAX_BODY} bytes, got Content-Length {said}"})
        return None

    def form_with_token(self, token: str) -> dict[str, str] | None:
        """The fields of a form that carries `token`; None after refusing one that does not."""
        body = self.body()
        if body is None:
            return None
        form = dict(urllib.parse.parse_qsl(body.decode("utf-8", "replace"), max_num_fields=20))
        if hmac.compare_digest(form.get("token", "").encode(), token.encode()):
            return form
        self.send_json(403, {"error": "the token is not the one of this page: load the page again"})
        return None

    def send_json(self, status: int, content: Any) -> None:
        self.send(status, "application/json", (json.dumps(content) + "\n").encode())

    def send_page(self, html: str, script: str = "", status: int = 200) -> None:
        """A page of ours. script: the nonce of its own script, if it has one."""
        scripts = f"script-src 'nonce-{script}'; connect-src 'self'; " if script else ""
        policy = f"{STYLE_AND_PICTURES}{scripts}form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        self.send(status, "text/html; charset=utf-8", html.encode(), {"Content-Security-Policy": policy})

    def send(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def redirect(self, path: str) -> None:
        """On to another page of this server, with GET."""
        self.send(303, "text/plain", b"", {"Location": path})
