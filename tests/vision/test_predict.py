"""`cifar-tune predict` reads any image as the dataset's are read, and says what it could not read."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from saved_models import begin_search, report_trial, save_model
from toy_images import CLASSES, toy_data

from cifar_tune.errors import DataError, ResourceError, ResultsError
from cifar_tune.record.journal import Journal
from cifar_tune.vision.best import write_winner
from cifar_tune.vision.config import VisionPlan, VisionSearch, VisionTrain
from cifar_tune.vision.data.archives import Member
from cifar_tune.vision.data.image_files import ImageFiles
from cifar_tune.vision.predict import find_model, load_model, main, read_image

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE)


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a search of one trial, with its `best/`."""
    folder = tmp_path_factory.mktemp("search")
    save_model(folder / "ray" / "model.ckpt", model__width=2)
    plan = VisionPlan(train=VisionTrain(max_epochs=1), search=VisionSearch(num_samples=1))
    with Journal(folder) as journal:
        recorder = begin_search(journal, plan)
        report_trial(recorder, 0, 0.5, "ray/model.ckpt")
        assert write_winner(recorder.results, toy_data(16, 16)) is not None
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    PICTURE.save(path)
    return path


def predict(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, output and errors of the command."""
    code = main([str(word) for word in words])
    return code, *capsys.readouterr()


def in_dataset(content: bytes, suffix: str) -> np.ndarray:
    """What the dataset room makes of an image file."""
    files = ImageFiles("a folder")
    for place in ("train/a/1", "train/b/1", "test/a/1"):
        name = place + suffix
        files.add(Member(name, lambda: content))
    return files.finish().train.images[0]


def encoded(image: Image.Image, kind: str) -> bytes:
    content = io.BytesIO()
    image.save(content, kind)
    return content.getvalue()


def test_a_search_ends_in_a_command_that_names_the_class(search: Path, photo: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "cifar_tune.vision.predict",
        "--model",
        str(search),
        str(photo),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    name, *words = done.stdout.split("  ")
    assert name == str(photo)
    assert len(words) == 3
    expected = load_model(search).probabilities([read_image(photo)])[0].sort(descending=True)
    shown = [word.strip().rsplit(" ", 1) for word in words]
    assert [name for name, _ in shown] == [CLASSES[index] for index in expected.indices[:3]]
    assert [value for _, value in shown] == [f"{value:.4f}" for value in expected.values[:3]]


def test_help_waits_for_nothing_heavy() -> None:
    code = (
        "import sys\nfrom cifar_tune.vision.predict import main\ntry:\n    main(['--help'])\nexcept"
        " SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "PIL", "pydantic", "ray"} & set(done.stderr.split())
    assert "--flip-averaging" in done.stdout


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("PNG", mode) for mode in ("RGB", "L", "RGBA", "P", "1", "LA")),
        *(("JPEG", mode) for mode in ("RGB", "L", "1", "CMYK")),
    ],
)
@pytest.mark.parametrize("size", [(32, 32), (20, 50), (700, 500)])
def test_an_image_is_read_as_the_datasets_are(
    size: tuple[int, int], kind: str, mode: str, tmp_path: Path
) -> None:
    suffix = f".{kind.lower()}"
    content = encoded(PICTURE.resize(size).convert(mode), kind)
    path = tmp_path / f"image{suffix}"
    path.write_bytes(content)
    np.testing.assert_array_equal(read_image(path), in_dataset(content, suffix))


def test_16_bits_of_grey_become_8(tmp_path: Path) -> None:
    grey = np.linspace(0, 255, 1024).astype(np.uint8).reshape(32, 32)
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    expected = np.repeat(grey[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_that_a_camera_noted_is_applied(orientation: int, tmp_path: Path) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.png"
    PICTURE.resize((32, 32)).save(path, exif=exif)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_image(path), upright)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_several_counts(kind: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    path = tmp_path / f"moving.{kind.lower()}"
    frames[0].save(path, kind, save_all=True, append_images=frames[1:])
    red = read_image(path).astype(int)
    assert red[..., 0].min() > 240
    assert red[..., 2].max() < 15


def test_all_images_of_a_folder_are_answered_in_order(
    search: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(photo, photo.with_name("a.PNG"))
    photo.with_name("notes.txt").touch()
    code, output, errors = predict(capsys, "--model", search, "--top", 1, photo.parent)
    assert (code, errors) == (0, "")
    names = [line.split("  ")[0].rstrip() for line in output.splitlines()]
    assert names == [str(photo.with_name("a.PNG")), str(photo)]


def test_json_has_all_that_the_table_has(
    search: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--model", search, "--json", "--top", 99, photo, photo.with_name("gone.png")
    code, output, _ = predict(capsys, *words)
    assert code == 3
    read, gone = json.loads(output)
    assert read["image"] == str(photo)
    assert len(read["classes"]) == 10
    assert sum(one["probability"] for one in read["classes"]) == pytest.approx(1)
    assert set(gone) == {"image", "error"}


def test_flip_averaging_averages_the_logits_of_both_sides(
    search: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--model", search, "--json", "--top", 10, "--flip-averaging", photo
    _, output, _ = predict(capsys, *words)
    model, pixels = load_model(search), torch.from_numpy(read_image(photo))[None]
    logits = (model(pixels) + model(pixels.flip(2))) / 2
    expected = dict(zip(CLASSES, logits.softmax(dim=1)[0].tolist(), strict=True))
    shown = {one["class"]: one["probability"] for one in json.loads(output)[0]["classes"]}
    assert shown == pytest.approx(expected)


def bad_images(folder: Path) -> dict[str, Path]:
    """A file of each kind that can't be read, with a part of what is said of it."""
    whole = encoded(PICTURE, "PNG")
    contents = {
        "is truncated": whole[: len(whole) // 2],
        "cannot identify": b"GIF89a, not really",
        "5000 x 5000 pixels, at most 16 million": encoded(Image.new("L", (5000, 5000)), "PNG"),
        "decompression bomb": encoded(Image.new("1", (20_000, 20_000)), "PNG"),
        "floating-point": encoded(Image.new("F", (8, 8)), "TIFF"),
    }
    paths = {"is not there": folder / "gone.png", "is no file": folder / "pipe.png"}
    os.mkfifo(paths["is no file"])
    for number, (said, content) in enumerate(contents.items()):
        paths[said] = folder / f"{number}.png"
        paths[said].write_bytes(content)
    return paths


def test_bad_images_are_named_and_the_others_answered(
    search: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = bad_images(photo.parent)
    code, output, errors = predict(capsys, "--model", search, *bad.values(), photo)
    assert code == 3
    assert [line.split("  ")[0] for line in output.splitlines()] == [str(photo)]
    lines = errors.splitlines()
    assert len(lines) == len(bad)
    for (said, path), line in zip(bad.items(), lines, strict=True):
        assert line.startswith(f"error: {path} ")
        assert said in line


def test_without_a_readable_image_there_is_no_answer(
    search: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output, errors = predict(capsys, "--model", search, tmp_path / "gone.png")
    assert (code, output) == (2, "")
    assert "gone.png is not there" in errors
    code, _, errors = predict(capsys, "--model", search, tmp_path)
    assert code == 2
    assert "has no image files" in errors


def test_what_a_terminal_would_obey_is_spelt_out(
    search: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = photo.with_name("\x1b[31m\n.png")
    shutil.copy(photo, odd)
    _, output, errors = predict(capsys, "--model", search, odd, photo.with_name("\x1b.png"))
    assert "\\x1b[31m\\n.png" in output
    assert "\x1b" not in output + errors


def test_a_model_is_found_where_a_search_or_its_finals_left_it(
    search: Path, tmp_path: Path
) -> None:
    (tmp_path / "seed-1").mkdir()
    checkpoint = Path(shutil.copy(search / "best" / "model.ckpt", tmp_path / "seed-1"))
    expected = load_model(search).network.state_dict()
    for place in (search / "best", checkpoint, str(checkpoint.parent)):
        found = load_model(place).network.state_dict()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_place_without_a_model_is_refused_with_the_places_that_have_one(
    search: Path, tmp_path: Path
) -> None:
    with pytest.raises(ResultsError, match="holds no model; give a results folder, its best/"):
        find_model(tmp_path)
    shutil.copy(search / "journal.jsonl", tmp_path)
    with pytest.raises(ResultsError, match="has no best/ yet"):
        find_model(tmp_path)


def test_a_gpu_that_is_not_there_is_refused(search: Path) -> None:
    device = "tpu" if torch.cuda.is_available() else "cuda"
    with pytest.raises(ResourceError, match=f"device is {device}, and there is no such here"):
        load_model(search, device=device)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="is no file"):
        read_image(tmp_path / "pipe.png")


@pytest.mark.parametrize("top", ["0", "-1", "many"])
def test_top_is_a_whole_number_from_1(top: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--model", "best", "--top", top, "image.png"])
    assert "it must be a whole number from 1" in capsys.readouterr().err
