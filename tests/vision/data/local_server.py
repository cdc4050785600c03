"""A real web server on this machine that cuts, refuses or lies as a test plans it."""

from __future__ import annotations

import hashlib
import http.server
import socket

from cifar_tune.vision.data.fetch import Archive

CONTENT = bytes(range(256)) * 8000  # 2 MB


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; each request takes the next of `plans`, then `whole`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.plans: list[str] = []
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: object) -> None:
        """Keeps the test's output clean."""

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        plan = self.server.plans.pop(0) if self.server.plans else "whole"
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        content = self.server.content
        if plan == "404":
            self.send_error(404)
            return
        if start >= len(content):
            self.send_error(416)
            return
        resumes = asked and plan != "no ranges"
        rest = content[start:] if resumes else content
        self.send_response(206 if resumes else 200)
        self.send_header("Content-Length", str(len(rest)))
        if resumes:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(rest[: 700_000 if plan == "cut" else None])
        if plan == "cut":
            self.connection.close()


def archive_at(*urls: str, content: bytes = CONTENT) -> Archive:
    return Archive("file.tar.gz", urls, hashlib.sha256(content).hexdigest())


def dead_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/file"
