"""Files of strangers and damaged ones: refused in a line, and nothing in them runs or is deleted."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import command, run, wait_for_results
from PIL import Image
from saved_models import begin_search

from cifar_tune.errors import JournalError
from cifar_tune.plan.load import load_plan
from cifar_tune.record.journal import FILE_NAME, Journal
from cifar_tune.record.results import Results
from cifar_tune.tune import main


class Canary:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.makedirs, (self._path, 0o777, True)


def flip_a_bit(images: Path) -> Path:
    file = sorted(images.rglob("*.png"))[7]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return images


def cut(images: Path) -> Path:
    archive = Path(shutil.make_archive(str(images), "gztar", images))
    os.truncate(archive, archive.stat().st_size // 2)
    return archive


def be_another_file(images: Path) -> Path:
    file = images.with_suffix(".tar.gz")
    file.write_bytes(pickle.dumps(Canary(images.parent / "ran")))
    return file


def lead_out(images: Path) -> Path:
    return with_member(images, tarfile.TarInfo("train/../../../escaped"))


def be_a_link(images: Path) -> Path:
    link = tarfile.TarInfo("train/bird/link.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return with_member(images, link)


def be_a_bomb(images: Path) -> Path:
    bomb = tarfile.TarInfo("train/bird/bomb.png")
    bomb.size = 65 << 20
    return with_member(images, bomb)


def with_member(images: Path, member: tarfile.TarInfo) -> Path:
    archive = images.with_suffix(".tar.gz")
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.addfile(member, io.BytesIO(bytes(member.size)))
        tar.add(images / "train", "train")
        tar.add(images / "test", "test")
    return archive


@pytest.mark.parametrize("row", [
    pytest.param((flip_a_bit, "1 of 40 images can't be read"), id="row_26_flipped_bit"),
    pytest.param((cut, "is damaged or cut short"), id="row_26_cut"),
    pytest.param((be_another_file, "is no archive that can be read here"), id="row_26_wrong_file"),
    pytest.param((lead_out, "escaped"), id="row_27_leads_out"),
    pytest.param((be_a_link, "link"), id="row_27_link"),
    pytest.param((be_a_bomb, "bomb"), id="row_27_bomb"),
])  # fmt: skip
def test_row_26_27_a_bad_dataset_is_refused_before_anything_starts(
    row: tuple[Callable[[Path], Path], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, message = row
    for number in range(40):
        file = tmp_path / "in" / "images" / ("train" if number < 30 else "test") / "ab"[number % 2]
        file.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((32, 32), 50).convert("RGB").save(file / f"{number}.png")
    data = damage(tmp_path / "in" / "images")
    sets = [
        "--set",
        "data.val_size=10",
        "--set",
        "data.confirm_size=5",
        "--set",
        "data.batch_size=4",
    ]
    space = ["--set", "search.space.data.batch_size=null"]
    words = [
        "--data-dir",
        str(data),
        "--out",
        str(tmp_path / "out"),
        "--name",
        "one",
        *sets,
        *space,
    ]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"], "something was written"


@pytest.mark.parametrize("text", [
    "seed: !!python/object/apply:os.mkdir [ran]",
    "name: !!python/name:os.mkdir",
    "&a seed: !include other.yaml",
])  # fmt: skip
def test_row_27_a_tag_in_a_plan_runs_nothing(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.yaml").write_text(text + "\n")
    assert main(["--config", "plan.yaml"]) == 2
    assert "plan.yaml:1" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["plan.yaml"]


def test_row_27_a_hostile_checkpoint_given_to_predict_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, image = tmp_path / "model.ckpt", tmp_path / "image.png"
    torch.save({"state_dict": {}, "hyper_parameters": Canary(tmp_path / "ran")}, checkpoint)
    Image.new("RGB", (32, 32)).save(image)
    assert main(["predict", "--model", str(checkpoint), str(image)]) == 2
    assert "can't be used" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


VICTIM = "/home/somebody"


@pytest.mark.parametrize(
    ("storage", "checkpoint"),
    [
        (VICTIM, None),
        (f"file://{VICTIM}", None),
        ("../..", None),
        ("ray/../../x", None),
        (f"{VICTIM}/mine-0123abcd/1/../..", None),
        ("ray/1", f"{VICTIM}/model.ckpt"),
        ("ray/1", "ray/1/../../../model.ckpt"),
        ("s3://bucket/mine-0123abcd/1", f"{VICTIM}/t0001/model.ckpt"),
    ],
)
def test_row_27_a_journal_that_names_places_of_others_is_refused(
    storage: str, checkpoint: str | None, tmp_path: Path
) -> None:
    """What a search does not need any more it deletes, and a stranger may have written the names."""
    with Journal(tmp_path) as journal:
        plan = begin_search(journal, load_plan(None)).results.plan.model_dump(mode="json")
        journal.append("start", number=1, slots=1, storage=storage, process=1, plan=plan)
        journal.append("trial_created", trial_id="t0001", index=0, seed=0, values={})
        metrics = {
            "epoch": 1,
            "val_accuracy": 0.5,
            "val_loss": 1.0,
            "first_step_at": 1.0,
            "reported_at": 2.0,
        }
        told = {"metrics": metrics, "checkpoint": checkpoint, "done": True, "diverged": False}
        journal.append("result", trial_id="t0001", **told)
    with pytest.raises(JournalError, match="which lies outside of what a search has to itself"):
        Results.read(tmp_path)


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
@pytest.mark.parametrize("place", ["ray", "ray/1", "finals", "best"])
def test_row_27_a_link_in_a_results_folder_leads_to_no_deletion(
    place: str, more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, victim = tmp_path / "results", tmp_path / "victim"
    folder.mkdir()
    victim.mkdir()
    (victim / "precious").touch()
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).symlink_to(victim)
    with Journal(folder) as journal:
        begin_search(journal, load_plan(None))
    assert main(["resume", str(folder), *more]) == 2
    assert f"{folder / place} is a symbolic link" in capsys.readouterr().err
    assert (victim / "precious").exists()


@pytest.mark.faults
def test_row_27_hostile_files_in_a_results_folder_run_nothing_when_it_goes_on(
    small_plan: list[str], tmp_path: Path
) -> None:
    """Checkpoints, Ray's own state files, and what a reader might load from `best`."""
    sets = [word for value in small_plan for word in ("--set", value)]
    place = ["--out", str(tmp_path), "--name", "one", "--resume", "auto", "--max-epochs", "4"]
    words = [*place, "--num-samples", "2", "--scheduler", "none", *sets]
    folder, ran = tmp_path / "one", tmp_path / "ran"
    process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, text=True)
    wait_for_results(folder, 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    checkpoints = list(folder.rglob("model.ckpt"))
    assert checkpoints
    for checkpoint in checkpoints:
        torch.save({"state_dict": {}, "epoch": Canary(ran)}, checkpoint)
    for name in ("ray/1/tuner.pkl", "ray/1/trainable.pkl", "ray/1/searcher-state.pkl", "study.log"):
        (folder / name).write_bytes(pickle.dumps(Canary(ran)))
    (folder / "best").mkdir(exist_ok=True)
    for name in ("plan.yaml", "best/config.yaml"):
        (folder / name).write_text(f"seed: !!python/object/apply:os.mkdir [{ran}]\n")
    done = run(*words)
    assert done.returncode in (3, 4), done.stdout + done.stderr  # those trials fail, and are named
    assert "UnpicklingError: Weights only load failed" in (folder / FILE_NAME).read_text()
    assert not ran.exists()
