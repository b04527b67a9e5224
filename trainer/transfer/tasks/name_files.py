r"""Files that say what the classes of a data set are called, as text.

In: a .txt, .json, .csv or .tsv. Out: names in the order of the classes, or by label.

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
from collections.abc import Iterable

from trainer.transfer.tasks.files import NO_TEXT
from vocab.errors import InputError
from vocab.store.locations import Location, read_whole, suffix_of, why

MAX_BYTES = 64 << 20
HEADER = ["label", "name"]

_WNID_FIRST = re.compile(r"(n\d{8})(?:[\s,:].*)?", re.ASCII)
_NUMBERED = (
    re.compile(r"(?P<name>.*\S)[\s,:;=]+(?P<number>\d{1,6})", re.ASCII),
    re.compile(r"(?P<number>\d{1,6})[\s,:;=)]+(?P<name>\S.*)", re.ASCII),
)

Names = list[str] | dict[str, str]
"""in the order of the classes, or by label"""


def read_name_file(path: Location) -> Names:
    """The names in a file. Raises InputError for another kind of file, and for one that is not as its kind is."""
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


def _text(path: Location) -> str:
    try:
        content = read_whole(path, most=MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise _refused(path, "more", f"names of classes, {MAX_BYTES:,} bytes at most")
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
    return [_name(path, f"line {place}", line) for place, line in enumerate(lines, 1)]


def _json(path: Location, text: str) -> Names:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        return _by_label(path, pairs)

    try:
        content = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"no JSON ({error})", "a list of names, or an object of labels and names") from error
    if isinstance(content, list):
        return [_name(path, f"entry {place}", name) for place, name in enumerate(content)]
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
            if row and not (not pairs and [field.strip().lower() for field in row] == HEADER):
                pairs.append((row[0], row[1]))
    except csv.Error as error:
        raise _refused(path, f"no CSV ({error})", "rows of a label and a name") from error
    return {label: _name(path, f"label {label!r}", name) for label, name in _by_label(path, pairs).items()}


def _by_label(path: Location, pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    named: dict[str, object] = {}
    for written, name in pairs:
        label = written.strip()
        if label in named:
            raise _refused(path, f"label {label!r} twice", "one name for each label")
        named[label] = name
    return named


def _name(path: Location, what: str, value: object) -> str:
    """A name, spaces made single; of a wnid and words the wnid."""
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
