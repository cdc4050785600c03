"""Times training images of a folder of photographs: ours against torchvision's ImageFolder.

Both sides make the same augmented input from the same JPEG files (resized, reflect-padded random
crop, random flip, normalisation) at the same batch size: ours from the decoded cache, mapped; the
other from an ImageFolder by a DataLoader with two workers, as is usual. In turn, in several rounds;
also the time of our first decoding, which is done once:

    python benchmarks/folder_input.py [--images 600] [--sides 128 224] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import quiet
import sides
import torch
from PIL import Image
from torchvision import datasets, transforms

from cifar_tune.vision.data import SearchData, prepare, search_data
from cifar_tune.vision.data.augmentation import BatchMaker
from cifar_tune.vision.data.cache import CACHE_VARIABLE
from cifar_tune.vision.data.datamodule import TrainLoader, as_tensor
from cifar_tune.vision.data.dataset import MappedImages
from cifar_tune.vision.data_config import DataConfig

WIDTH, HEIGHT = 500, 375  # of the photographs drawn
BATCH, WORKERS, PADDING = 64, 2, 4


def main() -> None:
    arguments = parse_arguments()
    quiet.begin(arguments)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = str(Path(folder) / "cache")
        draw_photographs(Path(folder) / "data", arguments.images)
        for side in arguments.sides:
            figures[str(side)] = compare(Path(folder) / "data", side, arguments.rounds)
    quiet.save(arguments, figures)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=600, help="photographs drawn")
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 224], help="data.image_size")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each side that are timed")
    quiet.add_options(parser)
    return parser.parse_args()


def draw_photographs(folder: Path, images: int) -> None:
    """Smooth colours with a little noise, as JPEGs of 50 kB: train/ and a small test/."""
    generator = np.random.default_rng(0)
    for number in range(images + 4):
        split = "train" if number < images else "test"
        place = folder / split / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), np.uint8))
        smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.int16)
        noise = generator.integers(-12, 13, smooth.shape, np.int16)
        pixels = np.clip(smooth + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{number:05}.jpg", quality=85)


def compare(folder: Path, side: int, rounds: int) -> dict[str, Any]:
    sizes = {"val_size": 2, "confirm_size": 0, "batch_size": BATCH, "image_size": side}
    config = DataConfig.model_validate({"path": str(folder), **sizes})
    start = time.perf_counter()
    data = search_data(prepare(config, lambda _note: None), config, mapped=True)
    first = time.perf_counter() - start
    ours, theirs = our_loader(data, config), torchvision_loader(folder, data, config)
    pairs = [(images_per_second(ours), images_per_second(theirs)) for _ in range(1 + rounds)][1:]
    mine, others = ([pair[place] for pair in pairs] for place in (0, 1))
    print(f"\n{side} x {side}: {len(data.train_labels)} images, first decoded in {first:.1f} s")
    report(mine, others)
    return {"first_decode_seconds": first, "cifar_tune": mine, "torchvision": others}


def our_loader(data: SearchData, config: DataConfig) -> Iterable[Any]:
    maker = BatchMaker(config, data.mean, data.std, torch.device("cpu"))
    assert isinstance(data.train_images, MappedImages)
    images, rows = as_tensor(data.train_images.stored), as_tensor(data.train_images.rows)
    labels = as_tensor(data.train_labels)
    return TrainLoader(images, labels, maker, config, seed=0, epoch=lambda: 0, rows=rows)


def torchvision_loader(folder: Path, data: SearchData, config: DataConfig) -> Iterable[Any]:
    side = config.side
    steps = [
        transforms.Resize((side, side)),
        transforms.RandomCrop(side, padding=PADDING, padding_mode="reflect"),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(data.mean, data.std),
    ]
    return torch.utils.data.DataLoader(
        datasets.ImageFolder(str(folder / "train"), transforms.Compose(steps)),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
        persistent_workers=True,
    )


def images_per_second(loader: Iterable[Any]) -> float:
    """Over one epoch, by the clock on the wall."""
    images, start = 0, time.perf_counter()
    for batch, _ in loader:
        images += len(batch)
    return images / (time.perf_counter() - start)


def report(ours: list[float], theirs: list[float]) -> None:
    print(f"cifar_tune, mapped               {sides.spread(ours)} images/s")
    print(f"ImageFolder, two loader workers  {sides.spread(theirs)} images/s")
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(f"ratio                            {sides.spread(ratios)}")


if __name__ == "__main__":
    main()
