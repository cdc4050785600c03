"""Every odd picture is read the same through both doors, training and predict, and read right."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin
from vision.data.small_sets import encoded, image_members, picture, write_tree

from cifar_tune.errors import DataError
from cifar_tune.vision.data import pictures
from cifar_tune.vision.data.pictures import PictureError, read_picture, size_of_picture
from cifar_tune.vision.data.sources import decode
from cifar_tune.vision.predict import read_image

RAMP = np.linspace(0, 65535, 1024).astype(np.uint16).reshape(32, 32)  # 16 bits of grey
WHITE = (255, 255, 255)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def tiff(image: Image.Image, **tags: object) -> bytes:
    """A TIFF with tags of its own, by name: PHOTOMETRIC_INTERPRETATION=0."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        info[getattr(TiffImagePlugin, name)] = value
    return saved(image, "TIFF", tiffinfo=info)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def on_white(image: Image.Image) -> np.ndarray:
    """The definition, in floating point: colour times alpha, white times what is left."""
    pixels = np.asarray(image.convert("RGBA")).astype(float)
    alpha = pixels[..., 3:] / 255
    return np.rint(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def see_through() -> Image.Image:
    image = picture(3).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize((32, 32)))
    return image


def palette() -> Image.Image:
    return picture(4).quantize(16)


