"""Tasks file of a suite: the tasks to measure a model on, and the methods to measure it by.

[[task]]
name = "imagenet"
train = "imagenet/train"          # locations as on the command line; paths start from the working directory
test = "imagenet/val"
methods = ["probe", "knn", "zeroshot", "finetune"]
percents = [1, 10, 100]
seeds = [0, 1, 2]
inits = ["random", "transfer"]
alpha = 0.5

[task.finetune]                   # options of python -m trainer finetune, with underscores;
epochs = 20                       # they may stay while the method is not asked for
"""

from __future__ import annotations

import math
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from trainer.options import Bounds, Percent, PositiveShare
from trainer.transfer.config import TaskImages
from vocab.errors import InputError
from vocab.store.field_types import is_of, name_of
from vocab.store.locations import Location, read_whole, with_locations

Section = Literal["probe", "zeroshot", "finetune", "segment", "detect"]
SuiteMethod = Literal["probe", "knn", "finetune", "zeroshot", "segment", "detect"]
"""methods by which a suite measures a model that is there"""
Init = Literal["random", "transfer"]
SECTIONS: Mapping[Section, tuple[SuiteMethod, ...]] = MappingProxyType(
    {
        "probe": ("probe", "knn"),
        "zeroshot": ("zeroshot",),
        "finetune": ("finetune",),
        "segment": ("segment",),
        "detect": ("detect",),
    }
)
"""methods that each table of options applies to"""
DENSE: tuple[SuiteMethod, ...] = ("segment", "detect")
"""methods whose images have masks or objects in place of classes: a task has one of them, or others"""
LONGEST_NAME = 100
SEEDS = 1 << 31
MAX_BYTES = 1 << 20
MOST_PARTS = 100
"""largest number of dots in the keys of a line"""
STRING_OR_COMMENT = re.compile(r""" "(?:[^"\\]|\\.)*+(?:"|$) | '[^']*+(?:'|$) | \#.* """, re.VERBOSE)
FORM = "[[task]] tables with name, test, and train"


@dataclass(frozen=True)
class SuiteTask(TaskImages):
    """A task, and the measurements to make on it."""

    PREFIX = ""

    name: str
    """name of the task in tables of results"""
    test: str
    """images to test on"""
    train: str = ""
    """images to train on; may be left out where nothing is trained"""
    methods: tuple[SuiteMethod, ...] = ("zeroshot", "knn", "probe")
    """methods to measure the model by"""
    percents: tuple[Percent, ...] = (1.0, 5.0, 10.0, 25.0, 50.0, 100.0)
    """shares of the training images of each class, in percent"""
    seeds: tuple[Annotated[int, Bounds(0, SEEDS, below_high=True)], ...] = (0, 1, 2)
    """seeds to measure each share with"""
    inits: tuple[Init, ...] = ("random", "transfer")
    """first weights of the classifiers that are trained"""
    alpha: PositiveShare = 0.5
    """smallest path similarity for Transfer Init"""
    probe: dict[str, Any] = field(default_factory=dict)
    """further options of the verb probe, by their names in its configuration"""
    zeroshot: dict[str, Any] = field(default_factory=dict)
    """further options of the verb zeroshot"""
    finetune: dict[str, Any] = field(default_factory=dict)
    """further options of the verb finetune"""
    segment: dict[str, Any] = field(default_factory=dict)
    """further options of the verb segment, and of its masks"""
    detect: dict[str, Any] = field(default_factory=dict)
    """further options of the verb detect, and of its objects"""

    def __post_init__(self) -> None:
        """Raise InputError, naming the field, for a value out of bounds, and for missing images."""
        super().__post_init__()
        for name in ("methods", "percents", "seeds", "inits"):
            self.require_each_once(name)
        dense = [method for method in self.methods if method in DENSE]
        wanted = "one method of images with masks or objects, or methods of images with classes"
        remedy = "Make two tasks of it."
        self.require("methods", not dense or len(self.methods) == 1, " ".join(self.methods), wanted, remedy=remedy)
        is_trained = set(self.methods) != {"zeroshot"}
        wanted = "the images to train on; zeroshot alone needs none"
        self.require("train", bool(self.train) or not is_trained, "nothing", wanted, remedy="Name them.")

    @property
    def waiting(self) -> tuple[Section, ...]:
        """Tables of options whose methods the task does not ask for."""
        return tuple(
            section
            for section, methods in SECTIONS.items()
            if getattr(self, section) and not set(methods) & set(self.methods)
        )


SectionFields = Mapping[Section, Mapping[str, Any]]
"""fields of each table of options, with their types"""


