"""What a training step costs through `fit()` against a bare PyTorch loop on the same batches.

    python benchmarks/step_overhead.py             # both nets, 5 rounds
    python benchmarks/step_overhead.py --numerics  # bf16 + channels_last against float32 NCHW

Both sides run in turn in one process, with the same network, seed, batches, optimizer and
schedule, and each is timed over its second epoch: from before the loader is asked for its
iterator to after the last step. The bare loop keeps no figures and clips nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import quiet
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import LambdaCallback
from torch import nn

from cifar_tune.plan.machine import read_machine, settle
from cifar_tune.train.fit import fit
from cifar_tune.vision.config import ModelConfig, VisionRun, VisionTrain
from cifar_tune.vision.data import SearchData
from cifar_tune.vision.data.augmentation import BatchMaker
from cifar_tune.vision.data.datamodule import TrainLoader, as_tensor
from cifar_tune.vision.data.dataset import in_memory
from cifar_tune.vision.data_config import DataConfig
from cifar_tune.vision.models import build_model
from cifar_tune.vision.optim import build_optimizer, build_schedule

EPOCHS = 2  # the first warms up, the second is timed


class Seconds(NamedTuple):
    """Time of one epoch: on the clock, and of this process on all its CPUs."""

    wall: float
    cpu: float


def linear_net(_config: ModelConfig, num_classes: int) -> nn.Module:
    """A net of next to no work, so that a step is all overhead."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    quiet.begin(arguments)
    if arguments.numerics:
        quiet.save(arguments, _compare_numerics(arguments))
        return 0
    figures = {}
    for name, batch_size, steps in (
        ("resnet9", 128, arguments.steps),
        ("step_overhead:linear_net", 8, 10 * arguments.steps),
    ):
        run = _run(name, batch_size, arguments.threads)
        data = _noise(steps * batch_size)
        sides = {"bare": lambda: _bare(run, data), "fit": lambda: _through_fit(run, data)}  # noqa: B023
        figures[name] = times = _alternate(sides, arguments.rounds)
        _print_table(f"{name}, batch {batch_size}, {run.train.precision}", times, steps)
    quiet.save(arguments, figures)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side")
    parser.add_argument("--steps", type=int, default=40, help="steps of resnet9; linear: 10 x")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--numerics", action="store_true", help="compare float32 with auto")
    quiet.add_options(parser)
    return parser


def _compare_numerics(arguments: argparse.Namespace) -> dict[str, list[Seconds]]:
    data = _noise(arguments.steps * 128)
    auto = _run("resnet9", 128, arguments.threads)
    plain_train = auto.train.model_copy(update={"precision": "32", "channels_last": False})
    plain = auto.model_copy(update={"train": plain_train})
    label = f"{auto.train.precision}, channels_last {auto.train.channels_last}"
    sides = {"float32": lambda: _through_fit(plain, data), "auto": lambda: _through_fit(auto, data)}
    times = _alternate(sides, arguments.rounds)
    _print_table(f"resnet9, batch 128, auto is {label}", times, arguments.steps)
    return times


def _run(name: str, batch_size: int, threads: int) -> VisionRun:
    machine = read_machine()
    train = settle(
        VisionTrain(max_epochs=EPOCHS, threads=threads), machine, cpus=1, gpu=machine.gpus > 0
    )
    data = DataConfig(batch_size=batch_size, eval_batch_size=1000)
    return VisionRun(data=data, model=ModelConfig(name=name, width=16), train=train)


def _noise(count: int) -> SearchData:
    """Random images of the right shape: a step costs the same whatever is in them."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, 10, count, dtype=np.int64)
    classes = tuple(str(digit) for digit in range(10))
    half, quarter = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    return SearchData(images, labels, images[:10], labels[:10], classes, half, quarter)


def _bare(run: VisionRun, data: SearchData) -> Seconds:
    """The loop that one would write by hand."""
    torch.set_num_threads(int(run.train.threads))
    torch.manual_seed(run.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = torch.channels_last if run.train.channels_last is True else torch.contiguous_format
    model = build_model(run.model, 10).to(device).to(memory_format=layout)
    epoch = 0
    loader = _loader(run, data, device, lambda: epoch)
    optimizer = build_optimizer(model, run.optim)
    schedule = build_schedule(optimizer, run.optim, EPOCHS * len(loader))
    dtype = torch.bfloat16 if run.train.precision == "bf16" else torch.float32
    for epoch in range(EPOCHS):  # noqa: B007  the loader reads it
        clock = _Clock()
        for images, labels in loader:
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        seconds = clock.read()
    return seconds


def _loader(
    run: VisionRun, data: SearchData, device: torch.device, epoch: Callable[[], int]
) -> TrainLoader:
    """The loader that `fit` gets from the data module, without a trainer."""
    channels_last = run.train.channels_last is True
    maker = BatchMaker(run.data, data.mean, data.std, device, channels_last=channels_last)
    images, labels = as_tensor(in_memory(data.train_images)), as_tensor(data.train_labels)
    return TrainLoader(images.to(device), labels.to(device), maker, run.data, run.seed, epoch)


def _through_fit(run: VisionRun, data: SearchData) -> Seconds:
    clocks: list[_Clock] = []
    times: list[Seconds] = []
    timer = LambdaCallback(
        on_train_epoch_start=lambda *_: clocks.append(_Clock()),
        on_validation_start=lambda *_: times.append(clocks[-1].read()),
    )
    fit(run, data, callbacks=[timer])
    return times[-1]


class _Clock:
    """Started when made; waits for the GPU, if there is one, at both ends."""

    def __init__(self) -> None:
        self._wait()
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> Seconds:
        self._wait()
        return Seconds(time.perf_counter() - self.wall, time.process_time() - self.cpu)

    @staticmethod
    def _wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def _alternate(sides: dict[str, Callable[[], Seconds]], rounds: int) -> dict[str, list[Seconds]]:
    """Every side once a round, so that a drift of the machine meets all of them."""
    times: dict[str, list[Seconds]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            times[name].append(side())
    return times


def _print_table(title: str, times: dict[str, list[Seconds]], steps: int) -> None:
    first, second = times
    print(f"\n{title}, {steps} steps, {len(times[first])} rounds; median [least to most]")
    for clock in ("wall", "cpu"):
        a = [getattr(seconds, clock) / steps * 1e3 for seconds in times[first]]
        b = [getattr(seconds, clock) / steps * 1e3 for seconds in times[second]]
        ratios = [y / x for x, y in zip(a, b, strict=True)]
        gaps = [y - x for x, y in zip(a, b, strict=True)]
        print(
            f"  {clock:4}  {first} {_spread(a)} ms  {second} {_spread(b)} ms"
            f"  {second}/{first} {_spread(ratios)}  {second}-{first} {_spread(gaps)} ms"
        )


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} [{min(values):.3f} to {max(values):.3f}]"


if __name__ == "__main__":
    sys.exit(main())
