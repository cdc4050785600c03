"""Images that would fill the memory are mapped from one file by all trials of a machine."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy_images import toy_run

from cifar_tune.plan.load import plan_from
from cifar_tune.train.fit import fit
from cifar_tune.vision import opened
from cifar_tune.vision.config import VisionPlan
from cifar_tune.vision.data import Dataset, prepare_drawn, search_data
from cifar_tune.vision.data.cache import CACHE_VARIABLE
from cifar_tune.vision.data.dataset import MappedImages, in_memory
from cifar_tune.vision.data.held_out import open_confirm_split
from cifar_tune.vision.data.splits import split_indices
from cifar_tune.vision.data.stored import open_images
from cifar_tune.vision.data_config import DataConfig
from cifar_tune.vision.opened import VisionData, memory_bytes, sharing_file

CONFIG = DataConfig(val_size=40, confirm_size=40, batch_size=16, eval_batch_size=16)


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return prepare_drawn(lambda _note: None, 200, 40)


def test_a_training_on_mapped_images_is_the_same_bit_for_bit(drawn: Dataset) -> None:
    copied, mapped = (search_data(drawn, CONFIG, mapped=mapped) for mapped in (False, True))
    assert isinstance(mapped.train_images, MappedImages)
    run = toy_run(max_epochs=2)
    figures = [fit(run, data).metrics for data in (copied, mapped)]
    for one in figures:
        one.pop("images_per_second")
    assert figures[0] == figures[1]


def test_what_a_trial_gets_is_a_path_and_rows_without_the_confirmation_images(
    drawn: Dataset,
) -> None:
    data = search_data(drawn, CONFIG, mapped=True)
    in_memory(data.train_images)  # what is open is not pickled
    content = pickle.dumps(data)
    assert len(content) < 10_000
    sent = pickle.loads(content)
    assert np.array_equal(in_memory(sent.val_images), in_memory(data.val_images))
    confirm = split_indices(open_images(drawn, "train").labels, 10, CONFIG).confirm
    assert not set(confirm) & {*sent.train_images.rows, *sent.val_images.rows}
    assert sent.train_images.file == drawn.folder / "train_images.npy"


def test_final_trainings_map_all_but_the_test_images(drawn: Dataset) -> None:
    copied, mapped = (VisionData(drawn, CONFIG, mapped=mapped) for mapped in (False, True))
    final = mapped.part("final")
    assert isinstance(final.train_images, MappedImages)
    other = copied.part("final")
    assert np.array_equal(in_memory(final.train_images), other.train_images)
    assert np.array_equal(final.train_labels, other.train_labels)
    held = open_confirm_split(drawn, CONFIG).images
    assert np.array_equal(in_memory(final.train_images)[-40:], held)


def test_it_is_done_where_the_images_take_more_than_a_quarter_of_the_memory(
    drawn: Dataset, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = VisionPlan()
    assert not sharing_file(drawn, plan, notes.append)
    assert notes == []
    monkeypatch.setattr(opened, "memory_bytes", lambda: 4 * 200 * 3072 - 1)
    assert sharing_file(drawn, plan, notes.append)
    assert "all trials read them from one file on the disk" in notes[-1]
    cluster = plan_from({"resources": {"address": "auto"}}, "a plan")
    assert isinstance(cluster, VisionPlan)
    assert not sharing_file(drawn, cluster, notes.append)
    assert "a copy goes to each machine of the cluster" in notes[-1]


@pytest.fixture
def notes() -> list[str]:
    return []


def test_the_memory_of_a_container_is_its_limit(tmp_path: Path) -> None:
    machine = memory_bytes(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_bytes(tmp_path) == machine
    (tmp_path / "memory.max").write_text("123456\n")
    assert memory_bytes(tmp_path) == 123456


PROPORTIONAL = """
import sys, pickle
import torch
from cifar_tune.vision.data.datamodule import as_tensor

data = pickle.load(open(sys.argv[1], "rb"))
total = int(as_tensor(data.train_images.stored).sum())
print("ready", flush=True)
sys.stdin.readline()
rss = pss = 0
for line in open("/proc/self/smaps"):
    if line[0] in "0123456789abcdef" and "-" in line.split()[0]:
        ours = "train_images.npy" in line
    elif ours and line.startswith("Rss:"):
        rss += int(line.split()[1])
    elif ours and line.startswith("Pss:"):
        pss += int(line.split()[1])
print(rss, pss)
"""


def test_two_processes_share_one_copy_of_the_pages(drawn: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "data.pickle"
    file.write_bytes(pickle.dumps(search_data(drawn, CONFIG, mapped=True)))
    command = [sys.executable, "-W", "ignore", "-c", PROPORTIONAL, str(file)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # one after the other: both are there while the first counts
        process.stdin.write("\n")
        process.stdin.flush()
        rss, pss = map(int, process.stdout.readline().split())
        assert rss >= 200 * 3072 / 1024
        assert pss <= rss
        if process is processes[0]:
            assert pss <= 0.6 * rss
    for process in processes:
        process.communicate()
