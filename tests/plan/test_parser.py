"""Words of a command that are not there: one line, with the one that was probably meant."""

from __future__ import annotations

import pytest

from cifar_tune.errors import PlanError
from cifar_tune.plan.parser import Parser


@pytest.fixture
def parser() -> Parser:
    parser = Parser(prog="cifar-tune cook")
    parser.add_argument("dish", metavar="DISH")
    parser.add_argument("--salt", required=True, type=int)
    parser.add_argument("--pepper", action="store_true")
    parser.add_argument("--plate", choices=["deep", "flat"])
    return parser


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["soup", "--slat", "3"], r"^--slat is not a flag of cifar-tune cook; did you mean --salt"),
        (["soup", "--slat=3"], r"^--slat is not a flag of cifar-tune cook; did you mean --salt"),
        (["soup", "--salt", "3", "--zzz"], r"^--zzz is not a flag of cifar-tune cook$"),
        (["soup", "--salt"], r"argument --salt: expected one argument; cifar-tune cook --help"),
        (["soup", "--salt", "x"], r"argument --salt: invalid int value: 'x'; cifar-tune cook"),
        (["soup"], r"the following arguments are required: --salt"),
        (["soup", "fish", "--salt", "1"], r"^'fish' is more than it takes"),
        (["soup", "--salt", "1", "--plate", "round"], r"invalid choice: 'round'"),
        (["soup", "--p", "--salt", "1"], r"ambiguous option: --p could match --pepper, --plate"),
    ],
)
def test_a_mistake_is_one_line(parser: Parser, words: list[str], message: str) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        parser.parse_args(words)
    assert "usage" not in str(caught.value)


def test_what_is_right_is_read_abbreviated_and_negative_too(parser: Parser) -> None:
    read = parser.parse_args(["--sal", "-3", "--pepper", "--", "--slat"])
    assert (read.salt, read.pepper, read.dish) == (-3, True, "--slat")


def test_the_words_are_the_processes_own_if_none_are_given(
    parser: Parser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["cifar-tune", "soup", "--slat"])
    with pytest.raises(PlanError, match=r"did you mean --salt\?"):
        parser.parse_args()
