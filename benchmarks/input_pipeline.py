"""Times the CPU cost of a training image: our batches against torchvision's per-sample transforms.

Both sides make the same augmented input (reflect-padded random crop, random flip, normalisation) at
the same batch size, on one thread, without loader workers, in turn, in several rounds:

    python benchmarks/input_pipeline.py [--data-dir PATH] [--images 5000] [--rounds 7]

With --photographs instead: what each augmentation for photographs adds to an image of ours.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable
from typing import Any

import quiet
import sides
import torch
from PIL import Image
from torchvision import transforms

from cifar_tune.vision.data import SearchData, prepare, prepare_drawn, search_data
from cifar_tune.vision.data.augmentation import BatchMaker
from cifar_tune.vision.data.datamodule import TrainLoader, as_tensor
from cifar_tune.vision.data.dataset import in_memory
from cifar_tune.vision.data.photographs import Photographs, photographs_of
from cifar_tune.vision.data_config import DataConfig

PHOTOGRAPHS = {
    "random_resized_crop": 0.3,
    "color_jitter": 0.3,
    "trivial_augment": True,
    "mixup": 0.2,
    "cutmix": 1.0,
}
HELD_OUT = 1000  # images for validation and confirmation each, which this program does not use


class Transformed(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Images one by one through torchvision's transforms, as most training programs do it."""

    def __init__(self, data: SearchData, config: DataConfig) -> None:
        self._images, self._labels = in_memory(data.train_images), data.train_labels
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=config.crop_padding, padding_mode="reflect"),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(data.mean, data.std),
            ]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self._transform(Image.fromarray(self._images[index]))
        return image, int(self._labels[index])


def main() -> None:
    arguments = parse_arguments()
    quiet.begin(arguments)
    torch.set_num_threads(1)
    sizes = {"val_size": HELD_OUT, "confirm_size": HELD_OUT, "image_size": 32}
    config = DataConfig.model_validate({"path": arguments.data_dir, **sizes})
    data = load(config, arguments.images)
    if arguments.photographs:
        photographs(data, config, arguments)
        return
    print(f"{arguments.images} images, {arguments.rounds} rounds, one thread, batch 128")
    ours, theirs = our_loader(data, config), torchvision_loader(data, config)
    rounds = [(cost(ours), cost(theirs)) for _ in range(1 + arguments.rounds)][1:]  # one to warm up
    mine, others = ([pair[side] for pair in rounds] for side in (0, 1))
    report(mine, others)
    quiet.save(arguments, {"microseconds": {"cifar_tune": mine, "torchvision": others}})


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", help="a dataset; without it the built-in drawn set")
    parser.add_argument("--images", type=int, default=5000, help="training images an epoch")
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each side that are timed")
    parser.add_argument("--photographs", action="store_true", help="what each of these adds")
    parser.add_argument("--side", type=int, default=32, help="of the images, with --photographs")
    quiet.add_options(parser)
    return parser.parse_args()


def photographs(data: SearchData, config: DataConfig, arguments: argparse.Namespace) -> None:
    """Prints what each augmentation costs an image, in batches of 128 at the side that is asked."""
    side, repeat = arguments.side, -(-arguments.side // 32)
    pixels = as_tensor(in_memory(data.train_images[:128])).repeat(1, repeat, repeat, 1)[
        :, :side, :side
    ]
    normalised = pixels.permute(0, 3, 1, 2).float() / 255
    labels, classes = as_tensor(data.train_labels[:128]), len(data.classes)
    figures: dict[str, list[float]] = {}
    for name, value in PHOTOGRAPHS.items():
        asked = photographs_of(config.model_copy(update={name: value}), side, classes, seed=0)
        assert asked is not None

        def change(number: int, asked: Photographs = asked) -> None:
            if asked.changes_pixels:
                asked.pixels(pixels, range(128), epoch=0, batch=number)
            else:
                asked.mixed(normalised, labels, epoch=0, batch=number)

        figures[name] = []
        for number in range(1 + arguments.rounds):
            start = time.process_time()
            change(number)
            figures[name].append((time.process_time() - start) / 128 * 1e6)
        print(f"{name:20} {sides.spread(figures[name][1:])} µs")  # one to warm up
    quiet.save(arguments, {"side": side, "microseconds": figures})


def load(config: DataConfig, images: int) -> SearchData:
    config = config.model_copy(update={"train_size": images})
    if config.path is not None:
        return search_data(prepare(config, print), config)
    return search_data(prepare_drawn(print, images + 2 * HELD_OUT, 100), config)


def our_loader(data: SearchData, config: DataConfig) -> Iterable[Any]:
    maker = BatchMaker(config, data.mean, data.std, torch.device("cpu"))
    images, labels = as_tensor(in_memory(data.train_images)), as_tensor(data.train_labels)
    return TrainLoader(images, labels, maker, config, seed=0, epoch=lambda: 0)


def torchvision_loader(data: SearchData, config: DataConfig) -> Iterable[Any]:
    return torch.utils.data.DataLoader(
        Transformed(data, config), batch_size=config.batch_size, shuffle=True, drop_last=True
    )


def cost(loader: Iterable[Any]) -> float:
    """CPU microseconds an image over one epoch."""
    images = 0
    start = time.process_time()
    for batch, _ in loader:
        images += len(batch)
    return (time.process_time() - start) / images * 1e6


def report(ours: list[float], theirs: list[float]) -> None:
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    print(f"{'':28}{'median':>10}{'min':>10}{'max':>10}")
    for name, values, unit in (
        ("cifar_tune", ours, "µs"),
        ("torchvision, per sample", theirs, "µs"),
        ("ratio", ratios, "x"),
    ):
        figures = (statistics.median(values), min(values), max(values))
        print(f"{name:28}" + "".join(f"{figure:10.2f}" for figure in figures) + f"  {unit}")


if __name__ == "__main__":
    main()
