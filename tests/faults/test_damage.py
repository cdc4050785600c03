"""Damage to the files of a stopped search: it goes on from a good state, or is refused."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from saved_models import save_model
from search import objectives
from search.searching import stop_after

from cifar_tune.files import is_whole
from cifar_tune.plan import preflight
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.machine import read_machine
from cifar_tune.record.journal import FILE_NAME, LOCK_NAME, read_journal
from cifar_tune.record.results import Results
from cifar_tune.tune import main

TRIALS, EPOCHS = 4, 6
MACHINE = replace(read_machine(), cpus=2, gpus=0)
Harm = Callable[[Path], None]


class Hostile:
    """Whoever unpickles this leaves a file: the canary."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._canary,)


def canary_of(folder: Path) -> Path:
    return folder.with_name("canary")


def change(name: str, how: Callable[[bytes], bytes]) -> Harm:
    def harm(folder: Path) -> None:
        path = folder / name
        path.write_bytes(how(path.read_bytes()))

    return harm


def lines(how: Callable[[list[bytes]], list[bytes]]) -> Harm:
    return change(FILE_NAME, lambda content: b"".join(how(content.splitlines(keepends=True))))


def flipped(content: bytes, place: float = 0.5) -> bytes:
    changed = bytearray(content)
    changed[int(place * len(content))] ^= 4
    return bytes(changed)


def swapped(all_lines: list[bytes]) -> list[bytes]:
    return [all_lines[0], all_lines[2], all_lines[1], *all_lines[3:]]


