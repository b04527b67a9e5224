"""Command lines: help that fits a terminal, one line for a word that is wrong, options read into their dataclass."""

from __future__ import annotations

from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
import tyro
from hypothesis import given, settings
from hypothesis import strategies as st
from tyro.conf import Positional

from vocab.command_line import Verb, read_options
from vocab.errors import InputError
from vocab.store.locations import Location, with_locations


@dataclass(frozen=True)
class Part:
    """Options of a part."""

    size: int = 3
    """pixels of a side,
    which are squares"""
    flip: bool = True
    """mirror"""
    mode: Literal["max", "none"] = "max"
    """way to pool

    max: the largest
    none: no pooling, for models
    that do it themselves"""


@dataclass(frozen=True)
class Options:
    """Options of a verb.

    And more about it.
    """

    SECTIONS: ClassVar[dict[str, tuple[str, ...]]] = {"speed": ("threads", "rate")}
    REQUIRED: ClassVar[tuple[str, ...]] = ("images",)

    model: Positional[Location]
    """folder of the model"""
    threads: int | None = None
    """CPU threads (default: one a core)"""
    images: Annotated[tuple[str, ...], "PATH"] = ()
    """tars with images"""
    out: Path | None = None
    """folder to write"""
    rate: float = 1 / 30
    """share"""
    pair: tuple[int, float] = (1, 2.5)
    """two numbers"""
    quiet: bool = False
    """say nothing"""
    inner: Part = field(default_factory=Part)
    """part of it"""


@dataclass(frozen=True)
class Words:
    """Words of a verb without options."""

    words: Annotated[tuple[str, ...], "WORD"]
    """words to say"""


SMALL = Options("m", threads=7, images=("z",))
VERBS = {"run": Verb(Options), "try": Verb(Options, is_flat=True, recipes={"small": ("A small one.", SMALL)})}
HELP = """\
usage: python -m room run MODEL --images PATH [PATH ...] [options]

Options of a verb.

And more about it.

required:
  MODEL
      folder of the model (required)
  --images PATH [PATH ...]
      tars with images (required)

options:
  --out PATH
      folder to write
  --pair INT FLOAT
      two numbers (default: 1 2.5)
  --quiet
      say nothing

part of it:
  --inner.size INT
      pixels of a side, which are squares (default: 3)
  --inner.flip, --inner.no-flip
      mirror (default: --inner.flip)
  --inner.mode {max,none}
      way to pool (default: max)
        max: the largest
        none: no pooling, for models that do it themselves

speed:
  --threads INT
      CPU threads (default: one a core)
  --rate FLOAT
      share (default: 0.0333333)
"""


def read(*words: str) -> Any:
    return read_options("python -m room", VERBS, words, about="What the room does.")


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit, match="0"):
        read(*words)
    return capsys.readouterr().out.rstrip("\n") + "\n"


