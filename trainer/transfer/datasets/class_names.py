"""What the classes of a data set are called, where its labels do not say so.

In: the labels, in the order of the classes, and a file of names (`name_files.py`) or none. Out: a name for each class,
as words or as a wnid, for `vocab/class_names.py` to read; and what there is to say about them.

    labels "n01440764", "n01443537" and no file          the labels are the names
    labels "0", "1" and no file                          "cls0", "cls1": a number names no class, and "1" is a noun
    labels "airfield", "hotel" and "runway", "inn"       by their order, for neither is in the place of another
    labels "airfield", "hotel" and "hotel", "airfield"   refused: the list is in another order than the data
    labels "n02084071", "n02121620" and "cat", "dog"     refused as well: more names mean another label than their own
    labels "0", "1", "10" and a list of 11 names         by their numbers, names 0, 1 and 10
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.transfer.datasets.name_files import Names
from trainer.transfer.datasets.numbering import is_number
from trainer.transfer.words import counted, listed
from vocab import wordnet
from vocab.class_names import WNID, synsets_of_class_names
from vocab.errors import MismatchError

MAPPING = 'Write a mapping: a .json of {"label": "name"}, or a .csv of label,name.'


@dataclass(frozen=True)
class ClassNames:
    """A name for each class, and what is to be said about them."""

    names: tuple[str, ...]
    notes: tuple[str, ...]


def names_of_classes(labels: Sequence[str], given: Names | None, *, source: Path | None) -> ClassNames:
    """A name for each of the labels. `given`: what the file `source` says.

    Raises MismatchError for a list of another length, in another order than the labels by their words or by what they
    mean, or for numbers that could be places in it in two ways; and for a mapping that lacks a label.
    """
    if given is None:
        return _own_names(labels)
    if isinstance(given, dict):
        names, notes = _by_label(labels, given, source)
    else:
        names, notes = _by_order(labels, given, source)
    return ClassNames(tuple(names), (*notes, *_alike(labels, names)))


def _own_names(labels: Sequence[str]) -> ClassNames:
    if not all(map(is_number, labels)):
        return ClassNames(tuple(labels), ())
    note = "the classes are numbers and no names: nothing can be matched with WordNet. --task.class-names gives names"
    return ClassNames(tuple(f"cls{label}" for label in labels), (note,))


def _by_label(labels: Sequence[str], given: Mapping[str, str], source: Path | None) -> tuple[list[str], list[str]]:
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


def _by_order(labels: Sequence[str], given: list[str], source: Path | None) -> tuple[list[str], list[str]]:
    if all(map(is_number, labels)):
        return _by_number([int(label) for label in labels], given, source)
    if len(given) != len(labels):
        raise _wrong_length(labels, given, source)
    places = {_plain(label): place for place, label in enumerate(labels)}
    for place, (label, name) in enumerate(zip(labels, given, strict=True)):
        other = places.get(_plain(name), place)
        if other != place and _plain(name) != _plain(label):
            raise MismatchError(
                source,
                found=f"{name!r} as name {place + 1}, where class {place + 1} of the data set is {label!r} and class "
                f"{other + 1} is {labels[other]!r}",
                wanted="names in the order of the data set's classes",
                remedy=MAPPING,
            )
    _check_meanings(labels, given, source)
    return given, []


def _check_meanings(labels: Sequence[str], given: Sequence[str], source: Path | None) -> None:
    """Raise MismatchError for a list in which more names mean the label of another class than that of their own.

    Labels and names may be spelt in two ways, wnids and words. A few of them may well mean another class's synset: of
    two classes called "crane" one does.
    """
    if sum(_plain(label) == _plain(name) for label, name in zip(labels, given, strict=True)) * 2 > len(labels):
        return
    synsets = _synsets([*labels, *given])
    own, named = synsets[: len(labels)], synsets[len(labels) :]
    places = {tuple(synset): place for place, synset in enumerate(own) if synset}
    meant = [places.get(tuple(synset)) for synset in named]
    right = sum(bool(synset) and synset == label for synset, label in zip(named, own, strict=True))
    wrong = [place for place, other in enumerate(meant) if other is not None and named[place] != own[place]]
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


def _synsets(names: Sequence[str]) -> list[list[int]]:
    """What names mean; nothing for a wnid that WordNet 3.0 does not have."""
    known = set(wordnet.load().synsets.tolist())
    strangers = {name for name in names if WNID.fullmatch(name) and wordnet.synset_of_wnid(name) not in known}
    return synsets_of_class_names(["" if name in strangers else name for name in names])


def _by_number(numbers: list[int], given: list[str], source: Path | None) -> tuple[list[str], list[str]]:
    """Labels that are numbers are places in the list, where they can be; else the list is in their order."""
    labels = list(map(str, numbers))
    if len(set(numbers)) == len(numbers) and max(numbers) == len(given) - 1:
        unused = sorted(set(range(len(given))) - set(numbers))
        idle = counted(len(unused), f"name of {source} has no class", f"names of {source} have no class")
        notes = [f"{idle}: {listed([given[each] for each in unused])}"]
        return [given[number] for number in numbers], notes if unused else []
    if len(given) != len(numbers):
        raise _wrong_length(labels, given, source)
    if numbers != sorted(set(numbers)):
        raise MismatchError(
            source,
            found=f"a list for classes whose labels are numbers in another order, {listed(labels)}",
            wanted="names that belong to a class beyond doubt",
            remedy=MAPPING,
        )
    return given, []


def _alike(labels: Sequence[str], names: Sequence[str]) -> list[str]:
    owners = defaultdict(list)
    for label, name in zip(labels, names, strict=True):
        owners[name].append(label)
    return [f"{len(own):,} classes are called {name!r}: {listed(own)}" for name, own in owners.items() if len(own) > 1]


def _wrong_length(labels: Sequence[str], given: list[str], source: Path | None) -> MismatchError:
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


def _plain(name: str) -> str:
    """ "Hot_Dog" and "hot dog" are one."""
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()
