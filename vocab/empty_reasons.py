"""Why a caption has no label, for the account of rows that were left empty.

In: a batch as the labeler read it. Out: the reason of each caption that has no label; of several, the one that is
nearest to a label:

    Sehr schöne Schuhe für Damen     other_language    its words are not English
    very nice and cheap              no_noun           no word of it is a noun that has a label
    Jordan Henderson 2019            names_only        its nouns are names that WordNet does not have
    vintage 70s                      lexicon           the user's lexicon says that a word of it has no label
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

LABELLED = -1
"""in place of a reason"""


class EmptyReason(IntEnum):
    """Reasons, those nearer to a label last; names in small letters stand in files."""

    OTHER_LANGUAGE = 0
    NO_NOUN = 1
    NAMES_ONLY = 2
    LEXICON = 3


WORDING = {
    EmptyReason.NO_NOUN: "without a noun",
    EmptyReason.OTHER_LANGUAGE: "in another language",
    EmptyReason.NAMES_ONLY: "with names only",
    EmptyReason.LEXICON: "left out by the lexicon",
}
"""what messages say of rows, in the order of messages"""


def counts_by_reason(counts: Mapping[EmptyReason, int]) -> str:
    """ "40 without a noun, 9 in another language"; "" for no counts."""
    parts = [f"{counts[reason]:,} {words}" for reason, words in WORDING.items() if counts.get(reason)]
    return ", ".join(parts)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labels of some captions, and why there are none."""

    synsets: pa.ListArray
    """[captions] list<int32>, as of `CaptionLabeler.label`"""
    why_empty: NDArray[np.int8]
    """[captions] `EmptyReason` of each caption without a label, LABELLED of the others"""
