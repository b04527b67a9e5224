r"""Names of a data set's classes, where its labels are not names.

    labels "n01440764", "n01443537" and no file          the labels are the names
    labels "0", "1" and no file                          "cls0", "cls1": a number names no class, and "1" is a noun
    labels "airfield", "hotel" and "runway", "inn"       by their order: no name is another class's label
    labels "airfield", "hotel" and "hotel", "airfield"   refused: the list is in another order than the data
    labels "n02084071", "n02121620" and "cat", "dog"     refused as well: more names mean another label than their own
    labels "0", "1", "10" and a list of 11 names         by their numbers, names 0, 1 and 10
    labels "class_0", "class_1", "class_10" and 11 names by their numbers as well
    labels "0_x", "10_y", "1_z" and a list of 3 names    refused: the list may be in the order of numbers or of letters

Files of names, in the order of the classes or by label:

    .txt    tench                                        a name for each class, in their order
            n01440764 tench, Tinca tinca                 a wnid first: it is the name
            /a/airfield 0                                Places365: every line ends in its number, from 0 or 1 on
            1 001.Black_footed_Albatross                 CUB: every line begins with it
    .json   ["tench", "goldfish"]                        as lines
            {"n01440764": "tench", "7": "goldfish"}      by label, as the data set has it
            {"0": ["n01440764", "tench"]}                Keras's imagenet_class_index: the wnid is the name
    .csv    label,name\nn01440764,"tench, Tinca tinca"   by label; the line `label,name` may be missing; .tsv with tabs
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trainer.transfer.tasks.files import NO_TEXT
from trainer.transfer.tasks.numbering import is_number, numbers_of, other_order, plain_words
from vocab.class_names import synsets_of_class_names
from vocab.errors import InputError, MismatchError
from vocab.pages.text import counted, listed
from vocab.store.locations import Location, read_whole, suffix_of, why

MAX_NAME_FILE_BYTES = 64 << 20
NAME_FILE_HEADER = ["label", "name"]

_WNID_FIRST = re.compile(r"(n\d{8})(?:[\s,:].*)?", re.ASCII)
_NUMBERED = (
    re.compile(r"(?P<name>.*\S)[\s,:;=]+(?P<number>\d{1,6})", re.ASCII),
    re.compile(r"(?P<number>\d{1,6})[\s,:;=)]+(?P<name>\S.*)", re.ASCII),
)

Names = list[str] | dict[str, str]
"""in the order of the classes, or by label"""

MAPPING = 'Write a mapping: a .json of {"label": "name"}, or a .csv of label,name.'


@dataclass(frozen=True)
class ClassNames:
    """A name for each class, and notes on them."""

    names: tuple[str, ...]
    notes: tuple[str, ...]


def names_of_classes(
    labels: Sequence[str], given: Names | None, *, source: Location | None, own: tuple[str, ...] = ()
) -> ClassNames:
    """Find a name for each label. `given`: names in the file `source`; `own`: names in the data set.

    Raises MismatchError for a list of another length, in another order than the labels by their words or by what they
    mean, or for numbers that could be positions in the list in two ways; and for a mapping that lacks a label.
    """
    if given is None:
        return ClassNames(own, ()) if own else _own_names(labels)
    if isinstance(given, dict):
        names, notes = _by_label(labels, given, source)
    else:
        names, notes = _by_order(labels, given, source)
    return ClassNames(tuple(names), (*notes, *_alike(labels, names)))


def read_name_file(path: Location) -> Names:
    """Read the names in a file. Raises InputError for another kind of file, and for a malformed one."""
    text = _text(path)
    match suffix_of(path):
        case ".txt":
            return _lines(path, text)
        case ".json":
            return _json(path, text)
        case ".csv" | ".tsv" as suffix:
            return _table(path, text, "\t" if suffix == ".tsv" else ",")
        case suffix:
            raise _refused(path, f"a file that ends in {suffix!r}", ".txt, .json, .csv or .tsv")


def _own_names(labels: Sequence[str]) -> ClassNames:
    if not all(map(is_number, labels)):
        return ClassNames(tuple(labels), ())
    note = "the classes are numbers and no names: nothing can be matched with WordNet. --task.class-names gives names"
    return ClassNames(tuple(f"cls{label}" for label in labels), (note,))


def _by_label(labels: Sequence[str], given: Mapping[str, str], source: Location | None) -> tuple[list[str], list[str]]:
    missing = [label for label in labels if label not in given]
    if missing:
        raise MismatchError(
            source,
            found=f"no name for {len(missing):,} of {len(labels):,} classes: {listed(missing)}",
            wanted=f"every label of the data set, such as {labels[0]!r}",
            remedy="Add them: a class that is not to have a name maps to its label.",
        )
    surplus = sorted(given.keys() - set(labels))
    strange = counted(len(surplus), f"label of {source} is no class", f"labels of {source} are no classes")
    notes = [f"{strange} of the data set: {listed(surplus)}"] if surplus else []
    return [given[label] for label in labels], notes


def _by_order(labels: Sequence[str], given: list[str], source: Location | None) -> tuple[list[str], list[str]]:
    same_length, numbers = len(given) == len(labels), numbers_of(labels)
    if same_length and _spelt_alike(labels, given):
        return _in_place(labels, given, source), []
    if numbers is not None and len(set(numbers)) == len(numbers) and max(numbers) == len(given) - 1:
        names, notes = _by_number(numbers, labels, given, source)
        return _in_place(labels, names, source), [*notes, *_dealt("number", labels, names)]
    if not same_length:
        raise _wrong_length(labels, given, source)
    names = _in_place(labels, given, source)
    if _mean_alike(labels, names, source):
        return names, []
    if (other := other_order(labels)) is not None:
        raise MismatchError(
            source,
            found=f"a list for classes whose labels are in the order {listed(labels)}, and by their numbers in "
            f"another, {listed(other)}",
            wanted="a list whose order is certain",
            remedy=MAPPING,
        )
    return names, _dealt("order", labels, names)


def _in_place(labels: Sequence[str], names: list[str], source: Location | None) -> list[str]:
    """Return the names. Raises MismatchError for a name that is spelt like the label of another class."""
    positions = {plain_words(label): position for position, label in enumerate(labels)}
    for position, (label, name) in enumerate(zip(labels, names, strict=True)):
        other = positions.get(plain_words(name), position)
        if other != position and plain_words(name) != plain_words(label):
            raise MismatchError(
                source,
                found=f"{name!r} as name {position + 1}, where class {position + 1} of the data set is {label!r} "
                f"and class {other + 1} is {labels[other]!r}",
                wanted="names in the order of the data set's classes",
                remedy=MAPPING,
            )
    return names


def _spelt_alike(labels: Sequence[str], names: Sequence[str]) -> bool:
    """Tell whether most names are spelt like the labels they stand for, so that their order is beyond doubt."""
    alike = sum(plain_words(label) == plain_words(name) for label, name in zip(labels, names, strict=True))
    return alike * 2 > len(labels)


def _mean_alike(labels: Sequence[str], given: Sequence[str], source: Location | None) -> bool:
    """Tell whether most names mean what their labels mean, so that their order is beyond doubt.

    Labels and names may be spelt in two ways, wnids and words. A few of them may well mean another class's synset: of
    two classes called "crane" one does. Raises MismatchError where more names mean the label of another class than that
    of their own.
    """
    synsets = synsets_of_class_names([*labels, *given])
    own, named = synsets[: len(labels)], synsets[len(labels) :]
    positions = {tuple(synset): position for position, synset in enumerate(own) if synset}
    meant = [positions.get(tuple(synset)) for synset in named]
    right = sum(bool(synset) and synset == label for synset, label in zip(named, own, strict=True))
    wrong = [position for position, other in enumerate(meant) if other is not None and named[position] != own[position]]
    if len(wrong) > right:
        other = meant[wrong[0]]
        assert other is not None
        raise MismatchError(
            source,
            found=f"{len(wrong):,} names that mean the label of another class, {right:,} that mean their own: "
            f"{given[wrong[0]]!r} is name {wrong[0] + 1}, and class {other + 1} of the data set is {labels[other]!r}",
            wanted="names in the order of the data set's classes",
            remedy=MAPPING,
        )
    return right * 2 > len(labels)


def _dealt(how: str, labels: Sequence[str], names: Sequence[str]) -> list[str]:
    """Write a note on how a list was matched with labels that contain numbers; none for bare numbers (documented)."""
    if all(map(is_number, labels)) or not any(re.search(r"\d", label) for label in labels):
        return []
    pairs = [f"{label} is {name!r}" for label, name in zip(labels, names, strict=True)]
    return [f"names were given to classes by their {how}: {listed(pairs)}"]


def _by_number(
    numbers: list[int], labels: Sequence[str], given: list[str], source: Location | None
) -> tuple[list[str], list[str]]:
    """Pick the names whose indices in the list, from 0 on, are the labels' numbers; and note those without a class."""
    if min(numbers):
        raise MismatchError(
            source,
            found=f"a list of {counted(len(given), 'name')} for {counted(len(labels), 'class', 'classes')} whose least "
            f"number is {min(numbers)}, and whose greatest is {max(numbers)}: {listed(labels)}",
            wanted="numbers that show whether the list counts from 0 or from 1",
            remedy=MAPPING,
        )
    unused = sorted(set(range(len(given))) - set(numbers))
    idle = counted(len(unused), f"name of {source} has no class", f"names of {source} have no class")
    notes = [f"{idle}: {listed([given[each] for each in unused])}"]
    return [given[number] for number in numbers], notes if unused else []


