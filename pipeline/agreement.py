"""How far two labelers agree on the same captions.

In: captions and the labels that each gives them. Out: an `Agreement`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

SHOWN_SYNSETS = 20


@dataclass(frozen=True)
class Example:
    """One caption with its labels, as synset offsets."""

    caption: str
    both: tuple[int, ...]
    only_first: tuple[int, ...]
    only_second: tuple[int, ...]


@dataclass(frozen=True)
class Agreement:
    """What the comparison gave."""

    captions: int
    equal: int
    """captions to which both give the same labels, none included"""
    jaccard: float
    """mean over captions of labels in common / labels of either; 1 where neither gives one"""
    labels: tuple[float, float]
    """labels per caption of each"""
    without: tuple[int, int]
    """captions to which each gives none"""
    both: int
    """labels that both give to the same caption, over all captions"""
    only_first: int
    only_second: int
    lost: tuple[tuple[int, int], ...]
    """synset, captions: what the first gives and the second does not, most often first"""
    gained: tuple[tuple[int, int], ...]
    """synset, captions: what the second gives and the first does not"""
    examples: tuple[Example, ...]
    """some of the captions on which they differ"""


def agreement(
    captions: Sequence[str], first: Sequence[list[int]], second: Sequence[list[int]], *, examples: int, seed: int
) -> Agreement:
    """Compare the labels of at least one caption. `first` and `second` [captions]: each without repetition."""
    lost: Counter[int] = Counter()
    gained: Counter[int] = Counter()
    equal, jaccard, both, differing = 0, 0.0, 0, []
    for place, (a, b) in enumerate(zip(map(set, first), map(set, second), strict=True)):
        lost.update(a - b)
        gained.update(b - a)
        both += len(a & b)
        jaccard += len(a & b) / len(a | b) if a | b else 1.0
        if a == b:
            equal += 1
        else:
            differing.append(place)
    shown = sorted(Random(seed).sample(differing, min(examples, len(differing))))
    return Agreement(
        captions=len(captions),
        equal=equal,
        jaccard=jaccard / len(captions),
        labels=(sum(map(len, first)) / len(captions), sum(map(len, second)) / len(captions)),
        without=(sum(not labels for labels in first), sum(not labels for labels in second)),
        both=both,
        only_first=lost.total(),
        only_second=gained.total(),
        lost=most_frequent(lost),
        gained=most_frequent(gained),
        examples=tuple(example(captions[place], set(first[place]), set(second[place])) for place in shown),
    )


def most_frequent(counts: Counter[int]) -> tuple[tuple[int, int], ...]:
    """Synsets by falling count, then by number, so that ties always come the same way."""
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_SYNSETS])


def example(caption: str, first: set[int], second: set[int]) -> Example:
    """One caption's labels, apart."""
    return Example(caption, tuple(sorted(first & second)), tuple(sorted(first - second)), tuple(sorted(second - first)))
