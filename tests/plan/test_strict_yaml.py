from __future__ import annotations

from pathlib import Path

import pytest

from cifar_tune.errors import PlanError
from cifar_tune.plan.strict_yaml import parse_yaml, read_yaml


def test_words_and_numbers_are_those_of_yaml_1_2() -> None:
    text = "a: 1e-3\nb: no\nc: 010x\nd: 1_000\ne: .5\nf: 3\ng: true\nh: ~\ni: 1.\nj: on\nk: '3'\n"
    value, _ = parse_yaml(text, "here")
    assert value == {
        "a": 0.001, "b": "no", "c": "010x", "d": "1_000", "e": 0.5, "f": 3, "g": True, "h": None,
        "i": 1.0, "j": "on", "k": "3",
    }  # fmt: skip


def test_lines_are_those_of_the_file() -> None:
    _, lines = parse_yaml("a:\n  b: 1\n\n  c:\n    - 2\n", "here")
    assert lines[("a", "b")] == 2
    assert lines[("a", "c")] == 4
    assert lines[("a", "c", 0)] == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"here:3: key 'a' stands here twice"),
        ("a: !!python/object/apply:os.system [echo]\n", r"here:1: tag .*; plans hold plain values"),
        ("a: !mine 3\n", r"here:1: tag !mine"),
        ("a: !!int x\n", r"here:1: "),
        ("1: 2\n", r"here:1: key '1'; keys are plain words"),
        ("<<: {a: 1}\n? [b]\n: 2\n", r"keys are plain words"),
        ("a: [1, 2\n", r"here: not valid YAML"),
        ("a: 1\n---\nb: 2\n", r"here: not valid YAML: expected a single document"),
        ("a: \x00\n", r"here: not valid YAML"),
        ("[" * 30 + "]" * 30, r"more than 20,000 values or 20 levels"),
        ("[" * 5000, r"here: "),
        ("x" * 1_000_001, r"1,000,001 characters"),
    ],
)
def test_what_is_not_plain_is_refused(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        parse_yaml(text, "here")


def test_an_alias_bomb_is_refused_before_it_fills_the_memory() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 9):
        bomb += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    with pytest.raises(PlanError, match=r"once aliases are expanded"):
        parse_yaml(bomb, "here")


def test_an_alias_to_itself_is_refused() -> None:
    with pytest.raises(PlanError, match=r"levels once aliases are expanded"):
        parse_yaml("&a [*a]", "here")


def test_an_ordinary_alias_is_read() -> None:
    assert parse_yaml("a: &x [1]\nb: *x\n", "here")[0] == {"a": [1], "b": [1]}


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match=r"can't be read"):
        read_yaml(path)
