"""Says what a file really is, by its first bytes."""

from __future__ import annotations

import codecs

# (where, bytes, what it is); of two that begin alike the longer comes first.
SIGNS: tuple[tuple[int, bytes | tuple[bytes, ...], str], ...] = (
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"GIF8", "a GIF picture"),
    (8, b"WEBP", "a WebP picture"),
    (0, b"BM", "a BMP picture"),
    (8, b"CR\x02", "a Canon raw picture"),
    (0, (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"), "a TIFF picture"),
    (4, (b"ftypavif", b"ftypavis"), "an AVIF picture"),
    (4, (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1"), "a HEIC picture"),
    (4, b"ftypcrx", "a Canon raw picture"),
    (4, b"ftyp", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (8, b"AVI ", "a video"),
    (0, (b"\x00\x00\x00\x0cjP  ", b"\xffO\xffQ"), "a JPEG 2000 picture"),
    (0, b"\xff\n", "a JPEG XL picture"),
    (4, b"JXL ", "a JPEG XL picture"),
    (0, b"8BPS", "a Photoshop picture"),
    (0, b"\x00\x00\x01\x00", "an icon"),
    (0, b"DDS ", "a DDS texture"),
    (0, b"v/1\x01", "an OpenEXR picture"),
    (0, b"#?RADIANCE", "a Radiance HDR picture"),
    (0, b"qoif", "a QOI picture"),
    (0, b"SIMPLE  =", "a FITS picture"),
    (128, b"DICM", "a DICOM picture"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x93NUMPY", "a numpy array"),
    (0, b"%PDF", "a PDF"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\xfd7zXZ", "an xz archive"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (0, b"Rar!", "a rar archive"),
    (0, b"SQLite format 3", "an SQLite database"),
    (0, b"\x00\x05\x16\x07", "the macOS half of another file"),
)
# How a text begins once blanks are gone and letters are small: what servers send for a picture.
TEXTS: tuple[tuple[bytes | tuple[bytes, ...], str], ...] = (
    ((b"<!doctype html", b"<html", b"<head"), "an HTML page"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML file"),
    (b"version https://git-lfs", "a Git LFS pointer: get the files with `git lfs pull`"),
    (b"../", "the text of a link: copy the files that links lead to"),
)
LOOKED_AT = 2048  # bytes
UNKNOWN = "no picture that is known here"


def kind_of_file(content: bytes) -> str:
    """What the content is, in words: "a WebP picture", "empty", "an HTML page"."""
    if not content:
        return "empty"
    head = content[:LOOKED_AT]
    for start, sign, kind in SIGNS:
        if head.startswith(sign, start):
            return kind
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "a PPM picture"
    if content.count(0) == len(content):
        return "nothing but zeros"
    return _kind_of_text(content)


def _kind_of_text(content: bytes) -> str:
    whole = len(content) <= LOOKED_AT
    try:  # the last letter may be cut
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        text = decoder.decode(content[:LOOKED_AT], final=whole)
    except UnicodeDecodeError:
        return UNKNOWN
    begin = text.lstrip().lower().encode()
    for start, kind in TEXTS:
        if begin.startswith(start):
            return "an SVG drawing" if kind == "an XML file" and b"<svg" in begin else kind
    readable = all(letter.isprintable() or letter.isspace() for letter in text)
    return "a text" if readable else UNKNOWN
