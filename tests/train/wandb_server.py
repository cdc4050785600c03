"""A real web server on this machine in wandb's place that stays silent, fails, or fails later."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ANSWERS: dict[str, Any] = {  # by the name of wandb's query: what `wandb.init` needs to go on
    "Viewer": {"viewer": {"id": "v", "entity": "us", "username": "u", "flags": "{}", "teams": {}}},
    "RunResumeStatus": {"model": None},
    "UpsertBucket": {
        "upsertBucket": {
            "bucket": {
                "id": "b",
                "name": "run",
                "displayName": "run",
                "config": "{}",
                "project": {"id": "p", "name": "project", "entity": {"id": "e", "name": "us"}},
            },
            "inserted": True,
        }
    },
}


class Server(http.server.ThreadingHTTPServer):
    """`fault`: "silent" (never answers), "errors" (500), "errors later" (once a run has begun)."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, fault: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault = fault
        self.asked: list[str] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Keeps the test's output clean."""

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(self.path)
        if self.server.fault == "silent":
            self.server.over.wait(120)
            return
        code, answer = 500, b"broken"
        if self.server.fault == "errors later" and self.path == "/graphql":
            query = json.loads(content)["query"].split("(")[0].split("{")[0].split()[-1]
            if query in ANSWERS:
                code, answer = 200, json.dumps({"data": ANSWERS[query]}).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST  # noqa: N815


@contextmanager
def server(fault: str) -> Iterator[Server]:
    """One that serves until the end of the block."""
    with Server(fault) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield serving
        serving.over.set()
        serving.shutdown()
