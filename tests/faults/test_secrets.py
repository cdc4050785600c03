"""A real search with secrets in its environment: they stand in no file, and its files are its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import command

from cifar_tune.record.results import Results

pytestmark = pytest.mark.faults
KEY = "c0ffee5ec2e7" * 3 + "1234"  # of wandb's length and letters
SECRETS = {
    "WANDB_API_KEY": KEY,
    "AWS_SECRET_ACCESS_KEY": "canary-of-aws-7Jx",
    "HF_TOKEN": "canary-of-hf-9Qz",
    "DATABASE_URL": "postgres://user:canary-of-db-3Kf@host/x",
}
CANARIES = (KEY, "canary-of-aws-7Jx", "canary-of-hf-9Qz", "canary-of-db-3Kf")


@dataclass(frozen=True)
class Searched:
    """A search that has ended: all that it could write to lies in `root`; its results in `results`."""

    root: Path
    results: Path


@pytest.fixture(scope="module")
def searched(image_folder: Path, small_plan: list[str]) -> Iterator[Searched]:
    """wandb has a key and no server. Ray's sockets have short paths, so all lies below /tmp."""
    sets = [word for value in (*small_plan, "train.max_epochs=1") for word in ("--set", value)]
    with tempfile.TemporaryDirectory(prefix="ct", dir="/tmp") as name:
        root = Path(name)
        for folder in ("home", "t", "out"):
            (root / folder).mkdir()
        ours = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        environment = {
            **ours, **SECRETS, "HOME": f"{root}/home", "TMPDIR": f"{root}/t", "RAY_TMPDIR": name,
            "CIFAR_TUNE_CACHE": f"{root}/cache", "WANDB_BASE_URL": "http://127.0.0.1:9",
        }  # fmt: skip
        words = command(
            "--out", f"{root}/out", "--name", "one", "--num-samples", "2", "--wandb", "p", *sets
        )
        with (root / "printed").open("w") as printed:
            process = subprocess.Popen(
                words, env=environment, stdout=printed, stderr=printed, cwd=root / "t", umask=0o022
            )
        while process.poll() is None:  # Ray's logs go when it ends
            _copy_logs(root)
            time.sleep(0.2)
        assert process.returncode == 0, (root / "printed").read_text()
        yield Searched(root, root / "out" / "one")


def _copy_logs(root: Path) -> None:
    for file in root.glob("ray/session_*/logs/**/*"):
        with contextlib.suppress(OSError):
            copy = root / "logs" / file.relative_to(root / "ray")
            copy.parent.mkdir(parents=True, exist_ok=True)
            if file.is_file():
                shutil.copyfile(file, copy)


def test_row_28_a_secret_of_the_environment_is_found_in_no_file(searched: Searched) -> None:
    files = [file for file in searched.root.rglob("*") if file.is_file()]
    contents = {file: file.read_bytes() for file in files}
    found = [
        (str(file), secret)
        for file, content in contents.items()
        for secret in CANARIES
        if secret.encode() in content
    ]
    assert found == []
    # What was looked through is all that there is to look through.
    places = {file.relative_to(searched.root).parts[0] for file in files}
    assert {"home", "out", "cache", "logs", "printed"} <= places, "some program wrote elsewhere"
    assert list(searched.results.glob("wandb/*run*/*.wandb"))
    assert list(searched.root.glob("logs/session_*/logs/raylet.*"))


def test_row_28_the_key_was_there_and_cost_no_result(searched: Searched) -> None:
    assert Results.read(searched.results).counts()["completed"] == 2


def test_row_28_no_file_can_be_changed_by_others_nor_the_token_be_read(searched: Searched) -> None:
    for top in (searched.results, searched.root / "cache", searched.root / "home"):
        for path in (top, *top.rglob("*")):
            mode = path.lstat().st_mode
            assert stat.S_ISLNK(mode) or not mode & (stat.S_IWGRP | stat.S_IWOTH), path
            assert not mode & (stat.S_ISUID | stat.S_ISGID), path
            assert stat.S_ISDIR(mode) or stat.S_ISLNK(mode) or not mode & 0o111, path
    token = searched.root / "home" / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