def test_help_lists_what_is_required_then_section_after_section(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert help_of(capsys, "run", "--help") == HELP
    assert help_of(capsys, "run", "a", "--quiet", "-h") == HELP


def test_help_of_a_recipe_shows_the_values_that_it_sets(capsys: pytest.CaptureFixture[str]) -> None:
    said = help_of(capsys, "try", "small", "--help")
    assert "\nA small one.\n" in said
    assert "  --threads INT\n      CPU threads (default: 7)\n" in said
    assert "  --size INT\n" in said
    assert "(required)" not in said


def test_help_lists_verbs_and_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert help_of(capsys, "--help").splitlines() == [
        "usage: python -m room VERB [options]",
        "",
        "What the room does.",
        "",
        "verbs:",
        "  run  Options of a verb.",
        "  try  Options of a verb.",
        "",
        "python -m room VERB --help lists the options of a verb.",
    ]
    listed = help_of(capsys, "try", "--help")
    assert listed.startswith("usage: python -m room try RECIPE [options]\n")
    assert "recipes:\n  small  A small one.\n" in listed


def test_no_line_is_wider_than_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    assert max(map(len, help_of(capsys, "run", "--help").splitlines())) <= 50


def test_options_are_read_with_their_prefix_or_without() -> None:
    words = ["--images", "a", "b", "--out=o", "--rate", "-0.5", "--pair", "2", "3", "--threads", "None"]
    found = read("run", "m", *words, "--inner.no-flip", "--inner.size", "4")
    expected = Options(Path("m"), None, ("a", "b"), Path("o"), -0.5, (2, 3.0), inner=Part(4, flip=False))
    assert found == expected
    assert read("try", "small", "m", *words, "--no-flip", "--size", "4") == expected
    assert read("try", "small", "m") == Options(Path("m"), 7, ("z",))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "verb: found none; wanted run, try. python -m room --help says what each does."),
        ("--out x", "verb --out: found none of that name; wanted run, try. python -m room --help says what each does."),
        ("rum", "verb rum: found none of that name; wanted run, try. Did you mean run?"),
        ("try smal", "recipe smal: found none of that name; wanted small. Did you mean small?"),
        ("try", "recipe: found none; wanted small. "
         "python -m room try --help says what each is; your own is a file NAME.py."),
        ("run m --imagse a", "--imagse: found no option of that name; wanted an option of python -m room run. "
         "Did you mean --images?"),
        ("run m --size 3", "--size: found no option of that name; wanted an option of python -m room run. "
         "Did you mean --inner.size?"),
        ("run m --zzz", "--zzz: found no option of that name; wanted an option of python -m room run. "
         "python -m room run --help lists every option."),
        ("run", "python -m room run: found no MODEL; wanted all that is required. "
         "python -m room run --help lists every option."),
        ("run m --threads ten", "--threads: found ten; wanted a whole number. "
         "python -m room run --help lists every option."),
        ("run m --rate", "--rate: found no value; wanted FLOAT. python -m room run --help lists every option."),
        ("run m --pair 1", "--pair: found 1 of 2 values; wanted INT FLOAT. "
         "python -m room run --help lists every option."),
        ("run m --inner.mode maxx", "--inner.mode: found maxx; wanted max, none. Did you mean max?"),
        ("run m n", "python -m room run: found n; wanted no more words without a name. "
         "python -m room run --help lists every option."),
        ("run m --inner.flip=true", "--inner.flip: found true; wanted no value. "
         "Give --inner.flip or --inner.no-flip."),
    ],
)  # fmt: skip
def test_a_word_that_is_wrong_is_one_line(words: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        read(*words.split())
    assert str(error.value) == message


def test_a_verb_of_words_alone_or_of_options_alone_says_so() -> None:
    verbs = {"say": Verb(Words, takes_words=True), "set": Verb(Part)}
    with pytest.raises(InputError, match=r"wanted WORD \[WORD \.\.\.\] as plain words: .* say has no options\."):
        read_options("python -m room", verbs, ["say", "--word", "a"], about="")
    with pytest.raises(InputError, match=r"python -m room set: found a; wanted options only, no word without a name\."):
        read_options("python -m room", verbs, ["set", "a"], about="")


WORDS = """--images --images=a --images= --out --out=o --out=None --out=-h --threads --threads=-3 --threads=None
--threads=x --rate --rate=-inf --rate=1_0 --pair --pair=1 --quiet --no-quiet --quiet=true --quiet= --inner --inner.size
--inner.size=4 --inner.flip --inner.no-flip --no-inner.flip --inner.no_flip --inner.mode --inner.mode=none --Out
--imagse -- - --- ---out -out m 1 -1 -0.5 -inf -NaN -1e5 -.5 -5- None max true \u0663 \xe9 -\xe9 --= = @f""".split()


def tyro_reads(words: list[str]) -> Any:
    try:
        return with_locations(tyro.cli(Options, args=words), nested=True)
    except (SystemExit, InputError):  # InputError: the location is empty
        return None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*WORDS, "", " ", "a b"]), max_size=4), st.booleans())
def test_every_line_of_words_is_read_as_tyro_reads_it_or_is_refused_in_one_line(words: list[str], first: bool) -> None:
    words = ["m", *words] if first else [*words, "m"]
    with redirect_stderr(StringIO()):
        expected = tyro_reads(words)
    lists = [word for word in words[: (*words, "--").index("--")] if word.partition("=")[0] == "--images"]
    with redirect_stderr(StringIO()) as said:
        if expected is None or len(lists) > 1:
            with pytest.raises(InputError):
                read("run", *words)
        elif lists and not expected.images:
            # Refused, unless a word stands behind it that tyro takes for the model.
            with suppress(InputError):
                assert repr(read("run", *words)) == repr(expected)
        else:
            assert repr(read("run", *words)) == repr(expected)  # NaN is not equal to itself
    assert said.getvalue() == ""


@dataclass(frozen=True)
class Outer:
    """Verb with the options of another."""

    price: float = 0.0
    """price"""
    run: Annotated[Options, "elsewhere"] = SMALL
    """run"""


def test_options_of_another_verb_are_read_and_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    verbs = {"plan": Verb(Outer, is_flat=True)}
    with pytest.raises(SystemExit, match="0"):
        read_options("python -m room", verbs, ["plan", "--help"], about="")
    assert capsys.readouterr().out.partition("options:\n")[2] == "  --price FLOAT\n      price (default: 0)\n"
    found = read_options("python -m room", verbs, ["plan", "--price", "2", "--threads", "9", "--size", "4"], about="")
    assert (found.price, found.run.threads, found.run.inner.size) == (2.0, 9, 4)
    with pytest.raises(InputError, match=r"Did you mean --threads\?"):
        read_options("python -m room", verbs, ["plan", "--thread", "9"], about="")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["m", "--images", "a", "b", "--images", "c"],
            r"--images: found twice; .*Write: --images PATH \[PATH \.\.\.\]",
        ),
        (["m", "--images=a", "--images=b"], "--images: found twice; wanted all values in one place"),
        (["m", "--images", "--quiet"], "--images: found no value; wanted PATH"),
        (["m", "--quiet", "--images"], "--images: found no value; wanted PATH"),
    ],
)
def test_a_list_in_parts_and_one_without_a_value_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_options("room", VERBS, ["run", *words], about="")


def test_a_list_without_a_value_clears_the_default() -> None:
    assert read_options("room", VERBS, ["try", "small", "--images"], about="").images == ()
