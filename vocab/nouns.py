"""Rules for words that are nouns, and for their plurals.

WordNet lists *black*, *free*, *are* too; captions mostly mean something else.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vocab.wordnet import WordNet

# Closed-class words of English, with their inflected and contracted forms as `vocab.tokens` leaves them. Grammar, not
# taste: articles, pronouns, prepositions, conjunctions, auxiliaries, adverbs of degree and place, numerals.
FUNCTION_WORDS = frozenset(
    """
    a an the this that these those each every either neither some any no none all both few many much more most several
    such other others another own same enough i me my mine myself we us our ours ourselves you your yours yourself
    yourselves he him his himself she her hers herself it its itself they them their theirs themselves who whom whose
    which what one ones someone anyone everyone nobody somebody anybody everybody something anything everything
    nothing about above across after against along amid among around as at before behind below beneath beside besides
    between beyond but by despite down during except for from in inside into like near of off on onto out outside over
    past per since than through throughout till to toward towards under underneath until unto up upon versus via vs
    with within without and or nor so yet if because although though while whereas unless whether am is are was were
    be been being do does did doing done have has had having can could may might must shall should will would ought
    need im ive id ill youre youve youll hes shes theyre theyve weve isnt arent wasnt werent dont doesnt didnt cant
    couldnt wont wouldnt shouldnt hasnt havent hadnt lets thats whats not very too also just only even still again
    always never ever often now then here there where when why how away back well quite rather almost already soon
    maybe perhaps yes ok okay oh please zero two three four five six seven eight nine ten eleven twelve thirteen
    fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred
    thousand million billion first second third
    """.split()
)

NOUNS_TOO = frozenset("can will may might must need back well past second like down inside outside us".split())
"""words of grammar that are nouns as well (a can, a will, May): the tagger tells"""

# A phrase that begins with one of these is grammar around a noun ("at home", "in time"), not a name for a thing.
PHRASE_OPENERS = FUNCTION_WORDS - frozenset("back down first ill need over second third under well".split())

COLOURS = frozenset(
    """
    amber aqua beige black blue bronze brown burgundy charcoal copper coral cream crimson cyan fuchsia gold golden gray
    green grey indigo ivory khaki lavender lilac lime magenta maroon mauve navy olive orange peach pink purple red rose
    rust scarlet silver tan teal turquoise violet white yellow
    """.split()
)
SHADES = frozenset("light dark deep pale bright hot medium soft baby sky royal navy neon".split())
"""words that before a colour only say which: a *light* blue shirt has no lamp"""

QUALITIES = COLOURS | frozenset(
    "old young big little small large long short new good bad great high low fat thin".split()
)
DESCRIBED = frozenset(
    """
    bird boat book boy bull cat cow daisy devil dog eye fish girl gun guy hand hat hen horse house lady line man paper
    people sheep shot spoon star story tail town tree tulip wall water wheel woman
    """.split()
)
"""words that a quality before them mostly just describes: a *black cat* is no fisher, an *old man* nobody's father"""


def are_among(words: pa.StringArray, listed: frozenset[str]) -> NDArray[np.bool_]:
    """[len(words)] true for words of a list, false for others and for nulls."""
    return np.asarray(pc.is_in(words, value_set=pa.array(sorted(listed))), dtype=bool)


def is_function_word(words: pa.StringArray) -> NDArray[np.bool_]:
    """[len(words)] closed-class words, which never become a label on their own."""
    return are_among(words, FUNCTION_WORDS - NOUNS_TOO)


def is_number_or_code(words: pa.StringArray) -> NDArray[np.bool_]:
    """[len(words)] numbers and words of one or two letters (*2019*, *3d*, *x*, *cd*): nouns in WordNet, codes, units,
    states and chemical symbols in captions. Those that captions do mean are listed (`vocab.fit.caption_senses`)."""
    number = pc.match_substring_regex(words, r"^[0-9]")
    return np.asarray(pc.or_(number, pc.less_equal(pc.utf8_length(words), 2)), dtype=bool)


def is_plain_description(wordnet: WordNet) -> NDArray[np.bool_]:
    """[L] nouns of two words, a quality and a noun, that mean no kind of that noun: *black cat*, the fisher.

    A *brown bear* is a bear and stays, and so do names (*Great Dane*) and what has been tagged more than RARE times.
    """
    first, last = _halves(wordnet)
    described = are_among(first, QUALITIES) & are_among(last, DESCRIBED)
    doubtful = np.flatnonzero(described & ~_is_capitalized(wordnet) & (wordnet.lemma_counts() <= RARE))
    heads = np.asarray(pc.index_in(last, value_set=wordnet.lemmas).fill_null(-1), dtype=np.int64)
    plain = np.zeros(len(wordnet.lemmas), dtype=bool)
    for lemma in doubtful[heads[doubtful] >= 0].tolist():
        kinds = set(_synsets(wordnet, heads[lemma]))
        plain[lemma] = not any(kinds & _above(wordnet, synset) for synset in _synsets(wordnet, lemma))
    return plain


def is_described_name(wordnet: WordNet) -> NDArray[np.bool_]:
    """[L] names that read like a description, a quality and a common noun: *White House*, *Red Sea*."""
    first, last = _halves(wordnet)
    capitalized = _is_capitalized(wordnet)
    # Captions' own entries say nothing of how a word is written: York is a name, though they have it too.
    written = np.zeros(len(wordnet.lemmas), dtype=bool)
    written[wordnet.word_lemmas] = True
    common = wordnet.lemmas.filter(pa.array(written & ~capitalized))
    of_common = np.asarray(pc.is_in(last, value_set=common), dtype=bool)
    names: NDArray[np.bool_] = capitalized & are_among(first, QUALITIES) & of_common
    return names


RARE = 1


@cache
def _halves(wordnet: WordNet) -> tuple[pa.StringArray, pa.StringArray]:
    """[L] the two words of lemmas of two words, null for the others."""
    two = pc.equal(pc.count_substring(wordnet.lemmas, "_"), 1)
    halves = pc.split_pattern(pc.if_else(two, wordnet.lemmas, "_"), "_")
    return pc.list_element(halves, 0), pc.list_element(halves, 1)


@cache
def _is_capitalized(wordnet: WordNet) -> NDArray[np.bool_]:
    """[L] lemmas that WordNet spells with a capital in every word, in every sense."""
    lower = np.asarray(pc.match_substring_regex(wordnet.words, "(^|_)[^A-Z]"), dtype=bool)
    capitalized = np.zeros(len(wordnet.lemmas), dtype=bool)
    capitalized[wordnet.word_lemmas] = True
    capitalized[wordnet.word_lemmas[lower]] = False
    return capitalized


def _synsets(wordnet: WordNet, lemma: int) -> list[int]:
    synsets: list[int] = wordnet.sense_synsets[wordnet.sense_starts[lemma] : wordnet.sense_starts[lemma + 1]].tolist()
    return synsets


def _above(wordnet: WordNet, synset: int) -> set[int]:
    """The synset and all its hypernyms."""
    found, todo = set(), [synset]
    while todo:
        row = todo.pop()
        if row not in found:
            found.add(row)
            todo += wordnet.hypernyms[wordnet.hypernym_starts[row] : wordnet.hypernym_starts[row + 1]].tolist()
    return found


# morphy(7WN)'s detachment rules for nouns; "s" comes last because the longer endings contain it.
PLURAL_ENDINGS = (
    ("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("men", "man"),
    ("ersby", "erby"), ("ses", "s"), ("xes", "x"), ("zes", "z"),
)  # fmt: skip
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
