"""Command lines of the three programs: their verbs, their --help, and one line for a word that is wrong.

In: a program's verbs, each with the dataclass of its options, and the words of a command line. Out: the dataclass.
Used by the `__main__` of each room. tyro reads the words, and alone decides which ones are right; what is wrong with
the others is told here, in one line. Nothing that runs on an executor imports this module.

The docstring under a field is its help. A line in it that begins with one of the option's choices, "none: ...", stays a
line; "(default: ...)" in it says what no value means. The class and the types of its fields may say more:

    SECTIONS: ClassVar = {"speed": ("threads", "device")}    headings, and the fields under them; the others come first
    REQUIRED: ClassVar = ("images",)                         fields that have a default, and must be given all the same
    source: Annotated[str, "PATH"]                           what to call a value; otherwise its type decides
    part: Annotated[Part, "elsewhere"]                       part whose options another verb lists
"""

from __future__ import annotations

import ast
import difflib
import inspect
import io
import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import tyro

from vocab.errors import InputError
from vocab.pages.text import tell
from vocab.store.locations import with_locations

NAMES = {str: "TEXT", int: "INT", float: "FLOAT", Path: "PATH"}
"""how values of a type are called"""
ELSEWHERE = "elsewhere"
POSITIONAL = get_args(tyro.conf.Positional[str])[1]
WIDEST = 100
"""most columns of a help, for longer lines are hard to read"""
NO_BREAK = "\xa0"
DEFAULT = re.compile(r"\s*\(default: [^)]*\)")
NUMBERS = {int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class Verb:
    """Verb of a program."""

    kind: type[Any]
    """dataclass of its options; its docstring says what the verb does"""
    is_flat: bool = False
    """parts of the dataclass give no prefix to their options: --steps, not --optim.steps"""
    takes_words: bool = False
    """required options are words without a name"""
    recipes: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    """descriptions and instances by name, one of which the command line chooses to change; empty: no choice"""


@dataclass(frozen=True)
class Option:
    """Option of a verb as the command line has it."""

    name: str
    """--task.train, or MODEL for a word without a name"""
    text: str
    """docstring of the field"""
    value: Any
    """default, or MISSING"""
    kinds: tuple[Any, ...]
    """type of each value; none for a switch"""
    is_list: bool
    """the last type may come any number of times"""
    is_optional: bool
    """the word None stands for no value"""
    called: str
    """name of the values: PATH [PATH ...]"""
    is_required: bool
    is_positional: bool
    section: str

    @property
    def names(self) -> tuple[str, ...]:
        """Spellings of the name; a switch has two."""
        part = self.name.removesuffix(self.last_name)
        return (self.name,) if self.kinds else (self.name, f"{part}no-{self.last_name}")

    @property
    def last_name(self) -> str:
        """Name without the dashes and the parts that it is in."""
        return self.name.removeprefix("--").rpartition(".")[2]

    @property
    def is_missing(self) -> bool:
        """True of an option that stands nowhere if the command line does not name it."""
        return self.value is MISSING and not self.is_positional

    @property
    def head(self) -> str:
        """Name and values, as help shows them."""
        names = self.names if self.value is True else self.names[:1]
        return self.called if self.is_positional else " ".join(filter(None, [", ".join(names), self.called]))

    @property
    def lines(self) -> list[str]:
        """Help, a line for each of the choices that it explains."""
        choices = tuple(f"{choice}:" for kind in self.kinds for choice in _choices(kind))
        lines = [""]
        for line in self.text.splitlines():
            if choices and line.startswith(choices):
                lines.append(line)
            else:
                lines[-1] = f"{lines[-1]} {line}".strip()
        if self.is_required:
            lines[0] += " (required)"
        elif shown := self._default():
            # A default stays on one line: textwrap breaks at no such space.
            lines[0] = f"{DEFAULT.sub('', lines[0])} (default:{NO_BREAK}{shown})"
        return lines

    def _default(self) -> str:
        """Text of the default; empty where no value is the default, whose meaning the docstring tells."""
        if self.value is None or self.value is False or self.value in ("", ()):
            return ""
        if self.value is True:
            return self.name
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        return " ".join(f"{value:g}" if isinstance(value, float) else f"{value}" for value in values)


def read_options(program: str, verbs: Mapping[str, Verb], words: Sequence[str], *, about: str) -> Any:
    """Read a command line into the dataclass of its verb, with locations spelt in one way; or show a help and exit.

    `program`: as it is called. `about`: its help's first lines. Raises InputError for a verb, recipe, option or value
    that there is not, and for options that are missing; dataclasses may raise more.
    """
    first, rest = (words[0] if words else ""), list(words[1:])
    if first in ("-h", "--help"):
        _show(_help_of_choices(program, "VERB", {name: _doc(verb.kind) for name, verb in verbs.items()}, about))
    refuse_unknown("verb", first, verbs, remedy=f"{program} --help says what each does.")
    verb, program, default = verbs[first], f"{program} {first}", MISSING
    about = _doc(verb.kind)
    if verb.recipes:
        chosen, rest = (rest[0] if rest else ""), rest[1:]
        names = {name: said for name, (said, _) in verb.recipes.items()}
        if chosen in ("-h", "--help"):
            _show(_help_of_choices(program, "RECIPE", names, about))
        refuse_unknown(
            "recipe", chosen, names, remedy=f"{program} --help says what each is; your own is a file NAME.py."
        )
        program, default = f"{program} {chosen}", verb.recipes[chosen][1]
        about = f"{about}\n\n{names[chosen]}"
    named = rest[: rest.index("--")] if "--" in rest else rest
    if {"-h", "--help"} & set(named):
        listed = list(_options_of(verb.kind, default, verb, all_parts=False))
        _show(_help_of_options(program, listed, about, verb.kind))
    chosen_markers = [(tyro.conf.OmitArgPrefixes, verb.is_flat), (tyro.conf.PositionalRequiredArgs, verb.takes_words)]
    markers: Any = [marker for marker, is_chosen in chosen_markers if is_chosen]
    given: dict[str, Any] = {} if default is MISSING else {"default": default}
    try:
        with redirect_stderr(io.StringIO()):  # tyro's message has many lines
            read: Any = tyro.cli(verb.kind, args=rest, prog=program, config=markers, **given)
    except SystemExit:
        _refuse(program, list(_options_of(verb.kind, default, verb)), rest)
    _refuse_broken_lists(list(_options_of(verb.kind, default, verb)), named)
    return with_locations(read, nested=not verb.is_flat)


def refuse_unknown(kind: str, name: str, known: Collection[str], *, remedy: str) -> None:
    """Raise InputError for a name that is not among the known ones, with the one that may be meant."""
    if name not in known:
        near = _near(name, known)
        raise InputError(
            f"{kind} {name}".strip(),
            found="none of that name" if name else "none",
            wanted=", ".join(known),
            remedy=f"Did you mean {near}?" if near else remedy,
        )


def _near(name: str, known: Collection[str]) -> str:
    """Name that may be meant: one that ends the same way, --task.train for --train, or is spelt much the same."""
    ends = [each for each in known if name.startswith("--") and each.endswith(f".{name.removeprefix('--')}")]
    return next(iter(ends or difflib.get_close_matches(name, known, n=1)), "")


def _options_of(
    kind: Any, default: Any, verb: Verb, *, all_parts: bool = True, prefix: str = "--", section: str = ""
) -> Iterator[Option]:
    """Yield the options of a dataclass and of its parts, in the order of their fields.

    `all_parts`: parts that another verb lists too, for the verb takes their options all the same.
    """
    plain, extended, texts = get_type_hints(kind), get_type_hints(kind, include_extras=True), _docs_of(kind)
    for each in fields(kind):
        hint, text = plain[each.name], texts.get(each.name, "")
        marks = get_args(extended[each.name])[1:] if get_origin(extended[each.name]) is Annotated else ()
        value = getattr(default, each.name) if default is not MISSING else each.default
        if value is MISSING and each.default_factory is not MISSING:
            value = each.default_factory()
        if not is_dataclass(hint):
            yield _option(each.name, hint, marks, text, value, verb, prefix=prefix, section=section)
        elif all_parts or ELSEWHERE not in marks:
            inside = prefix if verb.is_flat else f"{prefix}{each.name.replace('_', '-')}."
            heading = text or _doc(hint)
            yield from _options_of(hint, value, verb, all_parts=all_parts, prefix=inside, section=heading)


def _option(
    field_name: str, hint: Any, marks: Sequence[Any], text: str, value: Any, verb: Verb, *, prefix: str, section: str
) -> Option:
    """Describe the option of a field. `marks`: what its type is annotated with. `section`: heading of its dataclass."""
    name = field_name.replace("_", "-")
    is_union = get_origin(hint) in (Union, UnionType)
    kinds = tuple(kind for kind in (get_args(hint) if is_union else (hint,)) if kind is not NoneType)
    if kinds == (bool,):
        kinds = ()
    elif Path in kinds:
        kinds = (Path,)
    is_list = bool(kinds) and get_args(kinds[0])[1:] == (...,)
    if kinds and get_origin(kinds[0]) is tuple:
        kinds = tuple(kind for kind in get_args(kinds[0]) if kind is not ...)
    is_positional = POSITIONAL in marks or (verb.takes_words and value is MISSING)
    marked = next((mark for mark in marks if isinstance(mark, str) and mark.isupper()), "")
    called = [marked or (name.upper() if is_positional else _called(kind)) for kind in kinds]
    headings = {each: heading for heading, names in getattr(verb.kind, "SECTIONS", {}).items() for each in names}
    return Option(
        name=name.upper() if is_positional else f"{prefix}{name}",
        text=text,
        value=value,
        kinds=kinds,
        is_list=is_list,
        is_optional=NoneType in get_args(hint),
        called=f"{called[0]} [{called[0]} ...]" if is_list else " ".join(called),
        is_required=value is MISSING or (field_name in getattr(verb.kind, "REQUIRED", ()) and not value),
        is_positional=is_positional,
        section=headings.get(field_name, section),
    )


def _called(kind: Any) -> str:
    return f"{{{','.join(_choices(kind))}}}" if _choices(kind) else NAMES[kind]


def _choices(kind: Any) -> tuple[str, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()


def _doc(kind: Any) -> str:
    return inspect.getdoc(kind) or ""


@cache
def _docs_of(kind: Any) -> dict[str, str]:
    """Texts under the fields of a dataclass and of those that it inherits from."""
    texts = {}
    for each in reversed(kind.__mro__[:-1]):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        for above, below in pairwise(tree.body) if isinstance(tree, ast.ClassDef) else ():
            match above, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[name] = inspect.cleandoc(text)
    return texts


def _refuse(program: str, options: Sequence[Option], words: Sequence[str]) -> NoReturn:
    """Raise InputError for words that tyro has refused: the first wrong one, or the options that are missing."""
    see = f"{program} --help lists every option."
    given, free, rest = set(), list[str](), list(words)
    while rest:
        word = rest.pop(0)
        if _is_name(word):
            given.add(_take(program, options, word, rest, see).name)
        else:
            free += rest if word == "--" else [word]
            rest = [] if word == "--" else rest
    places = [each for each in options if each.is_positional]
    nothing = [each.called for each in places if each.value is MISSING and not free]
    nothing += [each.head for each in options if each.is_missing and each.name not in given]
    if nothing:
        raise InputError(program, found=f"no {', no '.join(nothing)}", wanted="all that is required", remedy=see)
    if len(free) > len(places) and not any(each.is_list for each in places):
        wanted = "no more words without a name" if places else "options only, no word without a name"
        raise InputError(program, found=free[len(places)], wanted=wanted, remedy=see)
    raise InputError(program, found=" ".join(words), wanted="words in an order that can be read", remedy=see)


def _refuse_broken_lists(options: Sequence[Option], words: Sequence[str]) -> None:
    """Raise InputError for a list given in parts, of which tyro would keep the last alone, or without any value.

    Where the default holds values, a list without any clears them.
    """
    lists = {name: each for each in options if each.is_list and not each.is_positional for name in each.names}
    seen = set()
    for word, then in pairwise([*words, "--"]):
        name, equals, _ = word.partition("=")
        option = lists.get(name.replace("_", "-")) if _is_name(word) else None
        if option is None:
            continue
        if option.name in seen:
            raise InputError(name, found="twice", wanted="all values in one place", remedy=f"Write: {option.head}")
        if not equals and (then == "--" or _is_name(then)) and option.value in (MISSING, ()):
            raise InputError(name, found="no value", wanted=option.called, remedy=f"Give one, or leave {name} out.")
        seen.add(option.name)


def _take(program: str, options: Sequence[Option], word: str, rest: list[str], see: str) -> Option:
    """Take an option's values from the words after its name, and return it. Raises InputError for wrong values."""
    name, equals, value = word.partition("=")
    known = {each: option for option in options if not option.is_positional for each in option.names}
    option = known.get(name.replace("_", "-"))
    if option is None:
        near = _near(name, known)
        remedy = f"Did you mean {near}?" if near else see
        words = " ".join(each.called for each in options if each.is_positional)
        right = f"an option of {program}" if known else f"{words} as plain words: {program} has no options"
        raise InputError(name, found="no option of that name", wanted=right, remedy=remedy)
    if equals and not option.kinds:
        raise InputError(name, found=value or "=", wanted="no value", remedy=f"Give {' or '.join(option.names)}.")
    values, wanted = [value] if equals else [], len(option.kinds)
    while rest and not _is_name(rest[0]) and rest[0] != "--" and (option.is_list or len(values) < wanted):
        values.append(rest.pop(0))
    if len(values) < wanted and not option.is_list:
        found = f"{len(values)} of {wanted} values" if values else "no value"
        raise InputError(name, found=found, wanted=option.called, remedy=see)
    for each, kind in zip(values, option.kinds * len(values) if option.is_list else option.kinds, strict=False):
        if not (option.is_optional and each == "None"):
            _refuse_value(name, each, kind, see)
    return option


def _is_name(word: str) -> bool:
    """Tell the name of an option from a value, as tyro does: -0.5 and -inf are numbers."""
    return word.startswith("-") and word.lstrip("-")[:1].isalpha() and word not in ("-inf", "-nan")


def _refuse_value(name: str, word: str, kind: Any, see: str) -> None:
    """Raise InputError for a value that is none of the choices, or no number."""
    choices = _choices(kind)
    if choices and word not in choices:
        near = _near(word, choices)
        remedy = f"Did you mean {near}?" if near else see
        raise InputError(name, found=word, wanted=", ".join(choices), remedy=remedy)
    if kind in NUMBERS:
        try:
            kind(word)
        except ValueError as error:
            raise InputError(name, found=word, wanted=NUMBERS[kind], remedy=see) from error


def _show(lines: Iterable[str]) -> NoReturn:
    """Print a help, and end the program."""
    # Secrets are left in, for a help has none: "pipe:COMMAND" looks like one.
    tell("\n".join(lines).strip("\n") + "\n", to=sys.stdout, has_captions=True)
    sys.exit(0)


def _width() -> int:
    return max(40, min(shutil.get_terminal_size().columns, WIDEST))


def _wrapped(text: str, *, first: str = "", then: str | None = None) -> list[str]:
    """Break a paragraph into lines that begin with `first` and `then`; names of options stay whole."""
    lines = textwrap.wrap(
        text,
        width=_width(),
        initial_indent=first,
        subsequent_indent=first if then is None else then,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(NO_BREAK, " ") for line in lines]


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield from _wrapped(" ".join(paragraph.split()))
        yield ""


def _help_of_choices(program: str, kind: str, choices: Mapping[str, str], about: str) -> Iterator[str]:
    """Lines of a help that lists verbs or recipes."""
    yield f"usage: {program} {kind} [options]"
    yield ""
    yield from _paragraphs(about)
    yield f"{kind.lower()}s:"
    column = max(map(len, choices)) + 4
    for name, text in choices.items():
        yield from _wrapped(text.partition("\n\n")[0], first=f"  {name}".ljust(column), then=" " * column)
    yield ""
    yield from _wrapped(f"{program} {kind} --help lists the options of a {kind.lower()}.")


def _help_of_options(program: str, options: Sequence[Option], about: str, kind: Any) -> Iterator[str]:
    """Lines of a help that lists options: the required ones, then section after section."""
    required = sorted((each for each in options if each.is_required), key=lambda each: not each.is_positional)
    others = [each for each in options if not each.is_required]
    heads = [each.head.replace(" ", NO_BREAK) for each in required]
    usage = [program, *heads, *(["[options]"] if others else [])]
    yield from _wrapped(" ".join(usage), first="usage: ", then=" " * 7)
    yield ""
    yield from _paragraphs(about)
    named = [name.replace("_", "-") for names in getattr(kind, "SECTIONS", {}).values() for name in names]
    rank = {name: number for number, name in enumerate(named)}
    sections: dict[str, list[Option]] = {"required": required, "": []}
    for each in sorted(others, key=lambda each: rank.get(each.last_name, -1)):
        sections.setdefault(each.section, []).append(each)
    for heading, listed in sections.items():
        if listed:
            yield f"{heading or 'options'}:"
            for option in listed:
                yield from _help_of(option)
            yield ""


def _help_of(option: Option) -> Iterator[str]:
    """Lines about one option."""
    yield from _wrapped(option.head, first="  ", then=" " * 6)
    text, *choices = option.lines
    yield from _wrapped(text, first=" " * 6)
    for choice in choices:
        yield from _wrapped(choice, first=" " * 8, then=" " * 10)
