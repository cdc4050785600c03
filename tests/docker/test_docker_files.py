"""The Dockerfile, its ignore file and the Compose file say what the image promises."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

import cifar_tune

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = ROOT / "docker" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line]  # type: ignore[misc]


def final_stage() -> list[tuple[str, str]]:
    """What stands below the last FROM: only this becomes the image."""
    found = instructions()
    last = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return found[last:]


def only(name: str) -> str:
    """The argument of an instruction that the final stage has once."""
    (argument,) = [argument for found, argument in final_stage() if found == name]
    return argument


def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())


def test_both_stages_stand_on_the_base_that_the_builder_names() -> None:
    stages = [argument for name, argument in instructions() if name == "FROM"]
    assert stages == ["${BASE_IMAGE} AS build", "${BASE_IMAGE}"]
    assert instructions()[0] == ("ARG", "BASE_IMAGE=python:3.12-slim-bookworm")


def test_the_image_starts_the_command_as_a_numbered_user_that_is_not_root() -> None:
    assert only("ENTRYPOINT") == '["python", "-m", "cifar_tune.tune"]'
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", only("USER"))
    assert only("STOPSIGNAL") == "SIGTERM"


def test_every_package_comes_from_the_lock_with_its_hash() -> None:
    steps = [argument for name, argument in instructions() if name == "RUN"]
    installs = re.findall(r"pip (?:install|sync)[^;]*", ";".join(steps))
    assert len(installs) == 3
    for install in installs:
        assert "--require-hashes" in install or "--no-deps" in install


def test_secrets_are_mounted_and_no_address_of_an_index_stands_in_the_file() -> None:
    text = DOCKERFILE.read_text()
    assert text.count("--mount=type=secret") == 2
    assert "://" not in text
    assert not re.search(r"(?m)^(ARG|ENV).*(INDEX|TOKEN|PASSWORD|KEY)", text)


def test_the_label_has_the_version_of_the_package() -> None:
    assert f'org.opencontainers.image.version="{cifar_tune.__version__}"' in only("LABEL")


def test_only_named_files_go_into_the_build() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = [shlex.split(argument) for name, argument in instructions() if name == "COPY"]
    sources = {word for words in copied for word in words[:-1] if not word.startswith("--")}
    sources = (sources - {"/opt/cifar_tune", "${LOCK}"}) | {
        "requirements*.lock",
        "docker/requirements.lock",
    }
    assert kept == sources
    for pattern in kept:
        assert list(ROOT.glob(pattern)), f"{pattern} is not there"


def test_the_services_write_only_to_the_volumes_and_to_memory() -> None:
    services = compose()["services"]
    assert set(services) == {"search", "search-gpu", "head", "worker", "search-cluster"}
    search = services["search"]
    targets = [volume.partition(":")[2] for volume in search["volumes"]]
    assert targets == yaml.safe_load(only("VOLUME"))
    assert {volume.partition(":")[0] for volume in search["volumes"]} == {"data", "results"}
    assert search["read_only"] is True
    assert search["tmpfs"] == ["/tmp"]
    assert search["shm_size"] == "2g"
    assert search["stop_grace_period"] == "2m"
    assert (ROOT / "docker" / search["build"]["context"]).resolve() == ROOT
    assert (ROOT / search["build"]["dockerfile"]) == DOCKERFILE


def test_the_gpu_service_is_the_same_with_every_gpu_and_only_on_demand() -> None:
    service = compose()["services"]["search-gpu"]
    assert service["extends"] == "search"
    assert service["profiles"] == ["gpu"]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_the_command_of_the_service_plans_a_search_with_the_image_s_settings(
    tmp_path: Path, image_folder: Path
) -> None:
    words = compose()["services"]["search"]["command"]
    assert words[-2:] == ["--resume", "auto"]  # the same command goes on after a stop
    sizes = [
        "--set",
        "data.train_size=200",
        "--set",
        "data.val_size=100",
        "--set",
        "data.confirm_size=50",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "cifar_tune.tune", *words, "--data-dir", str(image_folder), *sizes, "--dry-run"],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "results/quickstart" in done.stdout


def test_the_check_is_sound_for_bash_and_can_be_run() -> None:
    script = ROOT / "docker" / "check.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert os.access(script, os.X_OK)


def test_the_lock_of_the_image_has_the_versions_that_are_tested() -> None:
    def versions(lock: Path) -> dict[str, str]:
        return dict(re.findall(r"(?m)^([A-Za-z0-9._-]+)==([^ ;]+)", lock.read_text()))

    tested, image = (
        versions(ROOT / "requirements.lock"),
        versions(ROOT / "docker/requirements.lock"),
    )
    both = set(tested) & set(image)
    assert {"torch", "ray", "lightning", "uv"} <= both
    assert {name: tested[name] for name in both} == {name: image[name] for name in both}
    assert "pytest" not in image
    assert "://" not in (ROOT / "docker/requirements.lock").read_text()
