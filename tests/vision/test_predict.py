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
        assert write_winner(recorder.results, toy_data(16, 16), print) is not None
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


def test_all_images_of_a_folder_are_answered_in_order(
    search: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(photo, photo.with_name("a.PNG"))
    photo.with_name("notes.txt").touch()
    code, output, errors = predict(capsys, "--model", search, "--top", 1, photo.parent)
    assert (code, errors) == (0, "")
    names = [line.split("  ")[0].rstrip() for line in output.splitlines()]
    assert names == [str(photo.with_name("a.PNG")), str(photo)]


def test_a_folder_is_read_as_the_datasets_are(
    search: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Deeper images are taken, in any format; what file managers leave beside them is not."""
    folder = photo.parent
    for name in ("a/b/1.webp", "a/2.tif", ".trash/3.png", "@eaDir/4.png", "._photo.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PICTURE.save(folder / name)
    (folder / "a" / "loop").symlink_to(folder)
    code, output, errors = predict(capsys, "--model", search, "--top", 1, folder)
    assert (code, errors) == (0, "")
    names = [line.split("  ")[0].rstrip() for line in output.splitlines()]
    assert names == [str(photo), str(folder / "a" / "2.tif"), str(folder / "a" / "b" / "1.webp")]


def test_a_name_that_is_no_utf_8_is_answered_and_spelt_out(
    search: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = Path(shutil.copy(photo, photo.with_name("caf\udce9.png")))
    code, output, _ = predict(capsys, "--model", search, odd)
    assert code == 0
    assert output.startswith(f"{photo.parent}/caf\\xe9.png")


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


def test_translate_averaging_averages_the_image_and_itself_moved(
    search: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--model", search, "--json", "--top", 10, "--translate-averaging", photo
    _, output, _ = predict(capsys, *words)
    images = [read_image(photo)]
    chances = load_model(search).probabilities(images, translate_averaging=True)[0].tolist()
    shown = {one["class"]: one["probability"] for one in json.loads(output)[0]["classes"]}
    assert shown == pytest.approx(dict(zip(CLASSES, chances, strict=True)))
    assert chances != load_model(search).probabilities(images)[0].tolist()


def bad_images(folder: Path) -> dict[str, Path]:
    """A file of each kind that can't be read, with a part of what is said of it."""
    whole = encoded(PICTURE, "PNG")
    contents = {
        "a PNG picture that is damaged (image file is truncated": whole[: len(whole) // 2],
        "a GIF picture that can't be read here": b"GIF89a, not really",
        "an HTML page": b"<!doctype html><title>404</title>",
        "empty": b"",
        "9000 x 9000 pixels, and at most 64 million": encoded(Image.new("L", (9000, 9000)), "PNG"),
        "floating-point": encoded(Image.new("F", (8, 8)), "TIFF"),
    }
    paths = {"not there": folder / "gone.png", "no plain file": folder / "pipe.png"}
    os.mkfifo(paths["no plain file"])
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
    assert "gone.png can't be read: not there" in errors
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
    with pytest.raises(DataError, match="no plain file"):
        read_image(tmp_path / "pipe.png")


@pytest.mark.parametrize("top", ["0", "-1", "many"])
def test_top_is_a_whole_number_from_1(top: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", "best", "--top", top, "image.png"]) == 2
    assert "it must be a whole number from 1" in capsys.readouterr().err
