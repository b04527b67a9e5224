"""Nearness of the labels to the classes of a data set, such as ImageNet-1k, whose file of wnids has one a line:

n01440764
n01443537
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.report.tally import Tally
from vocab import wordnet
from vocab.errors import CatlipError, InputError
from vocab.store.locations import Location, read_whole, why
from vocab.taxonomy import path_similarity, rows_of

SIMILARITIES = tuple(tenth / 10 for tenth in range(1, 11))
"""thresholds of the paper's figure 2b: 0.1, 0.2, ... 1.0"""
AT_ONCE = 4096
"""synsets compared with the classes at a time: 16 MB of similarities for 1,000 classes"""


@dataclass(frozen=True, eq=False)
class Coverage:
    """C classes beside the synsets of a corpus."""

    classes: NDArray[np.int32]
    """[C] offsets, in the file's order"""
    captions: NDArray[np.int64]
    """[C] rows that hold the class's own synset"""
    nearest_seen: NDArray[np.float32]
    """[C] path similarity of the nearest synset in the corpus; 0 where it has none"""
    nearest_kept: NDArray[np.float32]
    """[C] path similarity of the nearest synset in the vocabulary at the threshold; 0 where it has none"""


def coverage_of(tally: Tally, classes: NDArray[np.int32], *, min_count: int) -> Coverage:
    """Compare classes [C] with all synsets of the corpus, and with those that at least `min_count` rows hold.

    Raises InputError for a class that is not a noun of WordNet 3.0.
    """
    rows_of(wordnet.load(), classes)
    kept = int(tally.sizes([min_count])[0])
    nearest_kept = nearest(classes, tally.synsets[:kept])
    # At most WordNet's 82,115 nouns.
    counts = dict(zip(tally.synsets.tolist(), tally.captions.tolist(), strict=True))
    return Coverage(
        classes=classes,
        captions=np.array([counts.get(synset, 0) for synset in classes.tolist()], dtype=np.int64),
        nearest_seen=np.maximum(nearest_kept, nearest(classes, tally.synsets[kept:])),
        nearest_kept=nearest_kept,
    )


def nearest(classes: NDArray[np.int32], synsets: NDArray[np.int32]) -> NDArray[np.float32]:
    """Path similarity [C] of each class to the nearest of `synsets`; 0 where there are none."""
    best = np.zeros(len(classes), dtype=np.float32)
    for start in range(0, len(synsets), AT_ONCE):
        similarity = path_similarity(wordnet.load(), classes, synsets[start : start + AT_ONCE])
        np.maximum(best, similarity.max(axis=1), out=best)
    return best


def found_at(similarities: NDArray[np.float32]) -> list[int]:
    """Number of classes with a synset at least this similar, for each of `SIMILARITIES`."""
    return [int((similarities >= np.float32(least)).sum()) for least in SIMILARITIES]


def read_classes(path: Location) -> NDArray[np.int32]:
    """Offsets of the wnids in a file, one per line; empty lines are skipped.

    Raises InputError for a file that is missing or is not such a list, and for a wnid that occurs twice.
    """
    try:
        lines = read_whole(path).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _no_list(path, f"no readable text file ({why(error)})") from error
    synsets: dict[int, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            synset = wordnet.synset_of_wnid(line.strip())
        except CatlipError as error:
            raise _no_list(path, f"{line.strip()[:80]!r} in line {number}") from error
        if synset in synsets:
            raise _no_list(path, f"{line.strip()} in line {synsets[synset]} and in line {number}")
        synsets[synset] = number
    if not synsets:
        raise _no_list(path, "no wnid")
    return np.array(list(synsets), dtype=np.int32)


def _no_list(path: Location, found: str) -> InputError:
    return InputError(
        path,
        found=found,
        wanted="wnids such as n01440764, each once, one a line",
        remedy="Take the list of the data set, without other columns.",
    )
