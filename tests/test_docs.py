"""The documents say what the program does: commands, plans, examples, links and flags are checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import (
    OTHERS_FLAGS,
    ROOT,
    anchors,
    blocks,
    dead_links,
    problems_of_blocks,
    problems_of_inline_code,
)
from PIL import Image

README, LOG = ROOT / "README.md", ROOT / "LOG.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MOST_LINES = 200  # of the README, which invites; what is looked up is in docs/


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_what_a_page_tells_to_type_is_what_the_program_takes(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert [*problems_of_blocks(text), *problems_of_inline_code(text)] == []


@pytest.mark.parametrize("path", [*PAGES, LOG], ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    assert dead_links(path) == []


def test_the_examples_run(
    image_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ray_session: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    examples = [
        block.text
        for path in PAGES
        for block in blocks(path.read_text(encoding="utf-8"))
        if block.language == "python" and block.spared is None
    ]
    for name in ("run_search(", "frame(", "load_model(", "torch.export.load("):
        assert any(name in text for text in examples), f"no example uses {name})"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_images").symlink_to(image_folder)
    picture = next((image_folder / "test").rglob("*.png"))
    Image.open(picture).resize((640, 480)).save("photo.jpg")
    classes = {path.name for path in (image_folder / "train").iterdir()}
    for text in sorted(examples, key=lambda text: "run_search(" not in text):  # its results first
        exec(compile(text, "an example", "exec"), {})
        said = capsys.readouterr().out
        assert "t0001" in said or said.split()[0] in classes


def test_the_readme_is_an_invitation_whose_figures_name_their_source() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) < MOST_LINES
    table = text.partition("| Figure |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(table) >= 5
    assert [row for row in table if "](docs/figures.md#" not in row] == []


def test_a_flag_is_spared_only_where_a_page_names_it() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    assert [flag for flag in OTHERS_FLAGS if f"`{flag}" not in text] == []


def test_every_page_is_reached_from_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    assert [name for name in map(name_of, PAGES[1:]) if f"]({name})" not in text] == []


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ("bash\ncifar-tune tune --num-sample 3\n", "no flag --num-sample"),
        ("bash\ncifar-tune tune --sheduler asha\n", "--sheduler is not a flag"),
        ("bash\ncifar-tune extnd results/mine\n", "'extnd' is more than it takes"),
        ("bash\ncifar-tune extend results/mine --num-samples many\n", "num_samples"),
        ("bash\ncifar-tune tune --config lectur\n", "lectur"),
        ("bash\ncifar-tune tune --set optim.momentun=0.9\n", "did you mean optim.momentum?"),
        ("bash\ncifar-tune tune \\\n  --set optim.lr=fast\n", "optim.lr is 'fast'"),
        ("bash\ncifar-tune tune --searcher gp --scheduler asha\n", "gp learns only from"),
        ("bash\n.venv/bin/cifar-tune data --emptied\n", "--emptied is not a flag"),
        ("bash\npython -m cifar_tune.train --num-samples 3\n", "--num-samples is not a flag"),
        ("bash\npython benchmarks/scale.py --rounds 3\n", "unrecognized arguments: --rounds 3"),
        ("bash\npython benchmarks/scales.py\n", "no file benchmarks/scales.py"),
        ("bash\nmake install && make tests\n", "no target tests"),
        ("bash\ndocker build -f docker/Dockerfil .\n", "no file docker/Dockerfil"),
        ("bash\ndocker run -v data:/data cifar-tune --nam x\n", "no flag --nam"),
        ("bash\nkubectl apply -f rayjobs.yaml\n", "no file rayjobs.yaml"),
        ("bash\nsbatch docker/slurm.sh --naem mine\n", "--naem is not a flag"),
        ("bash\npip install 'cifar-tune[dashbord]'\n", "no extra dashbord"),
        ("bash\nfrobnicate results/mine\n", "nothing checks this command"),
        ("yaml\nserach: {num_samples: 3}\n", "serach is not a field of the plan"),
        ("console\n$ cifar-tune tune --set optim.lr=-1\nerror: no\n", "must be greater than 0"),
        ("console\n$ cifar-tune data\ncache\n", "a transcript is of cifar-tune and of an error"),
        ("text\ncifar-tune tune\n", "a command belongs into a bash or console block"),
        ("\ncifar-tune tune\n", "a block of no language"),
    ],
    ids=lambda value: value if "\n" not in value else "",
)
def test_a_wrong_block_is_found(
    block: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (problem,) = problems_of_blocks(f"# A page\n\n```{block}```\n")
    assert problem.startswith("line 3: ")
    assert told in problem
    assert problems_of_blocks(f"<!-- not run: a reason -->\n```{block}```\n") == []


def test_a_block_that_would_be_passed_over_is_found() -> None:
    assert problems_of_blocks("- so:\n\n  ```bash\n  make tests\n  ```\n") != []


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("--final-seed", "no flag --final-seed"),
        ("cifar-tune retry", "'retry' is more than it takes"),
        ("cifar-tune\nreport DIR --rebuilt", "--rebuilt is not a flag"),
        ("make tunes", "no target tunes"),
        ("search.num_sample", "no field search.num_sample"),
        ("train.compile=yes", "train.compile is 'yes'"),
        ("--set search.checkpoint_epochs=5", "is not a field of the plan"),
        ("optim.momentum: {unifrom: [0.8, 0.9]}", "unifrom"),
        ("docker/rayjobs.yaml", "no file docker/rayjobs.yaml"),
        ("test_kill.py", "no file test_kill.py"),
    ],
)
def test_wrong_inline_code_is_found(code: str, told: str) -> None:
    (problem,) = problems_of_inline_code(
        f"# A page\n\n```bash\nmake x\n```\nIt is `{code}` here.\n"
    )
    assert problem.startswith("line 6: ")
    assert told in problem


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("docs/serach.md", "no such file"),
        ("docs/search.md#searcher", "no such heading"),
        ("#nowhere", "no such heading"),
    ],
)
def test_a_dead_link_is_found(target: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "search.md").write_text("# Search\n\n## Searchers\n")
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n[a](docs/search.md#searchers) [b](#page) [c]({target})\n")
    assert dead_links(page) == [f"{target}: {told}"]


def test_anchors_are_those_of_github() -> None:
    text = "# What 1,000 GPUs would cost\n## `auto`, and more\n## a_b\n```bash\n# no heading\n```\n## a_b\n"
    assert anchors(text) == {"what-1000-gpus-would-cost", "auto-and-more", "a_b", "a_b-1"}
