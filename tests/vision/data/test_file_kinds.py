"""What a file is called when it is not what its name says."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from vision.data.small_sets import encoded, picture

from cifar_tune.vision.data.file_kinds import kind_of_file


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WebP", "GIF", "BMP", "TIFF", "PPM"])
def test_pictures_are_known_by_their_content(form: str) -> None:
    assert kind_of_file(encoded(picture(1), form)) == f"a {form} picture"


@pytest.mark.parametrize("form", ["AVIF", "JPEG2000", "ICO", "QOI", "DDS"])
def test_pictures_that_are_not_read_are_known_too(form: str) -> None:
    from PIL import features

    if form == "AVIF" and not features.check("avif"):
        pytest.skip("Pillow has no AVIF here")
    content = io.BytesIO()
    Image.new("RGB", (32, 32)).save(content, form)
    said = {"AVIF": "an AVIF picture", "JPEG2000": "a JPEG 2000 picture", "ICO": "an icon"}
    said |= {"QOI": "a QOI picture", "DDS": "a DDS texture"}
    assert kind_of_file(content.getvalue()) == said[form]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty"),
        (bytes(5000), "nothing but zeros"),
        (b"  <HTML><body>403 Forbidden</body>", "an HTML page"),
        ("\ufeff<!doctype HTML>".encode(), "an HTML page"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n",
            "a Git LFS pointer",
        ),
        (b"../images/1.png", "the text of a link"),
        (b'{"error": "rate limit"}', "a text"),
        ("Ä".encode() * 1023 + b"a" + "Ä".encode(), "a text"),  # cut in the middle of a letter
        (b"\x00\x00\x00\x18ftypheic", "a HEIC picture"),
        (b"\x00\x00\x00\x18ftypisom", "a video"),
        (bytes(128) + b"DICM", "a DICOM picture"),
        (b"\x00\x05\x16\x07\x00\x02", "the macOS half of another file"),
        (b"%PDF-1.7", "a PDF"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x9c\x01\x02\x03", "no picture that is known here"),
        (b"\xc3", "no picture that is known here"),
    ],
)
def test_other_files_are_named(content: bytes, kind: str) -> None:
    assert kind_of_file(content).startswith(kind)