def _alike(labels: Sequence[str], names: Sequence[str]) -> list[str]:
    owners = defaultdict(list)
    for label, name in zip(labels, names, strict=True):
        owners[name].append(label)
    return [f"{len(own):,} classes are called {name!r}: {listed(own)}" for name, own in owners.items() if len(own) > 1]


def _wrong_length(labels: Sequence[str], given: list[str], source: Location | None) -> MismatchError:
    names = f"a list of {counted(len(given), 'name')} for {counted(len(labels), 'class', 'classes')}: {listed(labels)}"
    missing = len(labels) - len(given)
    if missing > 0:
        lacking = counted(missing, "name is missing", "names are missing")
        remedy = "Add a line for each class that has none; a class that is not to have a name may have its label."
    else:
        lacking = counted(-missing, "name is too many", "names are too many")
        remedy = f"Take out names of no class. {MAPPING} It may name more classes than there are."
    return MismatchError(
        source, found=f"{names}; {lacking}", wanted="a name for each class, in their order", remedy=remedy
    )


def _text(path: Location) -> str:
    try:
        content = read_whole(path, most=MAX_NAME_FILE_BYTES + 1)
        if len(content) > MAX_NAME_FILE_BYTES:
            raise _refused(path, "more", f"names of classes, {MAX_NAME_FILE_BYTES:,} bytes at most")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise _refused(path, why(error), "names of classes") from error
    except UnicodeDecodeError as error:
        raise _refused(path, f"bytes that are not UTF-8 ({error.reason})", "UTF-8") from error


