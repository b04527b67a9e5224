"""Which words are nouns. WordNet lists *black*, *free*, *are* and *in* too; captions mostly mean something else.

In: lemmas and WordNet's counts. Out: masks of the lemmas that may become labels.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vocab.wordnet import LEXICOGRAPHER_FILES, WordNet

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

# A phrase that begins with one of these is grammar around a noun ("at home", "in time"), not a name for a thing.
PHRASE_OPENERS = FUNCTION_WORDS - {
    "back",
    "down",
    "first",
    "ill",
    "need",
    "over",
    "second",
    "third",
    "under",
    "well",
}

# A lemma is dropped when its uses as another part of speech outweigh its uses as a noun by this much. The weight leans
# to the noun because captions name things; the margin keeps lemmas that WordNet's corpora hardly hold (duck: 4 to 13).
OTHER_PER_NOUN_USE = 4
OTHER_USES_ALLOWED = 8
# The tagged uses of a verb cover all its forms; a quarter is about the share of any one of them.
INFLECTED_FORM_SHARE = 0.25


def mostly_nouns(wordnet: WordNet) -> NDArray[np.bool_]:
    """[L] lemmas used as nouns often enough: not *black*, *free*, *show*, *sitting*, but *duck* and *building*."""
    other = wordnet.other_counts + INFLECTED_FORM_SHARE * wordnet.inflected_counts
    kept: NDArray[np.bool_] = other <= OTHER_PER_NOUN_USE * wordnet.lemma_counts() + OTHER_USES_ALLOWED
    return kept


def is_function_word(words: pa.StringArray) -> NDArray[np.bool_]:
    """[len(words)] closed-class words, which never become a label on their own."""
    return np.asarray(pc.is_in(words, value_set=pa.array(sorted(FUNCTION_WORDS))), dtype=bool)


def is_number_or_letter(words: pa.StringArray) -> NDArray[np.bool_]:
    """[len(words)] numbers and single characters (*2019*, *3d*, *x*): nouns in WordNet, codes in captions."""
    number = pc.match_substring_regex(words, r"^[0-9]")
    return np.asarray(pc.or_(number, pc.less_equal(pc.utf8_length(words), 1)), dtype=bool)


def is_short_name(wordnet: WordNet, senses: NDArray[np.int32]) -> NDArray[np.bool_]:
    """[L] two-letter names of places, people and groups by their chosen sense (*un*, *de*): mostly other words."""
    files = [number for number, name in LEXICOGRAPHER_FILES.items() if name in ("group", "location", "person")]
    short = np.asarray(pc.less_equal(pc.utf8_length(wordnet.lemmas), 2), dtype=bool)
    return short & np.isin(wordnet.lexicographer_files[senses], files)
