"""Word forms: from a plural to the singulars it can be a plural of."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from vocab.wordnet import WordNet

# morphy(7WN)'s detachment rules for nouns; "s" comes last because the longer endings contain it.
PLURAL_ENDINGS = (
    ("ies", "y"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ersby", "erby"),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
)
MAX_IRREGULAR = 2


def singular_forms(words: pa.StringArray, wordnet: WordNet) -> list[pa.StringArray]:
    """Candidate forms, one array per place in the order of preference, null where a word has no such candidate.

    The irregular singulars (geese -> goose; a form has at most two), the word itself, the word without a plural ending
    (boxes -> box), the word without "s". As in morphy(7WN), "s" is not taken from a word that ends in "ss". The caller
    keeps the first candidate that is a noun of WordNet.
    """
    return [*_irregular(words, wordnet), words, _without_ending(words), _without_s(words)]


def _irregular(words: pa.StringArray, wordnet: WordNet) -> list[pa.StringArray]:
    first = pc.index_in(words, value_set=wordnet.exception_forms)
    columns = [wordnet.exception_bases.take(first)]
    for place in range(1, MAX_IRREGULAR):
        # Bases of one form follow each other in the table; the next row counts only if it is the same form's.
        row = pc.add(first, place)
        row = pc.if_else(pc.less(row, len(wordnet.exception_forms)), row, None)
        same = pc.equal(wordnet.exception_forms.take(row), words)
        columns.append(pc.if_else(same, wordnet.exception_bases.take(row), None))
    return columns


def _without_ending(words: pa.StringArray) -> pa.StringArray:
    result = pa.nulls(len(words), pa.string())
    for ending, replacement in reversed(PLURAL_ENDINGS):
        plural = pc.fill_null(pc.ends_with(words, ending), False)
        stems = pc.utf8_slice_codeunits(words.filter(plural), 0, -len(ending))
        result = pc.replace_with_mask(result, plural, pc.binary_join_element_wise(stems, replacement, ""))
    return result


def _without_s(words: pa.StringArray) -> pa.StringArray:
    plural = pc.and_(
        pc.and_(pc.ends_with(words, "s"), pc.invert(pc.ends_with(words, "ss"))), pc.greater(pc.binary_length(words), 2)
    )
    plural = pc.fill_null(plural, False)
    stems = pc.utf8_slice_codeunits(words.filter(plural), 0, -1)
    return pc.replace_with_mask(pa.nulls(len(words), pa.string()), plural, stems)
