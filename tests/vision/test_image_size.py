"""A model keeps the size of its images: training, saved forms, `predict`, cost, and what may be set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from saved_models import save_model
from toy_images import toy_data, toy_run

from cifar_tune.errors import DataError, PlanError
from cifar_tune.plan.load import load_plan, plan_from
from cifar_tune.vision.checks import check_inside
from cifar_tune.vision.config import ModelConfig, VisionPlan
from cifar_tune.vision.cost import cost_of
from cifar_tune.vision.data.pictures import read_picture
from cifar_tune.vision.data_config import DataConfig
from cifar_tune.vision.export import write_portable
from cifar_tune.vision.portable import Card, load_checkpoint
from cifar_tune.vision.predict import classify, load_model, read_image
from cifar_tune.vision.probe import try_networks
from cifar_tune.vision.task import VISION


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of 48 x 48 pixels, in all its forms."""
    folder = tmp_path_factory.mktemp("model")
    given = {"model__width": 2, "data__resize": "letterbox", "data__cutout": 40}
    save_model(folder / "model.ckpt", side=48, **given)
    assert write_portable(folder) == ()
    return folder


def test_a_model_knows_the_size_and_shape_of_its_images(saved: Path) -> None:
    for model in (load_model(saved), load_checkpoint(saved / "model.ckpt")):
        assert (model.card.image_size, model.card.resize) == (48, "letterbox")
        assert model.logits(np.zeros((2, 48, 48, 3), np.uint8)).shape == (2, 10)
        wanted = r"uint8 \[n, 48, 48, 3\]: cifar_tune\.read_image\(path, model\) makes"
        with pytest.raises(DataError, match=wanted):
            model.logits(np.zeros((2, 32, 32, 3), np.uint8))


def test_programs_take_images_of_its_size(saved: Path) -> None:
    model, pixels = load_model(saved), torch.randint(256, (3, 48, 48, 3), dtype=torch.uint8)
    program = torch.export.load(saved / "model.pt2").module()
    torch.testing.assert_close(program(pixels), model(pixels), atol=1e-4, rtol=0)


def test_predict_reads_files_of_any_size_as_the_model_wants_them(
    saved: Path, tmp_path: Path
) -> None:
    model, file = load_model(saved), tmp_path / "wide.png"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 240, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    image = read_image(file, model)
    assert image.shape == (48, 48, 3)
    assert not image[:17].any(), "the bars of a letterbox"
    assert np.array_equal(image, read_picture(file.read_bytes(), 48, "letterbox").pixels)
    assert read_image(file).shape == (32, 32, 3)
    (answer,) = classify(model, [file], 1)
    chances = model.probabilities([image])[0]
    assert answer.likeliest[0][1] == pytest.approx(float(chances.max()))


def test_a_card_and_a_plan_of_an_earlier_version_mean_32_pixels() -> None:
    card = Card.model_validate_json(
        '{"model": {}, "classes": ["a"], "mean": [0, 0, 0], "std": [1, 1, 1]}'
    )
    assert (card.image_size, card.resize) == (32, "squash")
    recorded = DataConfig().model_dump(mode="json")
    for later in ("image_size", "resize", "balance"):
        del recorded[later]
    assert DataConfig.model_validate(recorded).image_size == 32
    assert DataConfig.model_validate({"crop_padding": 4}).image_size == "auto"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cutout": 33}, r"data\.cutout can be 33, and the images have 32 x 32 .* at most 32"),
        ({"crop_padding": 32}, r"data\.crop_padding can be 32, .* it must be at most 31"),
    ],
)
def test_what_is_cut_is_no_larger_than_the_image(values: dict[str, int], said: str) -> None:
    plan = plan_from({"data": values}, "a plan")
    assert isinstance(plan, VisionPlan)
    with pytest.raises(PlanError, match=said):
        check_inside(plan, 32)
    check_inside(plan, 64)


def test_the_size_can_not_be_searched() -> None:
    for field in ("image_size", "resize"):
        assert f"data.{field}" in VISION.fixed
    with pytest.raises(PlanError, match=r"data\.image_size"):
        plan_from({"search": {"space": {"data.image_size": {"choice": [32, 64]}}}}, "a plan")


def test_a_larger_image_costs_as_much_more_as_it_has_pixels() -> None:
    small, large = (cost_of(ModelConfig(), 10, side)["multiply_adds"] for side in (32, 64))
    assert large == pytest.approx(4 * small, rel=0.01)


def test_the_lectures_network_takes_what_is_large_enough_for_it() -> None:
    module, batches = VISION.build(
        toy_run(model__name="net"), toy_data(16, 16, side=64), fresh=True
    )
    assert batches is not None
    assert module(torch.zeros(2, 3, 64, 64)).shape == (2, 10)
    with pytest.raises(PlanError, match=r"data\.image_size is 12, and .* needs at least 16"):
        cost_of(ModelConfig(name="net"), 10, 12)


def test_images_too_small_for_a_network_are_refused_before_the_start() -> None:
    plan = load_plan(None, ["model.name=speednet"])
    assert isinstance(plan, VisionPlan)
    try_networks(plan, 10, 31, 640)
    with pytest.raises(PlanError, match=r"'speednet', which can't take images of 8 x 8 pixels"):
        try_networks(plan, 10, 8, 640)


def test_where_auto_takes_a_size_that_a_cpu_feels_it_is_told(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(24):
        file = tmp_path / "abc"[number % 3] / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (140, 140, 3), np.uint8)
        Image.fromarray(pixels).save(file)
    for size, told in (("auto", 1), (128, 0)):
        plan = plan_from({"data": {"path": str(tmp_path), "image_size": size}}, "a plan")
        found = VISION.find(plan)  # type: ignore[arg-type]
        assert sum("take about 16 times as long" in one for one in found.sentences) == told
        assert found.plan.data.image_size == 128
