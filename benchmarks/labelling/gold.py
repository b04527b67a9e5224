"""Labels of captions whose nouns were judged by people, with the WordNet sense of each; and what pictures can show.

In: gold/captions.jsonl of the folder with real data (captions-GUIDE.md beside it says how captions were judged). Out:
figures by source, and the mistakes on the terminal. Rules and tables are tuned on captions with an odd id; the figures
are those of even ids, and a gap between the two shows how much was learnt by heart.
"""

from __future__ import annotations

import collections
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from benchmarks.labelling.sources import there
from vocab import plain
from vocab.cleaning import clean_all
from vocab.labeler import Labeler
from vocab.senses import NO_SENSE
from vocab.tokens import split_words
from vocab.wordnet import synset_of_wnid

SHOWN = 40
"""mistakes to print"""


@dataclass(frozen=True)
class Item:
    """A judged word or phrase of a caption."""

    words: frozenset[str]
    kind: str
    """noun, name, not (no noun here), colour, none (a noun that WordNet lacks) or foreign"""
    synsets: frozenset[int]
    """offsets that are right"""
    first: int | None = None
    """the best of them; None where there is none"""
    is_depictable: bool = False
    """people marked it as something that a picture of this caption can show"""


@dataclass(frozen=True)
class Judged:
    """A caption with what people judged."""

    number: int
    source: str
    caption: str
    items: tuple[Item, ...]


@dataclass
class Tally:
    """Counts of labels and of nouns."""

    labels: int = 0
    allowed: int = 0
    nouns: int = 0
    found: int = 0
    wrong: collections.Counter[str] = field(default_factory=collections.Counter)
    """wrong labels by the kind of item that they fall on"""

    @property
    def precision(self) -> float:
        """Share of labels that the caption's gold allows."""
        return self.allowed / max(1, self.labels)

    @property
    def recall(self) -> float:
        """Share of nouns with a sense that have an allowed label."""
        return self.found / max(1, self.nouns)

    @property
    def f1(self) -> float:
        """Harmonic mean of the two."""
        return 2 * self.precision * self.recall / max(1e-9, self.precision + self.recall)

    @property
    def name_error(self) -> float:
        """Share of labels that fall on a name and are not allowed."""
        return self.wrong["name"] / max(1, self.labels)

    def __str__(self) -> str:
        wrong = ", ".join(f"{kind} {count}" for kind, count in self.wrong.most_common())
        return (
            f"precision {self.precision:.3f} recall {self.recall:.3f} F1 {self.f1:.3f} "
            f"name error {self.name_error:.3f} ({self.labels:,} labels, {self.nouns:,} nouns; wrong: {wrong})"
        )


def read_gold(file: Path) -> list[Judged]:
    """Read the judged captions."""
    return list(_judged(there(file)))


def _judged(file: Path) -> Iterator[Judged]:
    for line in file.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        items = tuple(
            Item(
                words_of(item["text"]),
                item["kind"],
                frozenset(map(synset_of_wnid, item["synsets"])),
                synset_of_wnid(item["synsets"][0]) if item["synsets"] else None,
                item["depictable"],
            )
            for item in record["items"]
        )
        yield Judged(record["id"], record["source"], record["caption"], items)


def words_of(text: str) -> frozenset[str]:
    """Words of a text, as the labeler splits it."""
    return frozenset(split_words(clean_all(pa.array([text]))).words.to_pylist())


def labels_of(ours: Labeler, judged: Judged) -> dict[int, frozenset[str]]:
    """Each label of a caption, and the words that it comes from."""
    reading = plain.read(ours, judged.caption)
    found: dict[int, frozenset[str]] = {}
    for noun, row in zip(reading.nouns, reading.synsets, strict=True):
        if row != NO_SENSE:
            words = frozenset(reading.words[place].form for place in noun.places)
            found.setdefault(int(ours.nouns.synsets[row]), words)
    return found


def tally(captions: Iterable[tuple[Judged, dict[int, frozenset[str]]]]) -> Tally:
    """Count over some captions."""
    counts = Tally()
    for judged, labels in captions:
        allowed = frozenset().union(*(item.synsets for item in judged.items))
        counts.labels += len(labels)
        counts.allowed += len(allowed & labels.keys())
        for synset, words in labels.items():
            if synset not in allowed:
                counts.wrong[next((item.kind for item in judged.items if item.words & words), "unjudged")] += 1
        for item in judged.items:
            if item.kind == "noun" and item.synsets:
                counts.nouns += 1
                counts.found += not item.synsets.isdisjoint(labels)
    return counts


def measure_gold(ours: Labeler, file: Path) -> dict[str, object]:
    """caption_f1, caption_precision, caption_recall, web_precision, web_recall, name_error and web_name_error."""
    captions = [(judged, labels_of(ours, judged)) for judged in read_gold(file)]
    even = [pair for pair in captions if pair[0].number % 2 == 0]
    odd = [pair for pair in captions if pair[0].number % 2]
    for title, part in (("even ids", even), ("odd ids", odd), ("all", captions)):
        sys.stdout.write(f"judged captions, {title}: {tally(part)}\n")
        for source in sorted({judged.source for judged, _ in part}):
            sys.stdout.write(f"  {source}: {tally(pair for pair in part if pair[0].source == source)}\n")
    print_mistakes(ours, odd)
    every, web = tally(even), tally(pair for pair in even if pair[0].source == "web")
    return {
        "caption_f1": round(every.f1, 4), "caption_precision": round(every.precision, 4),
        "caption_recall": round(every.recall, 4), "caption_f1_odd": round(tally(odd).f1, 4),
        "web_precision": round(web.precision, 4), "web_recall": round(web.recall, 4),
        "name_error": round(every.name_error, 4), "web_name_error": round(web.name_error, 4),
    }  # fmt: skip


def print_mistakes(ours: Labeler, captions: Sequence[tuple[Judged, dict[int, frozenset[str]]]]) -> None:
    """The labels that are most often wrong, and the nouns that are most often missed."""
    wrong: collections.Counter[str] = collections.Counter()
    missed: collections.Counter[str] = collections.Counter()
    for judged, labels in captions:
        allowed = frozenset().union(*(item.synsets for item in judged.items))
        wrong.update(ours.nouns.name_of(ours.nouns.row_of(synset)) for synset in labels.keys() - allowed)
        missed.update(
            " ".join(sorted(item.words))
            for item in judged.items
            if item.kind == "noun" and item.synsets and item.synsets.isdisjoint(labels)
        )
    for title, counts in (("wrong", wrong), ("missed", missed)):
        head = " ".join(f"{word}:{count}" for word, count in counts.most_common(SHOWN))
        sys.stdout.write(f"  {title}, odd ids, {counts.total():,}: {head}\n")