def read_tasks(path: Location, options: SectionFields) -> tuple[SuiteTask, ...]:
    """Read the tasks of a file, in its order.

    Raises InputError that names the file, the task and the field, for the first value that cannot be used.
    """
    content = _content(path)
    unknown = sorted(content.keys() - {"task"})
    tables = content.get("task")
    if unknown or not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        found = f"{', '.join(map(repr, unknown))} outside of a task" if unknown else "no [[task]]"
        raise InputError(path, found=found, wanted=FORM, remedy="docs/transfer.md has an example.")
    tasks = tuple(_task(path, number, table, options) for number, table in enumerate(tables, 1))
    for name, count in Counter(task.name for task in tasks).items():
        if count > 1:
            raise _refused(path, name, "name", "two tasks of this name", "another name for each task")
    return tasks


def _content(path: Location) -> dict[str, Any]:
    try:
        text = read_whole(path, most=MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise InputError(path, found="more than 1 MiB", wanted=FORM, remedy="Name the file of the tasks.")
        content = text.decode()
        _refuse_long_keys(content)
        return tomllib.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        # TOMLDecodeError and UnicodeDecodeError are ValueErrors; brackets in brackets end in a RecursionError.
        raise InputError(
            path, found=f"no readable TOML ({error})", wanted=FORM, remedy="docs/transfer.md has an example."
        ) from error


def _refuse_long_keys(text: str) -> None:
    """Raise ValueError for a key of many parts, since tomllib takes time by the square of their number."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > MOST_PARTS and STRING_OR_COMMENT.sub("x", line).count(".") > MOST_PARTS:
            raise ValueError(f"line {number} has keys of more than {MOST_PARTS} parts")


def _task(path: Location, number: int, table: Mapping[str, Any], options: SectionFields) -> SuiteTask:
    name = table.get("name", f"number {number}")
    if not _is_name(name):
        wanted = f"1 to {LONGEST_NAME} characters that can be shown, without / and \\, not beginning with a dot"
        raise _refused(path, f"number {number}", "name", repr(name), wanted)
    hints = {each.name: get_type_hints(SuiteTask)[each.name] for each in fields(SuiteTask)}
    sections = {section: table[section] for section in SECTIONS if section in table}
    values = _values(path, name, {field: table[field] for field in table if field not in sections}, hints)
    for needed in ("name", "test"):
        if not values.get(needed):
            raise _refused(path, name, needed, "nothing", "a name" if needed == "name" else "the images to test on")
    for section, given in sections.items():
        if not isinstance(given, dict):
            raise _refused(path, name, section, repr(given), f"a table [task.{section}]")
        values[section] = _values(path, name, given, options[section], inside=f"{section}.")
    try:
        return with_locations(SuiteTask(**values), prefix="")
    except InputError as error:
        raise _refused(path, name, error.thing.replace("-", "_"), error.found, error.wanted) from error


def _is_name(name: object) -> bool:
    # A task's name becomes part of folders' names, and of a line of a table.
    return (
        isinstance(name, str)
        and 0 < len(name) <= LONGEST_NAME
        and name.isprintable()
        and name == name.strip()
        and not name.startswith(".")
        and not set(name) & set("/\\")
    )


def _values(
    path: Location, task: str, table: Mapping[str, Any], hints: Mapping[str, Any], *, inside: str = ""
) -> dict[str, Any]:
    """Values of a table's fields in the types that the fields have. Raises InputError for another field or type."""
    values = {}
    for name, given in table.items():
        if name not in hints:
            known = f"one of {', '.join(hints)}" if hints else "no options"
            raise _refused(path, task, f"{inside}{name}", "an unknown field", known)
        values[name] = _from_toml(given, hints[name])
        if not is_of(values[name], hints[name]):
            raise _refused(path, task, f"{inside}{name}", repr(given), f"a value of type {_toml_type(hints[name])}")
    return values


def _from_toml(value: Any, hint: Any) -> Any:
    """Turn a list into a tuple, a text into a path and 1 into 1.0, where the type wants it."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    entry = next((get_args(kind)[0] for kind in kinds if get_origin(kind) is tuple), None)
    if isinstance(value, list) and entry is not None:
        return tuple(_from_toml(each, entry) for each in value)
    if isinstance(value, str) and Path in kinds and str not in kinds:
        return Path(value)
    if type(value) is int and float in kinds and int not in kinds:
        # An integer that no float can hold is refused as infinite.
        return float(value) if abs(value) < 1 << 1000 else math.inf
    return value


def _toml_type(hint: Any) -> str:
    """Name of a type in TOML, which has lists for tuples, texts for paths, and leaves out what is None."""
    name = name_of(hint).replace("tuple[", "list[").replace(", ...]", "]").replace(" | None", "").replace("Path", "str")
    return name.replace("str | str", "str")


def _refused(path: Location, task: str, name: str, found: str, wanted: str) -> InputError:
    thing = f"{path}: task {task!r}: {name}"
    return InputError(thing, found=found, wanted=wanted, remedy="docs/transfer.md says what a task has.")