def turned(number: int, form: str, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = number
    return saved(picture(5), form, exif=exif, **options)


def upright(number: int) -> np.ndarray:
    image = picture(5)
    image.getexif()[0x0112] = number
    return np.asarray(ImageOps.exif_transpose(image))


def odd_pictures() -> dict[str, tuple[bytes, np.ndarray | None]]:
    """Contents by name, with the pixels that are right where these are known to the last bit."""
    p, cut_out = palette(), see_through()
    clear = np.asarray(p) == 3
    colours = np.asarray(p.convert("RGB"))
    keyed = picture(6)
    keyed.putpixel((0, 0), (1, 2, 3))
    keyed_right = np.asarray(keyed).copy()
    keyed_right[np.all(keyed_right == (1, 2, 3), axis=2)] = WHITE
    eight = grey(RAMP >> 8)
    odd: dict[str, tuple[bytes, np.ndarray | None]] = {
        "grey.png": (saved(picture(1).convert("L"), "PNG"), None),
        "bits.png": (saved(picture(1).convert("1"), "PNG"), None),
        "cmyk.jpg": (saved(picture(1).convert("CMYK"), "JPEG"), None),
        "cmyk.tif": (saved(picture(1).convert("CMYK"), "TIFF"), None),
        "lab.tif": (saved(Image.new("LAB", (32, 32), (60, 128, 128)), "TIFF"), None),
        "16 bits.png": (saved(Image.fromarray(RAMP), "PNG"), eight),
        "16 bits.tif": (saved(Image.fromarray(RAMP), "TIFF"), eight),
        "16 bits.pgm": (b"P5 32 32 65535\n" + RAMP.astype(">u2").tobytes(), eight),
        "12 bits.pgm": (b"P5 32 32 4095\n" + (RAMP >> 4).astype(">u2").tobytes(), eight),
        "16 bits, 0 is white.tif": (
            tiff(Image.fromarray(RAMP), PHOTOMETRIC_INTERPRETATION=0),
            grey((65535 - RAMP.astype(int)) >> 8),
        ),
        "16 bits, one clear.png": (
            saved(Image.fromarray(RAMP), "PNG", transparency=int(RAMP[3, 4])),
            np.where((RAMP[3, 4] == RAMP)[..., None], 255, eight),
        ),
        "alpha.png": (saved(cut_out, "PNG"), on_white(cut_out)),
        "alpha.webp": (saved(cut_out, "WEBP", lossless=True, exact=True), on_white(cut_out)),
        "alpha.tif": (saved(cut_out, "TIFF"), on_white(cut_out)),
        "grey alpha.png": (saved(cut_out.convert("LA"), "PNG"), on_white(cut_out.convert("LA"))),
        "palette.png": (saved(p, "PNG"), colours),
        "palette, one clear.png": (
            saved(p, "PNG", transparency=3), np.where(clear[..., None], 255, colours)
        ),
        "palette, one clear.gif": (saved(p, "GIF", transparency=3), None),
        "palette, half clear.png": (saved(p, "PNG", transparency=bytes(range(0, 256, 16))), None),
        "one colour clear.png": (saved(keyed, "PNG", transparency=(1, 2, 3)), keyed_right),
        "broken notes.jpg": (saved(picture(2), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09"), None),
        "other profile.png": (saved(picture(2), "PNG", icc_profile=b"x" * 200), None),
        "large.jpg": (saved(picture(7, 900, 700), "JPEG"), None),
        "narrow.png": (saved(picture(7, 1, 400), "PNG"), None),
    }  # fmt: skip
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    first = np.asarray(frames[0])
    for form in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"save_all": True, "append_images": frames[1:]}
        options |= {"lossless": True} if form == "WEBP" else {}
        odd[f"several.{form.lower()}"] = (saved(frames[0], form, **options), first)
    phone = {"save_all": True, "append_images": [picture(8)], "quality": 95}
    odd["several.jpg"] = (saved(frames[0], "MPO", **phone), None)
    for number in range(1, 9):
        for form in ("PNG", "TIFF", "WEBP"):
            options = {"lossless": True} if form == "WEBP" else {}
            odd[f"turned {number}.{form.lower()}"] = (
                turned(number, form, **options),
                upright(number),
            )
        odd[f"turned {number}.jpg"] = (turned(number, "JPEG"), None)
    note = PngImagePlugin.PngInfo()
    note.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="3"/>')
    odd["turned by xmp.png"] = (saved(picture(5), "PNG", pnginfo=note), upright(3))
    return odd


ODD = odd_pictures()


@pytest.fixture(scope="module")
def trained_on(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What training gets of each odd picture, by name."""
    members = {f"train/odd/{name}": content for name, (content, _) in ODD.items()}
    tree = write_tree(tmp_path_factory.mktemp("tree"), image_members() | members)
    decoded = decode(tree)
    images = decoded.train.images[decoded.train.labels == decoded.classes.index("odd")]
    return dict(zip(sorted(ODD), images, strict=True))


@pytest.mark.parametrize("name", ODD)
def test_both_doors_read_the_same_pixels_and_the_right_ones(
    name: str, trained_on: dict[str, np.ndarray], tmp_path: Path
) -> None:
    content, right = ODD[name]
    (tmp_path / name).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predicted = read_image(tmp_path / name)
    np.testing.assert_array_equal(predicted, trained_on[name])
    if right is not None:
        assert np.abs(predicted.astype(int) - right).max() <= (1 if "alpha" in name else 0)


@pytest.mark.parametrize("number", range(2, 9))
def test_a_turned_jpeg_is_turned_back(number: int) -> None:
    blocks = Image.fromarray(np.kron(np.asarray(picture(1, 4, 4)), np.ones((8, 8, 1), np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = number
    content = saved(blocks, "JPEG", exif=exif, quality=95)
    blocks.getexif()[0x0112] = number
    right = np.asarray(ImageOps.exif_transpose(blocks)).astype(int)
    assert np.abs(read_picture(content).pixels - right).mean() < 8


def test_a_clear_colour_shows_the_ground_whatever_lies_under_it() -> None:
    for under in ("black", "red"):
        image = Image.new("RGBA", (80, 60), under)
        image.putalpha(0)
        assert read_picture(saved(image, "PNG")).pixels.min() == 255


def test_several_jpegs_in_a_file_are_a_jpeg() -> None:
    seen = read_picture(ODD["several.jpg"][0])
    assert (seen.form, seen.changes) == ("JPEG", ())
    assert seen.pixels[..., 0].min() > 240


def test_changes_are_told_for_the_notes() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    seen = read_picture(saved(see_through().resize((50, 40)), "PNG", exif=exif))
    assert seen.changes == (pictures.RESIZED, pictures.LAID_ON_GROUND, pictures.TURNED)
    assert (seen.size, seen.form, seen.peak) == ((50, 40), "PNG", None)
    deep = read_picture(saved(Image.fromarray(RAMP // 4), "PNG"))
    assert deep.changes == (pictures.RECOLOURED, pictures.SCALED)
    assert deep.peak == pytest.approx(0.25, abs=1e-3)
    assert read_picture(encoded(picture(1))).changes == ()


def test_a_photo_of_a_phone_is_read_in_both_doors(tmp_path: Path) -> None:
    """50 megapixels held upright: a bright sky over a dark ground, stored sideways."""
    photo = Image.new("RGB", (8160, 6144), (40, 30, 20))
    photo.paste((200, 220, 250), (0, 0, 4080, 6144))  # left, which is up once it is turned
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(photo, "JPEG", exif=exif)
    members = {**image_members(), "train/odd/photo.jpg": content}
    trained_on = decode(write_tree(tmp_path, members)).train.images[-1]
    predicted = read_image(tmp_path / "train" / "odd" / "photo.jpg")
    np.testing.assert_array_equal(predicted, trained_on)
    assert predicted[:14].mean() > 200
    assert predicted[18:].mean() < 50
    assert size_of_picture(content) == (8160, 6144)


@pytest.mark.parametrize(
    ("image", "form", "said"),
    [
        (lambda: Image.new("F", (8, 8)), "TIFF", "floating-point numbers; save it with 8 or 16"),
        (lambda: Image.new("I", (8, 8)), "TIFF", "signed or 32-bit numbers; save it with 8 or 16"),
        (lambda: Image.new("L", (9000, 9000)), "PNG", "9000 x 9000 pixels, and at most 64 million"),
        (lambda: Image.new("1", (20_000, 20_000)), "PNG", "a PNG picture, and at most 64 million"),
        (lambda: Image.new("L", (12_000, 12_000)), "JPEG", "12000 x 12000 .*128 million of a JPEG"),
    ],
)
def test_what_has_no_known_range_or_is_a_bomb_is_refused(
    image: Callable[[], Image.Image], form: str, said: str
) -> None:
    with pytest.raises(PictureError, match=said):
        read_picture(saved(image(), form))


def test_a_picture_that_is_none_is_refused_in_both_doors_with_what_it_is(tmp_path: Path) -> None:
    members = {**image_members(), "train/odd/1.jpg": b"<html>no such picture</html>"}
    write_tree(tmp_path, members)
    with pytest.raises(DataError, match=r"train/odd/1\.jpg: an HTML page"):
        decode(tmp_path)
    with pytest.raises(DataError, match=r"1\.jpg can't be read: an HTML page; give another file"):
        read_image(tmp_path / "train" / "odd" / "1.jpg")


def test_damage_that_pillow_can_live_with_is_passed_over_in_silence(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    odd_tiff = bytearray(saved(picture(1), "TIFF"))
    at = odd_tiff.index((277).to_bytes(2, "little"))  # samples a pixel
    odd_tiff[at + 8] = 200
    before = logging.getLogger(TiffImagePlugin.__name__).disabled
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PictureError):
            read_picture(bytes(odd_tiff))
        read_picture(ODD["broken notes.jpg"][0])
        read_picture(ODD["palette, half clear.png"][0])
    assert logging.getLogger(TiffImagePlugin.__name__).disabled == before
    assert capfd.readouterr() == ("", "")