def _lines(path: Location, text: str) -> list[str]:
    lines = [line.strip() for line in text.rstrip().split("\n")]
    for form in _NUMBERED:
        found = [match for match in map(form.fullmatch, lines) if match is not None]
        numbered = {int(match["number"]): match for match in found}
        ordered = sorted(numbered)
        first = ordered[0] if ordered else 0
        alike = len({match["name"] for match in found}) < len(lines)
        if not alike and first < 2 and ordered == list(range(first, first + len(lines))):
            lines = [numbered[number]["name"] for number in ordered]
    return [_name(path, f"line {number}", line) for number, line in enumerate(lines, 1)]


def _json(path: Location, text: str) -> Names:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        return _once_each(path, pairs)

    try:
        content = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"no JSON ({error})", "a list of names, or an object of labels and names") from error
    if isinstance(content, list):
        return [_name(path, f"entry {position}", name) for position, name in enumerate(content)]
    if isinstance(content, dict):
        return {label: _name(path, f"label {label!r}", name) for label, name in content.items()}
    raise _refused(path, f"a {type(content).__name__}", "a list of names, or an object of labels and names")


def _table(path: Location, text: str, delimiter: str) -> dict[str, str]:
    pairs: list[tuple[str, object]] = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        for row in reader:
            if row and len(row) != 2:
                wanted = f"two, a label and a name; a name with a {delimiter!r} in quotes"
                raise _refused(path, f"{len(row)} fields in line {reader.line_num}", wanted)
            if row and not (not pairs and [field.strip().lower() for field in row] == NAME_FILE_HEADER):
                pairs.append((row[0], row[1]))
    except csv.Error as error:
        raise _refused(path, f"no CSV ({error})", "rows of a label and a name") from error
    return {label: _name(path, f"label {label!r}", name) for label, name in _once_each(path, pairs).items()}


def _once_each(path: Location, pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    named: dict[str, object] = {}
    for written, name in pairs:
        label = written.strip()
        if label in named:
            raise _refused(path, f"label {label!r} twice", "one name for each label")
        named[label] = name
    return named


def _name(path: Location, what: str, value: object) -> str:
    """Clean a name: single spaces; of a wnid and words the wnid."""
    text = value
    if isinstance(value, list) and len(value) == 2 and _WNID_FIRST.fullmatch(str(value[0])):
        text = value[0]  # Keras's pair of wnid and word
    if not isinstance(text, str) or not text.strip():
        raise _refused(path, f"{value!r:.80} as the name of {what}", "a text that is not empty")
    plain = " ".join(text.split())
    if NO_TEXT.search(plain):
        raise _refused(path, f"{value!r:.80} as the name of {what}", "a text without control characters")
    match = _WNID_FIRST.fullmatch(plain)
    return plain if match is None else match[1]


def _refused(path: Location, found: str, wanted: str) -> InputError:
    return InputError(path, found=found, wanted=wanted, remedy="Correct --task.class-names, or leave it out.")
