"""Tests of the download against a real local server: cuts, resuming, wrong files, dead ports."""

from __future__ import annotations

import hashlib
import socket
import time
from pathlib import Path

import pytest
from local_server import CONTENT, Handler, Server, archive_at, dead_url

from cifar_tune.errors import DataError
from cifar_tune.vision.data.fetch import Archive, download, downloaded_path


def fetch(archive: Archive, notes: list[str] | None = None) -> tuple[Path, list[tuple[int, int]]]:
    progress: list[tuple[int, int]] = []

    def on_progress(done: int, total: int) -> None:
        progress.append((done, total))

    path = download(on_progress, (notes if notes is not None else []).append, archive)
    return path, progress


def test_it_arrives_whole_with_progress_and_only_once(server: Server) -> None:
    path, progress = fetch(archive_at(server.url))
    assert path.read_bytes() == CONTENT
    assert progress[-1] == (len(CONTENT), len(CONTENT))
    assert progress == sorted(progress)
    assert fetch(archive_at(server.url)) == (path, [])
    assert len(server.ranges) == 1


def test_after_a_cut_it_goes_on_where_it_was(server: Server) -> None:
    server.plans = ["cut", "cut"]
    path, progress = fetch(archive_at(server.url))
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=700000-", "bytes=1400000-"]
    assert {total for _, total in progress} == {len(CONTENT)}


def test_what_an_earlier_process_left_is_resumed(server: Server) -> None:
    part = downloaded_path(archive_at(server.url))
    part = part.with_name(part.name + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:1_000_000])
    path, _ = fetch(archive_at(server.url))
    assert path.read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000000-"]
    assert not part.exists()


def test_a_server_that_can_not_resume_starts_anew(server: Server) -> None:
    server.plans = ["cut", "no ranges"]
    path, _ = fetch(archive_at(server.url))
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("length", [1_000_000, len(CONTENT), len(CONTENT) + 9])
def test_a_wrong_beginning_is_thrown_away(server: Server, length: int) -> None:
    part = downloaded_path(archive_at(server.url))
    part = part.with_name(part.name + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(length))
    notes: list[str] = []
    path, _ = fetch(archive_at(server.url), notes)
    assert path.read_bytes() == CONTENT
    assert server.ranges[-1] is None
    assert length != 1_000_000 or "does not have its checksum" in notes[0]


def test_a_wrong_file_is_refused_with_both_checksums(server: Server) -> None:
    archive = archive_at(server.url, content=b"something else")
    got = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(DataError, match=f"has sha256 {got}, expected {archive.sha256}; it was"):
        fetch(archive)
    assert not [f for f in downloaded_path(archive).parent.iterdir() if f.suffix != ".lock"]


def test_without_network_the_error_names_the_ways_to_get_the_data() -> None:
    with pytest.raises(DataError) as caught:
        fetch(archive_at(dead_url(), dead_url()))
    message = str(caught.value)
    for way in ("--data-dir PATH", "cifar-tune data --download", "--config quickstart"):
        assert way in message
    assert "Connection refused" in message


def test_a_second_address_is_tried(server: Server) -> None:
    server.plans = ["404"]
    path, _ = fetch(archive_at(server.url, dead_url(), server.url))
    assert path.read_bytes() == CONTENT


def test_an_address_that_never_answers_costs_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar_tune.vision.data.fetch.CONNECT_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        with pytest.raises(DataError, match=r"no answer within 0\.3 seconds|timed out"):
            fetch(archive_at(f"http://127.0.0.1:{silent.getsockname()[1]}/file"))
        assert time.monotonic() - start < 3


def test_a_transfer_that_always_stops_is_given_up(server: Server) -> None:
    server.content = CONTENT[:700_000]
    server.plans = ["cut"] * 3 + ["404"]

    class Lying(Handler):
        def send_header(self, keyword: str, value: str) -> None:
            lie = keyword == "Content-Length"
            super().send_header(keyword, str(int(value) + 99) if lie else value)

    server.RequestHandlerClass = Lying
    with pytest.raises(DataError, match="could not be downloaded"):
        fetch(archive_at(server.url))
