"""The built wheel, installed into a folder of its own and tried from elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel in it, and nothing of the checkout."""
    dist, target = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (wheel,) = dist.glob("cifar_tune-*.whl")
    install = [sys.executable, "-m", "uv", "pip", "install", "--no-deps", "--target", str(target)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    return target


def test_the_wheel_finds_its_configs_by_name_and_plans_a_search(
    installed: Path, image_folder: Path, tmp_path: Path
) -> None:
    sizes = ["--set", "data.val_size=100", "--set", "data.confirm_size=50"]
    given = ["--config", "lecture", "--data-dir", str(image_folder), "--cpus-per-trial", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "cifar_tune.tune", *given, *sizes, "--dry-run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "random with asha, 10 trials of at most 10 epochs, by val_loss" in done.stdout
    assert (installed / "cifar_tune" / "configs" / "lecture.yaml").is_file()
    assert (installed / "bin" / "cifar-tune").is_file()


def test_the_wheel_carries_no_tests_and_lower_bounds_only(installed: Path) -> None:
    (metadata,) = installed.glob("cifar_tune-*.dist-info/METADATA")
    lines = metadata.read_text().splitlines()
    requirements = [line for line in lines if line.startswith("Requires-Dist")]
    assert requirements
    bounds = [line.partition(";")[0] for line in requirements]  # without "; extra == ..."
    assert not any("==" in bound or "<" in bound for bound in bounds)
    assert "License-Expression: Apache-2.0" in lines
    assert not (installed / "tests").exists()