def gone(name: str) -> Harm:
    def harm(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    return harm


def in_its_place(name: str, put: Callable[[Path], object]) -> Harm:
    def harm(folder: Path) -> None:
        gone(name)(folder)
        put(folder / name)

    return harm


def newest(folder: Path) -> list[Path]:
    """The newest checkpoint of each trial that is to go on."""
    trials = [trial for trial in Results.read(folder).unfinished() if trial.checkpoints]
    assert trials
    return [folder / trial.checkpoints[max(trial.checkpoints)] for trial in trials]


def each_newest(how: Callable[[Path], object]) -> Harm:
    def harm(folder: Path) -> None:
        for path in newest(folder):
            how(path)

    return harm


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_a_weight(path: Path) -> None:
    """One bit in the largest tensor."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
        content = archive.read(largest)
    raw = bytearray(path.read_bytes())
    raw[raw.index(content) + len(content) // 2] ^= 4
    path.write_bytes(raw)


def all_checkpoints_gone(folder: Path) -> None:
    for path in (folder / "ray").rglob("model.ckpt"):
        path.unlink()


def rays_state(how: Callable[[Path], object]) -> Harm:
    def harm(folder: Path) -> None:
        found = [p for p in (folder / "ray" / "1").iterdir() if p.is_file()]
        assert "tuner.pkl" in {path.name for path in found}
        for path in found:
            how(path)

    return harm


def hostile_pickle(path: Path) -> None:
    folder = next(parent for parent in path.parents if parent.name == "one")
    path.write_bytes(pickle.dumps(Hostile(canary_of(folder))))


def hostile_checkpoint(path: Path) -> None:
    """As torch would write it, so that it counts as whole."""
    folder = next(parent for parent in path.parents if parent.name == "one")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(Hostile(canary_of(folder))))
        archive.writestr("model/version", "3\n")


GOES_ON: dict[str, Harm] = {
    **{f"journal torn by {cut}": change(FILE_NAME, lambda c, cut=cut: c[:-cut]) for cut in (1, 2, 7, 20, 40)},
    "a bit flipped in the journal's last line": change(FILE_NAME, lambda c: flipped(c, 1 - 20 / len(c))),
    "zeros after the journal": change(FILE_NAME, lambda c: c + bytes(4096)),
    "the journal's last five lines gone": lines(lambda all_lines: all_lines[:-5]),
    "all but the journal's first line gone": lines(lambda all_lines: all_lines[:1]),
    "newest checkpoints deleted": each_newest(Path.unlink),
    "newest checkpoints cut": each_newest(cut_in_half),
    "newest checkpoints of no bytes": each_newest(lambda path: path.write_bytes(b"")),
    "newest checkpoints of zeros": each_newest(lambda path: path.write_bytes(bytes(5000))),
    "a bit flipped in a weight": each_newest(flip_a_weight),
    "all checkpoints gone": all_checkpoints_gone,
    "ray's folder gone": gone("ray"),
    "ray's files of no bytes": rays_state(lambda path: path.write_bytes(b"")),
    "ray's files cut in half": rays_state(cut_in_half),
    "ray's files a byte short": rays_state(lambda path: path.write_bytes(path.read_bytes()[:-1])),
    "ray's files gone": rays_state(Path.unlink),
    "ray's files hostile": rays_state(hostile_pickle),
    "study.log damaged": change("study.log", flipped),
    "study.log gone": gone("study.log"),
    "plan.yaml damaged": in_its_place("plan.yaml", lambda path: path.write_bytes(b"\xff{[")),
    "plan.yaml gone": gone("plan.yaml"),
    "a stale lock": in_its_place(LOCK_NAME, lambda path: path.write_text("1\n")),
    "a lock of rubbish": in_its_place(LOCK_NAME, lambda path: path.write_bytes(b"\xff" * 5000)),
    "no lock": gone(LOCK_NAME),
    "best/ partly there": in_its_place("best", lambda path: (path.mkdir(), (path / "model.ckpt").write_bytes(b"PK"))),
    "tables gone": lambda folder: [gone(name)(folder) for name in ("trials.csv", "summary.json")] and None,
}  # fmt: skip

REFUSED: dict[str, tuple[Harm, str]] = {
    "a bit flipped in the journal": (change(FILE_NAME, flipped), "this line is damaged"),
    "a line gone": (lines(lambda all_lines: all_lines[:4] + all_lines[5:]), ":5: this line is damaged"),
    "the first line gone": (lines(lambda all_lines: all_lines[1:]), ":1: this line is damaged"),
    "lines swapped": (lines(swapped), ":2: this line is damaged"),
    "a line twice": (lines(lambda all_lines: all_lines[:3] + all_lines[2:]), ":4: this line is damaged"),
    "the journal twice": (change(FILE_NAME, lambda c: c + c), "this line is damaged"),
    "an empty journal": (change(FILE_NAME, lambda c: b""), "holds no search"),
    "a journal of zeros": (change(FILE_NAME, lambda c: bytes(len(c))), "holds no search"),
    "no journal": (gone(FILE_NAME), "holds no search that can be read: No such file"),
    "a folder as journal": (in_its_place(FILE_NAME, Path.mkdir), "holds no search that can be read"),
    "a pipe as journal": (in_its_place(FILE_NAME, os.mkfifo), "it is not a plain file"),
    "a device as journal": (in_its_place(FILE_NAME, lambda path: path.symlink_to("/dev/zero")), "it is not a plain file"),
    "a folder as lock": (in_its_place(LOCK_NAME, Path.mkdir), "can't be opened"),
    "a link as lock": (in_its_place(LOCK_NAME, lambda path: path.symlink_to(path.with_name("notes.txt"))), "it is a link"),
}  # fmt: skip


@pytest.fixture(scope="module")
def stopped(
    tmp_path_factory: pytest.TempPathFactory, image_folder: Path, ray_session: None
) -> Path:
    """A search by TPE that SIGTERM stopped; its trials left models as checkpoints."""
    from cifar_tune.session.start import start_search

    home = tmp_path_factory.mktemp("damage")
    plan = load_plan(None, [
        f"data.path={image_folder}", "data.val_size=100", "data.confirm_size=50", "model.width=2",
        "search.space.data.batch_size={choice: [16, 32]}", f"search.num_samples={TRIALS}", f"train.max_epochs={EPOCHS}",
        "search.searcher=tpe", "search.scheduler=none", "finals.seeds=0", f"out={home}", "name=one",
    ])  # fmt: skip
    stopper = threading.Thread(target=stop_after, args=(home / "one", 7))
    stopper.start()
    code = start_search(
        preflight.check(plan, [MACHINE]),
        home / "one",
        MACHINE,
        lambda line: None,
        objective=objective(home),
    )
    stopper.join()
    assert code == 128 + signal.SIGTERM
    (home / "one" / "notes.txt").write_text("nobody's business")
    return home / "one"


def objective(home: Path) -> partial[None]:
    for seed in (0, 1):
        if not (home / "models" / f"{seed}.ckpt").exists():
            save_model(home / "models" / f"{seed}.ckpt", seed=seed)
    return partial(objectives.saved, models=home / "models")


@pytest.fixture
def folder(stopped: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy to damage; whatever is done to it, nothing in it was run."""
    copy = tmp_path / "one"
    shutil.copytree(stopped, copy)
    yield copy
    assert not canary_of(copy).exists(), "something in the folder was run"
    assert (copy / "notes.txt").read_text() == "nobody's business"


def files_of(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if not path.is_symlink()
    }


@pytest.mark.parametrize("name", GOES_ON)
def test_rows_05_to_08_27_a_dry_run_says_how_a_damaged_search_would_go_on_and_changes_nothing(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    GOES_ON[name](folder)
    before = files_of(folder)
    assert main(["resume", str(folder), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "Going on with" in said
    assert ("last line was torn" in said) == (
        "torn" in name or "zeros after" in name or "last line" in name
    )
    if "five lines" not in name:  # those may have named newer checkpoints, and older ones are gone
        harmed = "checkpoint" in name or "weight" in name or name == "ray's folder gone"
        assert ("damaged or gone" in said) == harmed
    assert files_of(folder) == before


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("words", [["resume"], ["resume", "--dry-run"], ["report", "--rebuild"]])
def test_row_07_a_journal_that_a_crash_can_not_have_damaged_is_refused_and_left_alone(
    name: str, words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harm, message = REFUSED[name]
    harm(folder)
    before = files_of(folder)
    assert main([words[0], str(folder), *words[1:]]) == 2
    assert message in capsys.readouterr().err
    now = files_of(folder)
    assert {name: now[name] for name in before if name != LOCK_NAME} == {
        name: before[name] for name in before if name != LOCK_NAME
    }


@pytest.mark.parametrize(
    "name", ["an empty journal", "a journal of zeros", "no journal", "lines swapped"]
)
@pytest.mark.parametrize("named", [True, False])
def test_row_07_resume_auto_never_starts_a_new_search_beside_a_damaged_one(
    name: str, named: bool, folder: Path, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    REFUSED[name][0](folder)
    home = folder if named else folder.rename(folder.with_name("asha-1"))
    words = ["--out", str(home.parent), "--resume", "auto", "--dry-run"]
    assert (
        main([*words, "--data-dir", str(image_folder), *(["--name", "one"] if named else [])]) == 2
    )
    capsys.readouterr()
    if not named:
        home.rename(folder)


def test_a_journal_of_a_later_version_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from cifar_tune.record.journal import _format_line

    first = read_journal(folder).events[0]
    line = _format_line({**first, "version": 2})
    lines(lambda all_lines: [line, *all_lines[1:]])(folder)
    for words in (["resume", str(folder), "--dry-run"], ["report", str(folder)]):
        assert main(words) == 2
        assert (
            "later cifar_tune (journal version 2, this one reads 1); upgrade"
            in capsys.readouterr().err
        )


def test_all_that_comes_from_the_journal_is_made_again_from_it_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("trials.csv", "summary.json", "plan.yaml", "environment.json")
    before = {name: (folder / name).read_bytes() for name in names}
    bare = tmp_path / "bare" / "one"
    bare.mkdir(parents=True)
    shutil.copy(folder / FILE_NAME, bare)
    assert main(["report", str(bare), "--rebuild"]) == 0
    assert {name: (bare / name).read_bytes() for name in names} == before
    assert (bare / "report.html").stat().st_size > 100_000
    (bare / "summary.json").write_bytes(b"\0")
    from cifar_tune.record.journal import locked

    with locked(bare):
        assert main(["report", str(bare), "--rebuild"]) == 2
    assert "in use by process" in capsys.readouterr().err
    assert main(["report", str(bare), "--rebuild"]) == 0
    assert (bare / "summary.json").read_bytes() == before["summary.json"]


def test_row_08_a_flipped_bit_in_a_checkpoint_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "model.ckpt"
    torch.save({"epoch": 3, "weights": torch.arange(40.0), "name": "resnet9"}, path)
    content, expected = path.read_bytes(), str(torch.load(path, weights_only=True))
    noticed, refused, harmless = 0, 0, 0
    for place in range(0, len(content), 13):
        path.write_bytes(
            content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        )
        if not is_whole(str(path)):
            noticed += 1
            continue
        try:
            assert str(torch.load(path, weights_only=True)) == expected
            harmless += 1  # padding, dates
        except RuntimeError:
            refused += 1  # a field of the archive that torch reads and Python does not
    print(f"\n{noticed} noticed, {refused} refused by torch, {harmless} without effect")  # noqa: T201
    assert noticed > refused


def test_row_27_a_checkpoint_that_would_fill_the_memory_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data/0", bytes(10**7))
    assert not is_whole(str(path))


@pytest.mark.faults
@pytest.mark.parametrize("name", [*GOES_ON, "newest checkpoints hostile"])
@pytest.mark.usefixtures("ray_session")
def test_rows_05_to_08_27_a_damaged_search_goes_on_from_a_good_state(
    name: str, folder: Path, stopped: Path
) -> None:
    from cifar_tune.session.resume import resume_search

    harm = GOES_ON.get(name, each_newest(hostile_checkpoint))
    harm(folder)
    kept = read_journal(folder)
    said: list[str] = []
    code = resume_search(folder, MACHINE, said.append, objective=objective(stopped.parent))
    assert code == 0, said
    records = read_journal(folder)
    assert records.events[: len(kept.events)] == kept.events, "what was recorded is lost"
    results = Results.from_records(folder, records)
    assert results.counts()["completed"] == TRIALS
    reports = Counter((e["trial_id"], e["metrics"]["epoch"]) for e in records.of("result"))
    assert set(reports) == {(t, e + 1) for t in results.trials for e in range(EPOCHS)}
    harmed = "checkpoint" in name or "weight" in name or "ray's folder" in name
    if not harmed and "five lines" not in name:
        assert set(reports.values()) == {1}, "nothing had to be repeated"
    if harmed and "hostile" not in name:
        assert records.of("checkpoints_lost")
    if "newest" in name or "weight" in name:
        assert max(reports.values()) <= 2, "the next older checkpoint is one epoch older"
    assert (folder / "best" / "model.json").exists()
