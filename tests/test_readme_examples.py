"""The README's Python examples run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

README = Path(__file__).parent.parent / "README.md"
MARKED = re.compile(r"^<!-- test -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples() -> list[str]:
    """The blocks with the comment `<!-- test -->` above them; the search comes first."""
    blocks = MARKED.findall(README.read_text(encoding="utf-8"))
    return sorted(blocks, key=lambda block: "run_search" not in block)


def test_the_examples_of_the_readme_run(
    image_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ray_session: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    blocks = examples()
    for name in ("run_search(", "frame(", "load_model(", "torch.export.load("):
        assert any(name in block for block in blocks), f"no tested example uses {name})"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_images").symlink_to(image_folder)
    picture = next((image_folder / "test").rglob("*.png"))
    Image.open(picture).resize((640, 480)).save("photo.jpg")
    classes = {path.name for path in (image_folder / "train").iterdir()}
    for block in blocks:
        exec(compile(block, str(README), "exec"), {})
        said = capsys.readouterr().out
        assert "t0001" in said or said.split()[0] in classes
