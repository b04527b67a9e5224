"""The mark of synsets that a picture can show, beside people's marks.

In: gold/captions.jsonl of the folder with real data: for each noun, whether a picture of its caption can show it. Out:
precision, recall and F1 of the mark of the noun's best synset, by WordNet's lexicographer files, and the mistakes on
captions with an odd id, with which the rules were written.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.labelling.gold import Judged, read_gold
from vocab import wordnet
from vocab.depictable import are_depictable
from vocab.wordnet import LEXICOGRAPHER_FILES

SHOWN = 60
"""mistakes to print"""


@dataclass
class Marks:
    """Counts of judged nouns, by the mark of their synset and by people's."""

    both: int = 0
    ours_alone: int = 0
    theirs_alone: int = 0
    neither: int = 0
    wrong: collections.Counter[str] = field(default_factory=collections.Counter)
    """synsets marked otherwise than people did, with "+" where a picture could show them"""

    @property
    def precision(self) -> float:
        """Share of the nouns with our mark that have people's."""
        return self.both / max(1, self.both + self.ours_alone)

    @property
    def recall(self) -> float:
        """Share of the nouns with people's mark that have ours."""
        return self.both / max(1, self.both + self.theirs_alone)

    @property
    def f1(self) -> float:
        """Harmonic mean of the two."""
        return 2 * self.both / max(1, 2 * self.both + self.ours_alone + self.theirs_alone)

    def __str__(self) -> str:
        nouns = self.both + self.ours_alone + self.theirs_alone + self.neither
        return (
            f"precision {self.precision:.3f} recall {self.recall:.3f} F1 {self.f1:.3f} ({nouns:,} nouns; "
            f"marked and not shown {self.ours_alone}, shown and not marked {self.theirs_alone})"
        )


def compare(pairs: Iterable[tuple[int, bool]], *, all_true: bool = False) -> Marks:
    """Compare the marks of synset offsets with people's. `all_true`: as if every synset were marked."""
    listed = list(pairs)
    offsets = np.array([synset for synset, _ in listed], dtype=np.int32)
    ours = np.ones(len(listed), dtype=bool) if all_true else are_depictable(offsets)
    nouns, marks = wordnet.load(), Marks()
    for (synset, theirs), mark in zip(listed, ours.tolist(), strict=True):
        if mark and theirs:
            marks.both += 1
        elif mark:
            marks.ours_alone += 1
        elif theirs:
            marks.theirs_alone += 1
        else:
            marks.neither += 1
        if mark != theirs:
            marks.wrong[nouns.name_of(nouns.row_of(synset)) + "+" * theirs] += 1
    return marks


def marks_of(captions: Iterable[Judged]) -> list[tuple[int, bool]]:
    """Best synset and people's mark of every judged noun that has a synset."""
    return [
        (item.first, item.is_depictable)
        for judged in captions
        for item in judged.items
        if item.kind == "noun" and item.first is not None
    ]


def measure_depictable(file: Path) -> dict[str, object]:
    """depictable_f1, depictable_precision, depictable_recall, depictable_f1_odd, depictable_f1_all_true."""
    captions = read_gold(file)
    even = marks_of(judged for judged in captions if judged.number % 2 == 0)
    odd = marks_of(judged for judged in captions if judged.number % 2)
    nouns = wordnet.load()
    for title, part in (("even ids", even), ("odd ids", odd)):
        sys.stdout.write(f"what a picture can show, {title}: {compare(part)}\n")
        by_file: dict[str, list[tuple[int, bool]]] = collections.defaultdict(list)
        for synset, theirs in part:
            by_file[LEXICOGRAPHER_FILES[int(nouns.lexicographer_files[nouns.row_of(synset)])]].append((synset, theirs))
        for name in sorted(by_file):
            sys.stdout.write(f"  noun.{name}: {compare(by_file[name])}\n")
    head = " ".join(f"{name}:{count}" for name, count in compare(odd).wrong.most_common(SHOWN))
    sys.stdout.write(f"  marked otherwise, odd ids (+: shown): {head}\n")
    marks = compare(even)
    return {
        "depictable_f1": round(marks.f1, 4), "depictable_precision": round(marks.precision, 4),
        "depictable_recall": round(marks.recall, 4), "depictable_f1_odd": round(compare(odd).f1, 4),
        "depictable_f1_all_true": round(compare(even, all_true=True).f1, 4),
    }  # fmt: skip
