"""Odd users, homes, paths and temporary folders: a search works there, or a line says why not."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import command

from cifar_tune.files import inside, leads_out, name_of, parent
from cifar_tune.record.results import Results
from cifar_tune.search import ray_instance
from cifar_tune.tune import main

NAME = "größe 😀 #%?"
UNKNOWN = 54321  # a uid that no user has
FREE_TO_READ = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be another user")


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path, as Ray's sockets need, that everybody may write to."""
    with tempfile.TemporaryDirectory(prefix="ct", dir="/tmp") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.mark.faults
@as_root
@pytest.mark.parametrize("home", ["/nonexistent", "/proc"])
def test_row_31_an_unknown_user_without_a_home_searches_in_folders_with_odd_names(
    home: str, image_folder: Path, small_plan: list[str], short: Path
) -> None:
    odd = short / NAME
    shutil.copytree(image_folder, odd / "images")
    (odd / "out").mkdir()
    (odd / "out").chmod(0o777)
    sets = [word for value in (*small_plan, "train.max_epochs=1") for word in ("--set", value)]
    words = command(
        "--out",
        f"{odd}/out",
        "--name",
        NAME,
        "--num-samples",
        "2",
        *sets,
        "--data-dir",
        f"{odd}/images",
    )
    ours = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("RAY_", "CIFAR_TUNE_"))
    }
    for name in ("USER", "LOGNAME", "USERNAME", "LNAME"):
        ours.pop(name, None)
    user = ["setpriv", f"--reuid={UNKNOWN}", f"--regid={UNKNOWN}", "--clear-groups", *FREE_TO_READ]
    done = subprocess.run(
        [*user, *words], env={**ours, "HOME": home, "TMPDIR": str(short)}, cwd="/",
        capture_output=True, text=True, timeout=140, check=False, umask=0o077,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    results = odd / "out" / NAME
    assert Results.read(results).counts()["completed"] == 2
    open_to_others = [path for path in results.rglob("*") if path.lstat().st_mode & 0o077]
    assert [path for path in open_to_others if not stat.S_ISLNK(path.lstat().st_mode)] == []


def told_of_cache(**environment: str) -> subprocess.CompletedProcess[str]:
    """`cifar-tune data` under this environment alone, as far as the cache goes."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("CIFAR_TUNE_", "XDG_"))}
    return subprocess.run(
        command("data"), env={**ours, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("kind", ["a link", "a link to nothing", "a circle of links", "a file"])
def test_row_31_a_home_of_any_kind_gives_a_cache(kind: str, tmp_path: Path) -> None:
    home, real = tmp_path / "home", tmp_path / "real"
    if kind == "a file":
        home.touch()
    else:
        home.symlink_to(home if kind == "a circle of links" else real)
    if kind == "a link":
        real.mkdir()
    done = told_of_cache(HOME=str(home), TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    place = home / ".cache" / "cifar-tune" if kind == "a link" else tmp_path
    assert done.stdout.startswith(f"cache   {place}")
    assert (real / ".cache" / "cifar-tune").is_dir() == (kind == "a link")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a disk read-only")
def test_row_31_a_read_only_cache_is_told_and_another_is_used(
    image_folder: Path, tmp_path: Path
) -> None:
    """The mount is seen by the command alone."""
    cache = tmp_path / "cache"
    cache.mkdir()
    script = f'mount -t tmpfs -o ro tmpfs {cache} && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", PREPARE]
    words += [str(image_folder)]
    environment = {**os.environ, "CIFAR_TUNE_CACHE": str(cache), "TMPDIR": str(tmp_path)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"the cache {cache} can't be written, so {tmp_path}/cifar-tune-0 is used" in done.stdout
    assert done.stdout.endswith("400 images\n")


PREPARE = """
import sys
from cifar_tune.vision.data_config import DataConfig
from cifar_tune.vision.data import prepare
print(prepare(DataConfig(path=sys.argv[1]), print).train_size, "images")
"""


@pytest.mark.parametrize("locale", [{}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_row_38_locale_c_reads_and_shows_all_that_it_can(
    locale: dict[str, str], tmp_path: Path
) -> None:
    done = told_of_cache(LC_ALL="C", CIFAR_TUNE_CACHE=f"{tmp_path}/größe", **locale)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cache   {tmp_path}/gr")
    assert [path.name for path in tmp_path.iterdir()] == ["größe"]


def test_row_38_a_cache_whose_name_is_no_text_is_used_and_spelt_out(tmp_path: Path) -> None:
    done = told_of_cache(CIFAR_TUNE_CACHE=f"{tmp_path}/\udcff")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"cache   {tmp_path}/\\udcff\n"


def test_row_31_a_question_mark_in_a_path_begins_no_query(tmp_path: Path) -> None:
    """The folder of a checkpoint is deleted with it: taken for a URI it would be one far above."""
    location = inside(str(tmp_path / "what?"), "t0001", "model.ckpt")
    assert parent(location) == str(tmp_path / "what?" / "t0001")
    assert name_of(location) == "model.ckpt"
    assert not leads_out(f"/a/what?/{NAME}-0123abcd/1/t0001", [f"/a/what?/{NAME}-0123abcd/1"])


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
@pytest.mark.parametrize("place", ["/tmp/" + "x" * 60, "/tmp/größe"])
def test_row_32_a_temporary_folder_that_sockets_can_not_have_is_refused(
    name: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests have one running
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, place)
    assert main(["--num-samples", "1"]) == 2
    assert f"error: {name} is {place}; Ray's sockets lie below it" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_row_32_the_longest_temporary_folder_is_that_of_rays_own_rule() -> None:
    from ray._private.utils import validate_socket_filepath

    longest = "/" + "x" * (ray_instance.SOCKET_BYTES - len(ray_instance.SOCKET) - 1)
    validate_socket_filepath(longest + ray_instance.SOCKET)
    with pytest.raises(OSError, match="cannot exceed"):
        validate_socket_filepath(longest + "x" + ray_instance.SOCKET)


@pytest.mark.faults
@as_root
def test_row_32_low_shared_memory_is_said_before_the_start(image_folder: Path) -> None:
    words = command("--dry-run", "--data-dir", str(image_folder), "--num-samples", "1")
    script = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "/dev/shm has 67 MB free" in done.stdout
    assert "--shm-size 2g" in done.stdout
