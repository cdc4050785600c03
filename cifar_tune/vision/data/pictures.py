"""Reads a picture: the one decoder that training and `predict` share."""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from cifar_tune.vision.data.dataset import Uint8Array
from cifar_tune.vision.data.file_kinds import kind_of_file
from cifar_tune.vision.data_config import SIDE, Resize

VERSION = 2  # raise it when pixels change: what the cache has of image files is then decoded anew
# What a user has. Only these are tried; which of them a file is, its content tells, not its name.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
MEGA = 1_000_000
MAX_PIXELS = 64 * MEGA  # of a picture held in memory; more is taken for a bomb
MAX_JPEG_PIXELS = 128 * MEGA  # a large JPEG is held at an eighth of its sides
BARS = "black"  # beside a picture in a letterbox
GROUND = "white"  # what shows where a picture is transparent, as on most pages

# What was done to a picture, as "3 of 20 images were ..." has it.
RESIZED = "resized to {side} x {side} pixels"
RECOLOURED = "converted to RGB"
LAID_ON_GROUND = f"laid on {GROUND}, for they have transparency"
SCALED = "brought from 16 bits to 8"
TURNED = "turned upright, as their cameras noted"
CHANGES = (RESIZED, RECOLOURED, LAID_ON_GROUND, SCALED, TURNED)

EXIF_ORIENTATION, BITS_PER_SAMPLE, PHOTOMETRIC = 0x0112, 258, 262  # tags of EXIF and TIFF
WHITE_IS_ZERO = 0
# What the camera did, by EXIF's number (CIPA DC-008, "Orientation"), and what undoes it.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureError(Exception):
    """Why a file can't be used, in words that follow its name: "an HTML page"."""


class Picture(NamedTuple):
    """A picture as training and `predict` see it."""

    rgb: bytes  # red, green and blue of the pixels, row by row
    size: tuple[int, int]  # width and height that it was stored with
    form: str  # one of FORMATS
    changes: tuple[str, ...]  # those of CHANGES that were made
    peak: float | None  # of 16-bit grey, the largest value as a part of the largest possible

    @property
    def pixels(self) -> Uint8Array:
        """The same as an array of its own, [side, side, 3] uint8."""
        flat: Uint8Array = np.frombuffer(bytearray(self.rgb), np.uint8)
        side = math.isqrt(len(flat) // 3)
        return flat.reshape(side, side, 3)


def read_picture(content: bytes, side: int = SIDE, resize: Resize = "squash") -> Picture:
    """Decodes a file's content: upright, 8 bits, over white, brought to side x side pixels.

    Of an animation or of several pages the first counts. Colour profiles are not applied.

    Raises:
        PictureError: it is no picture of FORMATS, damaged, too large, or without a known range.
    """
    with quietly():
        return decode_picture(content, side, resize)


def decode_picture(content: bytes, side: int, resize: Resize) -> Picture:
    """The same for one of several threads, around all of which stands `quietly`."""
    with _opened(content) as image:
        return _picture(image, side, resize)


def size_of_picture(content: bytes) -> tuple[int, int]:
    """Width and height, by the content's head alone. Raises PictureError where that is damaged."""
    with quietly(), _opened(content) as image:
        return image.size


@contextmanager
def quietly() -> Iterator[None]:
    """Pillow warns, and logs, of damage that it can live with; the filters are the process's."""
    logger = logging.getLogger(TiffImagePlugin.__name__)
    was_disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = was_disabled


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """Of damage that it can't live with, Pillow raises much."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            yield image
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(_too_large(kind_of_file(content))) from None
    except Exception as error:  # half a dozen kinds, and damaged files now and then find another
        raise PictureError(_reason(content, error)) from None


def _picture(image: Image.Image, side: int, resize: Resize) -> Picture:
    size = image.size
    if size != (side, side):
        # A JPEG at a fraction of its sides: it is quicker. 4 * SIDE: of the small, Lanczos' share.
        image.draft("RGB", (max(4 * SIDE, 2 * side),) * 2)
    held = image.width * image.height
    if held > MAX_PIXELS or size[0] * size[1] > MAX_JPEG_PIXELS:
        raise PictureError(_too_large(f"{size[0]} x {size[1]} pixels"))
    image.load()  # a TIFF is turned by this, and its tag goes
    turn = _orientation(image)
    rgb, changes, peak = _rgb(image)
    if size != (side, side):
        rgb = brought_to(rgb, side, resize)
        changes = (RESIZED, *changes)
    if turn in UPRIGHT:
        rgb = rgb.transpose(UPRIGHT[turn])
        changes = (*changes, TURNED)
    form = "JPEG" if image.format == "MPO" else str(image.format)  # several JPEGs, as phones have
    return Picture(rgb.tobytes(), size, form, changes, peak)


def brought_to(rgb: Image.Image, side: int, resize: Resize) -> Image.Image:
    """A picture in RGB of side x side pixels."""
    if resize == "crop":
        return ImageOps.fit(rgb, (side, side), Image.Resampling.LANCZOS)
    if resize == "letterbox":
        return ImageOps.pad(rgb, (side, side), Image.Resampling.LANCZOS, color=BARS)
    return rgb.resize((side, side), Image.Resampling.LANCZOS)


def _too_large(what: str) -> str:
    return (
        f"{what}, and at most {MAX_PIXELS // MEGA} million pixels are read"
        f" ({MAX_JPEG_PIXELS // MEGA} million of a JPEG); make it smaller"
    )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # damaged notes of a camera are no reason to lose its picture
        return 1


def _rgb(image: Image.Image) -> tuple[Image.Image, tuple[str, ...], float | None]:
    """The picture in RGB, what was done to it, and its peak."""
    if image.mode == "F":
        raise PictureError("pixels that are floating-point numbers; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        grey, peak = _eight_bits(image)
        return grey.convert("RGB"), (RECOLOURED, SCALED), peak
    if image.has_transparency_data:
        over = image.convert("RGBA")
        ground = Image.new("RGB", image.size, GROUND)
        ground.paste(over, mask=over)
        return ground, (LAID_ON_GROUND,), None
    if image.mode == "RGB":
        return image, (), None
    return image.convert("RGB"), (RECOLOURED,), None


def _eight_bits(image: Image.Image) -> tuple[Image.Image, float]:
    """16 bits of grey, or 12 in a TIFF, as their upper 8, which is how Pillow reads colours."""
    tags = getattr(image, "tag_v2", {})
    bits = int(tags.get(BITS_PER_SAMPLE, (16,))[0])
    if tags and image.mode == "I":
        raise PictureError("pixels that are signed or 32-bit numbers; save it with 8 or 16 bits")
    values = np.asarray(image).astype(np.int64)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        values = 2**bits - 1 - values
    peak = float(values.max() / (2**bits - 1))
    eight = (values >> (bits - 8)).clip(0, 255).astype(np.uint8)
    if (hidden := image.info.get("transparency")) is not None:
        eight[values == hidden] = 255  # GROUND
    return Image.fromarray(eight), peak


def _reason(content: bytes, error: Exception) -> str:
    kind = kind_of_file(content)
    if isinstance(error, UnidentifiedImageError):
        return f"{kind} that can't be read here" if kind.endswith("picture") else kind
    # Some messages name objects by their address, which helps nobody.
    text = "" if " at 0x" in str(error) else str(error)
    return f"{kind} that is damaged ({text or type(error).__name__})"
