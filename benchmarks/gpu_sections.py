"""The sections of gpu.py: each measures one thing, and writes a JSON line an item."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import LambdaCallback
from muon_rules import AVERAGING, by_the_rules

from cifar_tune.plan.gpus import CUDA_BYTES
from cifar_tune.plan.load import load_plan
from cifar_tune.train.fit import FitResult, fit
from cifar_tune.vision.config import VisionRun
from cifar_tune.vision.data import SearchData
from cifar_tune.vision.data.augmentation import BatchMaker
from cifar_tune.vision.data.datamodule import TrainLoader, as_tensor
from cifar_tune.vision.data.dataset import in_memory
from cifar_tune.vision.models import build_model
from cifar_tune.vision.optim import build_optimizer, build_schedule
from cifar_tune.vision.portable import load_checkpoint

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
MODELS, OPTIMIZERS, CLIPS = ("net", "resnet9", "speednet"), ("sgd", "adamw", "muon"), (0.0, 0.5)
ROUNDS = 7


def run(section: str, *, small: bool) -> None:
    """Measure, on this process's GPU or CPU."""
    torch.set_num_threads(1)  # as fit has it
    name = torch.cuda.get_device_name(0) if ON_GPU else "CPU"
    tell(device=name, torch=torch.__version__)
    sections: dict[str, Callable[[bool], None]] = {
        "smoke": smoke, "step": step, "flags": flags, "speed94": speed94, "fixed": fixed,
        "packing": packing, "memory": memory, "nccl": nccl,
        "pack-one": lambda small: tell(seconds=seconds_of(one_training(small))),
    }  # fmt: skip
    sections[section](small)


def tell(**item: Any) -> None:
    sys.stdout.write(json.dumps(item) + "\n")
    sys.stdout.flush()


def claim(what: str, passed: bool, told: str) -> None:
    tell(claim=what, passed=passed, told=told)


def noise(images: int, val: int = 64) -> SearchData:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (images + val, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, 10, images + val, dtype=np.int64)
    classes = tuple(str(digit) for digit in range(10))
    half, quarter = (0.5,) * 3, (0.25,) * 3
    return SearchData(
        pixels[:images], labels[:images], pixels[images:], labels[images:], classes, half, quarter
    )


def config(*given: str, seed: int = 0) -> VisionRun:
    found: VisionRun = load_plan(None, ["train.threads=1", *given]).with_values({}, seed)
    return found


def weights(result: FitResult) -> dict[str, torch.Tensor]:
    return result.module.state_dict()


