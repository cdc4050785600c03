"""The section `data` of the vision task: which images, and how batches are made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from cifar_tune.plan.section import (
    Absolute,
    Auto,
    Count,
    Flag,
    Fraction,
    NotNegative,
    PositiveInt,
    Section,
    Seed,
)

SIDE = 32  # of CIFAR's images, and of all images before there was a choice
Part = Annotated[float, Field(gt=0, lt=1)]  # of the training images
Resize = Literal["squash", "crop", "letterbox"]
FIRST_FIELDS = {
    "path", "fallback", "train_size", "val_size", "confirm_size", "split_seed", "batch_size",
    "eval_batch_size", "crop_padding", "flip", "cutout", "drop_last",
}  # fmt: skip


class DataConfig(Section):
    """Which images, how they are split, and how a batch of them is made."""

    path: Annotated[str | None, Absolute, Flag("PATH", "--data-dir")] = None
    """Folder or archive with the dataset; none: the user's cache, then a download."""
    fallback: Literal["none", "drawn"] = "none"
    """What to use when the data can't be had: nothing (an error), or the built-in drawn set."""
    image_size: Auto | Annotated[int, Field(ge=8, le=512)] = "auto"
    """Height and width that images are brought to, in pixels; auto: 32 for CIFAR, of other images
    about the middle one of their shorter sides, from 32 to 224."""
    resize: Resize = "squash"
    """How other shapes become square: all of it, whatever its proportions (squash), the middle of
    it (crop), or all of it between black bars (letterbox)."""
    train_size: PositiveInt | None = None
    """Images trained on; none: all that validation and confirmation leave."""
    val_size: Auto | PositiveInt | Part = "auto"
    """Images that the search is decided on, cut from the training set: how many, or which part of
    it; auto: a tenth, at most 5,000, and a fifth of a set below 5,000, at most 500."""
    confirm_size: Auto | Count | Part = "auto"
    """Images that only the finals see, cut from the training set; given as `val_size`, and auto is
    as much as there."""
    split_seed: Seed = 0
    """Seed of the stratified split."""
    batch_size: PositiveInt = 128
    """Images in a training step."""
    eval_batch_size: Auto | PositiveInt = "auto"
    """Images in a validation step, which changes speed and memory only; auto: 250 on a CPU, and as
    many as fill a GPU (5,000 of 32 x 32)."""
    crop_padding: Annotated[int, Field(ge=0, le=64)] = 4
    """Random crop after reflecting this many pixels at each side; 0: off."""
    flip: Literal["none", "random", "alternating"] = "random"
    """Horizontal flip: never, with probability one half, or every second epoch."""
    cutout: Annotated[int, Field(ge=0, le=512)] = 0
    """Side of the square that is blanked at a random place, in pixels; 0: off."""
    balance: Literal["none", "sampler", "loss"] = "none"
    """What is done for rare classes in training: nothing, their images come as often as those of
    the others (sampler), or they weigh more in the loss."""
    random_resized_crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Random crop of at least this part of the area, resized to the whole; 1: off."""
    color_jitter: Fraction = 0.0
    """How far brightness, contrast and saturation are changed at random, as a part; 0: off."""
    trivial_augment: bool = False
    """Whether TrivialAugment changes images by one of 14 operations, of random strength."""
    mixup: NotNegative = 0.0
    """Alpha of mixup, which blends two images and their labels; 0: off. With cutmix, one of both
    is drawn for each batch."""
    cutmix: NotNegative = 0.0
    """Alpha of cutmix, which pastes a part of one image into another; 0: off."""
    drop_last: bool = True
    """Whether an epoch leaves out the last batch if it is not full and not the only one."""

    @property
    def side(self) -> int:
        """`image_size` once it is settled; 32 before."""
        return SIDE if self.image_size == "auto" else self.image_size

    @model_validator(mode="before")
    @classmethod
    def _size_of_earlier_versions(cls, values: Any) -> Any:
        """What states all that a plan had to state before images could have another size is a
        recorded one of that time."""
        if (
            isinstance(values, dict)
            and values.keys() >= FIRST_FIELDS
            and "image_size" not in values
        ):
            return {**values, "image_size": SIDE}
        return values

    @field_validator("val_size", "confirm_size", mode="before")
    @classmethod
    def _check_part(cls, size: object, info: ValidationInfo) -> object:
        least = 1 if info.field_name == "val_size" else 0
        whole = type(size) is int and size >= least
        if size != "auto" and not whole and not (type(size) is float and 0 < size < 1):
            raise ValueError(
                f"is {size!r}; it must be auto, a whole number of images from {least}, or a part of"
                " the training images between 0 and 1"
            )
        return size