def same(one: FitResult, other: FitResult) -> bool:
    pairs = zip(weights(one).values(), weights(other).values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def seconds_of(act: Callable[[], object]) -> float:
    if ON_GPU:
        torch.cuda.synchronize()
    began = time.perf_counter()
    act()
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter() - began


class NoSync(LambdaCallback):
    """A training in which a step may not wait for the GPU."""

    def __init__(self) -> None:
        super().__init__(
            on_train_batch_start=lambda *_: _forbid("error"),
            on_train_batch_end=lambda *_: _forbid("default"),
        )


def _forbid(mode: str) -> None:
    if ON_GPU:
        torch.cuda.set_sync_debug_mode(mode)


def smoke(small: bool) -> None:
    data, failed = noise(48), []
    precisions = ("32", "bf16", "16") if ON_GPU else ("32", "bf16")
    combinations = [*product(MODELS, OPTIMIZERS, precisions, CLIPS)]
    for model, optimizer, precision, clip in combinations[:: 9 if small else 1]:
        given = [f"model.name={model}", "model.width=4", "data.batch_size=16", "train.max_epochs=1"]
        given += [
            f"optim.name={optimizer}",
            f"train.precision={precision}",
            f"optim.gradient_clip={clip}",
        ]
        # float16's scaler reads whether a gradient overflowed, each step.
        watch = [] if precision == "16" else [NoSync()]
        try:
            fit(config(*given), data, callbacks=watch)
        except Exception as error:
            failed.append(f"{model} {optimizer} {precision} {clip}: {error!r:.200}")
            tell(failed=failed[-1])
        finally:
            _forbid("default")
    claim(
        "every model, optimizer, precision and clipping trains, and no step waits",
        not failed,
        "; ".join(failed) or f"{len(combinations)} combinations",
    )
    exact = config(
        "model.width=4",
        "data.batch_size=16",
        "train.max_epochs=2",
        "train.deterministic=true",
        "train.precision=bf16",
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "first.ckpt")

        def save(trainer: Any, _: Any) -> None:
            if trainer.current_epoch == 0:
                trainer.save_checkpoint(path)

        whole = fit(exact, data, callbacks=[LambdaCallback(on_validation_end=save)])
        claim(
            "the same seed gives the same bits",
            same(whole, fit(exact, data)),
            "deterministic, bf16",
        )
        claim(
            "a resumed training is an unbroken one",
            same(whole, fit(exact, data, resume_from=path)),
            "the same",
        )


def bare(run: VisionRun, data: SearchData, epochs: int) -> Callable[[], None]:
    """The same steps without Lightning and without figures."""

    def train() -> None:
        model = build_model(run.model, 10).to(DEVICE).to(memory_format=torch.channels_last)
        optimizer = build_optimizer(model, run.optim, precision=run.train.precision)
        images = as_tensor(in_memory(data.train_images)).to(DEVICE)
        labels = as_tensor(data.train_labels).to(DEVICE)
        maker, epoch = BatchMaker(run.data, data.mean, data.std, DEVICE), [0]
        loader = TrainLoader(images, labels, maker, run.data, 0, lambda: epoch[0])
        schedule = build_schedule(optimizer, run.optim, epochs * len(loader))
        for epoch[0] in range(epochs):
            for batch, targets in loader:
                with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
                    loss = F.cross_entropy(model(batch), targets)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()

    return train


def step(small: bool) -> None:
    cases = [("net", 8, 128), ("resnet9", 64, 512), ("speednet", 64, 1000), ("speednet", 64, 2000)]
    for model, width, batch in [("net", 8, 16)] if small else cases:
        steps = 4 if small else 40
        data = noise(batch * steps)
        given = [f"model.name={model}", f"model.width={width}", f"data.batch_size={batch}"]
        run = config(
            *given,
            "train.precision=bf16",
            "train.channels_last=true",
            "train.max_epochs=2",
            "train.deterministic=false",
        )
        sides = {"fit": lambda: fit(run, data), "bare": bare(run, data, 2)}  # noqa: B023
        took: dict[str, list[float]] = {name: [] for name in sides}
        for side in sides.values():
            side()  # warms up
        for turn in range(2 if small else ROUNDS):
            for name in sorted(sides, reverse=bool(turn % 2)):
                took[name].append(seconds_of(sides[name]) / (2 * steps) * 1e3)
        middle = {name: statistics.median(times) for name, times in took.items()}
        tell(
            model=model,
            width=width,
            batch=batch,
            ms_a_step=took,
            **launches(bare(run, data, 1), steps),
        )
        added = middle["fit"] / middle["bare"] - 1
        claim(
            f"{model} {width} at {batch}: fit adds less than a fifth to a bare loop",
            small or added < 0.2,
            f"{middle['fit']:.2f} and {middle['bare']:.2f} ms a step, setup included",
        )


def launches(train: Callable[[], object], steps: int) -> dict[str, float]:
    """Kernels a step, and which part of the time the GPU is busy; nothing on a CPU."""
    if not ON_GPU:
        return {}
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        wall = seconds_of(train)
    kernels = [event for event in profiled.events() if event.device_type.name == "CUDA"]
    busy = sum(event.device_time for event in kernels) / 1e6
    return {"launches_a_step": len(kernels) / steps, "gpu_busy": busy / wall}


def flags(small: bool) -> None:
    data = noise(32 if small else 20 * 512)
    size = (
        ["model.width=4", "data.batch_size=16"]
        if small
        else ["model.width=64", "data.batch_size=512"]
    )
    for given in (
        ["train.deterministic=true"],
        ["train.deterministic=false"],
        ["train.precision=32"],
        ["train.precision=32", "train.tf32=true"],
        ["train.channels_last=false"],
    ):
        run = config(*size, "train.max_epochs=1", *given)
        fit(run, data)
        train = partial(fit, run, data)
        tell(flags=given, seconds=[seconds_of(train) for _ in range(1 if small else 3)])


def speed94(small: bool) -> None:
    images, width = (64, 4) if small else (50_000, 64)
    data = noise(images)
    changes = [
        f"model.width={width}",
        *(["data.batch_size=16", "train.max_epochs=1"] if small else []),
    ]
    plan = load_plan("speed94", [*changes, "train.threads=1", "train.precision=bf16"])
    run, epochs = plan.with_values({}, 0), plan.train.max_epochs
    with tempfile.TemporaryDirectory() as folder:
        saving = LambdaCallback(
            on_validation_end=lambda t, _: t.save_checkpoint(Path(folder, "x.ckpt"))
        )
        sides: dict[str, Callable[[], object]] = {
            "the rules in a bare loop, float32": lambda: by_the_rules(run, data, epochs),
            "speed94": lambda: fit(run, data),
            "with a checkpoint an epoch": lambda: fit(run, data, callbacks=[saving]),
        }
        for name, side in sides.items():
            side()  # warms up
            tell(side=name, seconds=[seconds_of(side) for _ in range(1 if small else 2)])
        network = load_checkpoint(Path(folder, "x.ckpt")).to(DEVICE)
        scored = in_memory(data.train_images)[: 50 if small else 10_000]
        for name, averaging in AVERAGING.items():
            score = partial(network.logits, scored, **averaging)
            score()
            tell(averaging=name, seconds=[seconds_of(score) for _ in range(3)])
    if ON_GPU:
        compiled = run.model_copy(update={"train": run.train.model_copy(update={"compile": True})})
        try:
            first = seconds_of(lambda: fit(compiled, data))
            tell(side="compiled", first=first, seconds=seconds_of(lambda: fit(compiled, data)))
        except Exception as error:
            tell(open=f"compiled: {error!r:.200}")


def fixed(small: bool) -> None:
    """What each training costs that has next to no steps."""
    run, data = config("model.name=net", "data.batch_size=16", "train.max_epochs=1"), noise(16)
    fit(run, data)
    tell(seconds_of_a_training_of_one_step=[seconds_of(lambda: fit(run, data)) for _ in range(3)])
    if ON_GPU:
        free, total = torch.cuda.mem_get_info()
        own = total - free - torch.cuda.memory_reserved()
        claim(
            "CUDA takes no more of a GPU than is kept for it",
            own <= CUDA_BYTES,
            f"{own / 1e9:.2f} GB of {CUDA_BYTES / 1e9:.1f}; a neighbour counts as ours",
        )


def one_training(small: bool) -> Callable[[], object]:
    size = (
        ["model.width=4", "data.batch_size=16"]
        if small
        else ["model.width=16", "data.batch_size=128"]
    )
    run, data = config(*size, "train.max_epochs=2"), noise(32 if small else 100 * 128)
    fit(run, data)
    return lambda: fit(run, data)


def packing(small: bool) -> None:
    """Trainings at once on one GPU, by processes: what a share of it brings."""
    for count in (1, 2) if small else (1, 2, 4):
        with children("pack-one", count, small) as each:
            outputs = [child.communicate()[0] for child in each]
        found = [json.loads(line) for output in outputs for line in output.splitlines()]
        took = [item["seconds"] for item in found if "seconds" in item]
        if len(took) == count:
            tell(processes=count, mps=_has_mps(), trainings_a_second=sum(1 / x for x in took))
        else:
            tell(open=f"{count} processes: {count - len(took)} ended early")


@contextmanager
def children(section: str, count: int, small: bool) -> Iterator[list[subprocess.Popen[str]]]:
    here = Path(__file__).with_name("gpu.py")
    words = [sys.executable, str(here), "--section", section, *["--small"] * small]
    yield [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(count)]


def _has_mps() -> bool:
    return (
        subprocess.run(
            ["pgrep", "-f", "nvidia-cuda-mps-server"], check=False, stdout=subprocess.DEVNULL
        ).returncode
        == 0
    )


def memory(small: bool) -> None:
    """Out of memory within a share, and the GPU as it was after it."""
    from cifar_tune.record.trials import OUT_OF_MEMORY, kind_of

    def too_much() -> None:
        if not ON_GPU:
            raise MemoryError
        torch.cuda.set_per_process_memory_fraction(0.1)
        torch.empty(torch.cuda.mem_get_info()[1] // 5, dtype=torch.uint8, device="cuda")

    try:
        too_much()
    except Exception as error:
        kind = kind_of(f"{type(error).__name__}: {error}")
        claim("what exceeds a share is out of memory", kind == OUT_OF_MEMORY, kind)
    if ON_GPU:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    one_training(small)()
    claim("and the process trains on", True, "the next training ended")


def nccl(small: bool) -> None:
    """The process group of several workers, with one."""
    from cifar_tune.train.parallel import Member

    with tempfile.TemporaryDirectory() as folder:
        member = Member(rank=0, workers=1, meeting=str(Path(folder, "meeting")))
        result = fit(
            config("model.width=4", "data.batch_size=16", "train.max_epochs=1"),
            noise(32),
            member=member,
        )
        claim(
            f"a group of {'nccl' if ON_GPU else 'gloo'} trains", not result.diverged, "world size 1"
        )
