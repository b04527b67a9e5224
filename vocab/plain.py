"""The labeler's rule for one caption, written to be read; `vocab.labeler` applies it to a whole batch at once.

In: the labeler, whose tables are read, and a caption. Out: a `Reading` of it, with every step's result, for people and
for `pipeline.explain`; or, from `label`, the same lists as `Labeler.label`. The tests hold the two to be equal.

    read(labeler, "Two Golden Retrievers")  ->  words Two, Golden, Retrievers; English; noun golden_retriever.n.01

Each function names the part of the fast path that it equals.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import and_

import numpy as np
from numpy.typing import NDArray

from vocab import language
from vocab.cleaning import FOREIGN_LETTER, clean
from vocab.context import CAPITALS, EMPTY, END, SMALL, Case
from vocab.empty_reasons import EmptyReason
from vocab.hints import PAIR_BITS
from vocab.labeler import PHRASE_BONUS, Labeler
from vocab.lexicon import MAX_WORDS, ROW_BITS, Lexicon
from vocab.missing_values import is_missing
from vocab.nouns import COLOURS, SHADES
from vocab.senses import LIMIT, NO_SENSE, PAIR, REACH
from vocab.tagger import (
    MAX_ENDING,
    PROFILE_OF_CASE,
    STRONG_GAPS,
    UNKNOWN,
    WINDOW,
    Tag,
    Tagger,
)
from vocab.tokens import ABBREVIATED, GAP_SIGNS, UNBROKEN, Gap, Shape

Scores = tuple[int, int, int, int]
"""one for each `Tag`, in its order; 256 is one unit of log odds"""

WORD_SIGNS = f"A-Za-z0-9{FOREIGN_LETTER}"
WORD = re.compile(f"[{WORD_SIGNS}]+")
POSSESSIVE = re.compile(f"(?<=[{WORD_SIGNS}])'[sS](?![{WORD_SIGNS}])")
POSSESSIVE_GAP = "''"
"""replacement of the 's in `dog's ball` before words are found; of the same length, so that places stay"""
DIGITS = str.maketrans("123456789", "0" * 9)
GAP_OF_SIGN = {
    **dict.fromkeys(" \t\n\r\v\f'", Gap.SPACE),
    **{sign: gap for gap, signs in GAP_SIGNS.items() for sign in signs},
}


@dataclass(frozen=True)
class Word:
    """A word of a caption, or an empty place before the first and after the last."""

    text: str
    """spelling in the caption"""
    form: str
    """lower case, every digit as 0"""
    start: int
    """position of its first letter in the cleaned text"""
    gap: int
    """`Gap` before the word; END in an empty place after the last word"""
    shape: Shape
    case: Case
    row: int
    """row in the tagger's tables"""


@dataclass(frozen=True)
class Noun:
    """Words of a caption that together are one noun."""

    first: int
    """place of its first word"""
    last: int
    """place of its last word"""
    lemma: int
    """row in `Labeler.nouns`"""
    is_name: bool
    """read as a name, not as a common noun"""

    @property
    def length(self) -> int:
        """Number of its words."""
        return self.last - self.first + 1

    @property
    def places(self) -> range:
        """Indices of its words in the caption."""
        return range(self.first, self.last + 1)


@dataclass(frozen=True)
class Sense:
    """A sense that a noun may have."""

    synset: int
    """row in WordNet"""
    score: int
    """score of the sense by itself"""
    cues: tuple[tuple[str, int], ...]
    """nearby words that count for or against senses of its kind, and how much"""
    listed: tuple[str, ...]
    """nearby words that are listed for this sense"""
    can_win: bool
    """false if no nearby words could make the score the highest"""

    @property
    def total(self) -> int:
        """Score of the sense, with its cues, up to their limit, and the words listed for it."""
        return self.score + max(-LIMIT, min(LIMIT, sum(cue for _, cue in self.cues))) + PAIR * len(self.listed)


@dataclass(frozen=True)
class Reading:
    """Results of each step for one caption."""

    cleaned: str
    accents: int
    """letters that lost an accent, and letters of other scripts"""
    words: tuple[Word, ...]
    language_value: int
    """sum of the scores of words and accents for English"""
    scores: tuple[Scores, ...]
    """one for each word"""
    nouns: tuple[Noun, ...]
    """nouns; none in a caption that is not English"""
    synsets: tuple[int, ...]
    """row in WordNet of each noun's sense, `NO_SENSE` for one that has none here"""

    @property
    def english(self) -> bool:
        """Tell whether the caption counts as English."""
        return self.language_value >= 0


def label(labeler: Labeler, captions: Iterable[str | None]) -> list[list[int]]:
    """`Labeler.label`: WordNet offsets of each caption, unique and ascending."""
    offsets = labeler.nouns.synsets
    return [
        []
        if caption is None
        else sorted({int(offsets[row]) for row in read(labeler, caption).synsets if row != NO_SENSE})
        for caption in captions
    ]


def read(labeler: Labeler, caption: str) -> Reading:
    """Apply all steps, one after another."""
    cleaned, accents = ("", 0) if is_missing(caption) else clean(caption)
    words = find_words(labeler.tagger, cleaned)
    value = language_value(labeler, words, accents)
    scores = [score(labeler.tagger, words, place) for place in range(len(words))]
    nouns: list[Noun] = []
    if value >= 0:
        alone = [is_noun(of_word, bonus=0) for of_word in scores]
        as_head = [is_noun(of_word, bonus=PHRASE_BONUS) for of_word in scores]
        names = [is_name(word, of_word) for word, of_word in zip(words, scores, strict=True)]
        nouns = find_nouns(labeler, words, alone, as_head, names)
    synsets = [choose_sense(labeler, words, noun) for noun in nouns]
    return Reading(cleaned, accents, tuple(words), value, tuple(scores), tuple(nouns), tuple(synsets))


def why_empty(labeler: Labeler, reading: Reading) -> EmptyReason | None:
    """`Labeler._why_empty`: reason why a caption has no label, None for one that has some."""
    if set(reading.synsets) - {NO_SENSE}:
        return None
    if not reading.english:
        return EmptyReason.OTHER_LANGUAGE
    alone = [is_noun(scores, bonus=0) for scores in reading.scores]
    names = [is_name(word, scores) for word, scores in zip(reading.words, reading.scores, strict=True)]
    as_head = [is_noun(scores, bonus=PHRASE_BONUS) for scores in reading.scores]
    if is_left_out(labeler, reading.words, as_head):
        return EmptyReason.LEXICON
    return EmptyReason.NAMES_ONLY if any(map(and_, alone, names)) else EmptyReason.NO_NOUN


def is_left_out(labeler: Labeler, words: Sequence[Word], as_head: Sequence[bool]) -> bool:
    """Tell whether the user's lexicon has no label for a word, or words, of a caption."""
    if labeler.user is None:
        return False
    lemmas = [phrase.lemma for phrase in won_phrases(labeler, words, as_head) if labeler.lexicon.stops[phrase.lemma]]
    return any(is_users(labeler, lemma) for lemma in lemmas) or any(labeler.user.silent[word.row] for word in words)


def find_words(tagger: Tagger, cleaned: str) -> list[Word]:
    """`tokens.split_words`, `Tagger.rows` and `context.cases_of`."""
    bare = POSSESSIVE.sub(POSSESSIVE_GAP, cleaned)
    words: list[Word] = []
    end = 0
    for match in WORD.finditer(bare):
        text, start = match[0], match.start()
        gap = gap_of(cleaned[end:start]) if words else Gap.START
        form = text.lower().translate(DIGITS)
        words.append(Word(text, form, start, gap, shape_of(text), Case.NONE, row_of(tagger, form)))
        end = match.end()
    lettered = [word for word in words if word.shape != Shape.NUMBER]
    capitals = sum(word.shape != Shape.LOWER for word in lettered)
    is_sentence = len(lettered) >= 3 and 2 * capitals <= len(lettered)
    return [replace(word, case=case_of(word, capitals=capitals, is_sentence=is_sentence)) for word in words]


def gap_of(between: str) -> Gap:
    """`tokens._gaps`: the last in the order of `Gap` of the first two signs and the last one between two words."""
    if between == "'":
        return Gap.APOSTROPHE
    if between[:2].lower() == "'s":
        return Gap.POSSESSIVE
    return max(GAP_OF_SIGN.get(sign, Gap.OTHER) for sign in between[:2] + between[-1])


def shape_of(text: str) -> Shape:
    """`tokens._shapes`, by the first and the last letter."""
    if text[0].isdigit():
        return Shape.NUMBER
    if not text[0].isupper():
        return Shape.LOWER
    return Shape.UPPER if len(text) > 1 and text[-1].isupper() else Shape.CAPITAL


def row_of(tagger: Tagger, form: str) -> int:
    """`Tagger.rows`: a word's own row, else that of its longest known ending."""
    if form in tagger.row_of:
        return tagger.row_of[form]
    for length in range(min(MAX_ENDING, len(form)), 0, -1):
        if UNKNOWN + form[-length:] in tagger.row_of:
            return tagger.row_of[UNKNOWN + form[-length:]]
    return tagger.row_of[UNKNOWN]


def case_of(word: Word, *, capitals: int, is_sentence: bool) -> Case:
    """`context.cases_of` for one word, in a caption with so many capitals: the first of a sentence has its own."""
    if word.shape == Shape.NUMBER:
        return Case.NUMBER
    if not capitals:
        return Case.UNTOLD
    if not is_sentence:
        return {Shape.LOWER: Case.TITLE_LOWER, Shape.CAPITAL: Case.TITLE_CAPITAL}.get(word.shape, Case.TITLE_UPPER)
    if word.shape == Shape.LOWER:
        return Case.LOWER
    if word.gap in (Gap.START, Gap.STOP, Gap.QUOTE):
        return Case.FIRST_CAPITAL if word.shape == Shape.CAPITAL else Case.FIRST_UPPER
    return Case.CAPITAL if word.shape == Shape.CAPITAL else Case.UPPER


def language_value(labeler: Labeler, words: Sequence[Word], accents: int) -> int:
    """`Labeler.is_english`: zero or more is English."""
    return sum(word_value(labeler, word) for word in words) + language.ACCENT * accents


def word_value(labeler: Labeler, word: Word) -> int:
    """Score of a word for English, added up over the caption."""
    return int(labeler.language_values[word.row])


def score(tagger: Tagger, words: Sequence[Word], place: int) -> Scores:
    """`Scorer.scores`: the sum of the scores of all features."""
    noun, name, adjective, other = 0, 0, 0, 0
    for of_feature in features(tagger, words, place).values():
        noun += of_feature[Tag.NOUN]
        name += of_feature[Tag.NAME]
        adjective += of_feature[Tag.ADJECTIVE]
        other += of_feature[Tag.OTHER]
    return noun, name, adjective, other


def features(tagger: Tagger, words: Sequence[Word], place: int) -> dict[str, Scores]:
    """Scores that each feature of the window adds to the word at `place`."""
    far_before, before, own, after, far_after = (word_at(tagger, words, place + offset) for offset in WINDOW)
    profiles = [tagger.profile_of[word.row] for word in (far_before, before, own, after, far_after)]
    own_class = int(tagger.class_of[own.row])
    class_before = class_or_gap(tagger, before, own.gap)
    class_after = class_or_gap(tagger, after, after.gap)
    found = {
        "the word itself": scores_in(tagger.profiles, profiles[2], 2),
        "two words before": scores_in(tagger.profiles, profiles[0], 0),
        "the word before": scores_in(tagger.profiles, profiles[1], 1),
        "the word after": scores_in(tagger.profiles, profiles[3], 3),
        "two words after": scores_in(tagger.profiles, profiles[4], 4),
        "its class and the one before": scores_in(tagger.before, class_before, own_class),
        "its class and the one after": scores_in(tagger.after, own_class, class_after),
        "the classes around": scores_in(tagger.around, class_before, class_after),
        "the gap before": scores_in(tagger.gap_before, own.gap, own_class),
        "the gap after": scores_in(tagger.gap_after, after.gap, own_class),
        "the gaps": scores_in(tagger.gaps, own.gap, after.gap),
        "its case": scores_in(tagger.case, own.case, own_class),
        "the cases": scores_in(tagger.cases, own.case, before.case, after.case),
    }
    if own.case in PROFILE_OF_CASE:
        found["the word in its case"] = scores_in(tagger.profiles, profiles[2], PROFILE_OF_CASE[own.case])
    return found


def word_at(tagger: Tagger, words: Sequence[Word], place: int) -> Word:
    """`context.context_of`: the word at a place, or the empty one outside of the caption."""
    assert -EMPTY <= place < len(words) + EMPTY
    if 0 <= place < len(words):
        return words[place]
    return Word("", "", 0, END, Shape.LOWER, Case.NONE, tagger.pad)


def class_or_gap(tagger: Tagger, word: Word, gap: int) -> int:
    """Class of a neighbour, or the gap between if it parts phrases."""
    if gap in STRONG_GAPS:
        return len(tagger.classes) + gap
    return int(tagger.class_of[word.row])


def scores_in(table: NDArray[np.int64], *place: int) -> Scores:
    """Scores of a table's row: four of 16 bits are kept as one number of 64."""
    noun, name, adjective, other = struct.unpack("=4h", struct.pack("=q", table[place]))
    return noun, name, adjective, other


def is_noun(scores: Scores, *, bonus: int) -> bool:
    """`Labeler._noun_lead`: true for a noun, common or name; in doubt, yes."""
    return max(scores[Tag.NOUN], scores[Tag.NAME]) + bonus >= max(scores[Tag.ADJECTIVE], scores[Tag.OTHER])


def is_name(word: Word, scores: Scores) -> bool:
    """`Labeler._noun_lead`: true for a noun that is rather a name, which a small letter beside capitals denies."""
    return scores[Tag.NAME] > scores[Tag.NOUN] and word.case not in SMALL


def find_nouns(
    labeler: Labeler, words: Sequence[Word], alone: Sequence[bool], as_head: Sequence[bool], names: Sequence[bool]
) -> list[Noun]:
    """`Labeler.find_nouns`: nouns of several words, the longest first, then single words among the rest.

    `alone` and `as_head` say which words are nouns where they stand: by themselves, and as the last of several;
    `names`, which are names if they are nouns.
    """
    won = won_phrases(labeler, words, as_head)
    whole = [noun and name for noun, name in zip(alone, names, strict=True)]
    nouns = [phrase for phrase in won if not labeler.lexicon.stops[phrase.lemma]]
    taken = {place for phrase in won for place in phrase.places}
    for place, word in enumerate(words):
        lemma = int(labeler.lexicon.lemma_of_word[word.row])
        if lemma < 0 or place in taken:
            continue
        is_built_in = alone[place] and not is_shade(words, place)
        if names[place] and lemma < labeler.lexicon.own:
            is_built_in = is_built_in and not is_beside_name(words, place, whole)
        if is_built_in or is_users(labeler, lemma):
            nouns.append(Noun(place, place, lemma, names[place]))
    return nouns


def is_users(labeler: Labeler, lemma: int) -> bool:
    """`Labeler._are_users`: true for an entry of the user's."""
    return labeler.user is not None and lemma >= labeler.user.first


def won_phrases(labeler: Labeler, words: Sequence[Word], as_head: Sequence[bool]) -> list[Noun]:
    """`Labeler.find_nouns`: nouns of several words, and words that are no noun together, the longest first."""
    stops, phrases = labeler.lexicon.stops, find_phrases(labeler, words)
    entries = [phrase for phrase in phrases if is_users(labeler, phrase.lemma) and is_entry(labeler, words, phrase)]
    held = held_by_user(labeler, words, entries)
    built_in = [
        phrase
        for phrase in phrases
        if not is_users(labeler, phrase.lemma)
        and (
            is_stop(labeler, words, phrase) and held.isdisjoint(phrase.places)
            if stops[phrase.lemma]
            else (as_head[phrase.last] or is_hyphenated(words, phrase))
            and not is_broken(words, phrase)
            and not is_no_name_here(labeler, words, phrase)
        )
    ]
    return longest_first(entries, built_in)


def is_entry(labeler: Labeler, words: Sequence[Word], phrase: Noun) -> bool:
    """`Labeler._beside_users`: true for an entry of several words whose words no sign parts."""
    assert labeler.user is not None
    return bool(labeler.user.any_sign[phrase.lemma]) or not is_broken(words, phrase)


def held_by_user(labeler: Labeler, words: Sequence[Word], entries: Sequence[Noun]) -> set[int]:
    """`Labeler._beside_users`: places of words in those of the user's entries that have a synset."""
    lemmas = [int(labeler.lexicon.lemma_of_word[word.row]) for word in words]
    single = {place for place, lemma in enumerate(lemmas) if is_users(labeler, lemma)}
    return single.union(*(phrase.places for phrase in entries if not labeler.lexicon.stops[phrase.lemma]))


def is_stop(labeler: Labeler, words: Sequence[Word], phrase: Noun) -> bool:
    """Tell whether words that are no noun together are so here: a name needs capitals (`Labeler._capitals`)."""
    capitals = all(words[place].case in CAPITALS for place in phrase.places)
    return capitals or not labeler.lexicon.titles[phrase.lemma]


def is_beside_name(words: Sequence[Word], place: int, names: Sequence[bool]) -> bool:
    """`Labeler._is_beside_name`: true if the word before or after is a name, and nothing parts the two."""
    before = place > 0 and names[place - 1] and words[place].gap not in STRONG_GAPS
    return before or (place + 1 < len(words) and names[place + 1] and words[place + 1].gap not in STRONG_GAPS)


def find_phrases(labeler: Labeler, words: Sequence[Word]) -> list[Noun]:
    """`Labeler._phrases`: all nouns of several words. They may overlap."""
    edge_of = edges_of(labeler.lexicon)
    found: list[Noun] = []
    for first, word in enumerate(words):
        node = int(labeler.lexicon.node_of_word[word.row])
        for last in range(first + 1, min(first + MAX_WORDS, len(words))):
            if (node, words[last].row) not in edge_of:
                break
            node, lemma = edge_of[node, words[last].row]
            if lemma >= 0:
                found.append(Noun(first, last, lemma, is_name=False))
    return found


@lru_cache(maxsize=1)
def edges_of(lexicon: Lexicon) -> dict[tuple[int, int], tuple[int, int]]:
    """`Lexicon.edges` as a dictionary: node and row of the next word -> next node, and lemma that is complete."""
    keys = [(key >> ROW_BITS, key & ((1 << ROW_BITS) - 1)) for key in lexicon.edge_keys.tolist()]
    ends = zip(lexicon.edge_nodes.tolist(), lexicon.edge_lemmas.tolist(), strict=True)
    return dict(zip(keys, ends, strict=True))


def is_hyphenated(words: Sequence[Word], phrase: Noun) -> bool:
    """`Labeler._hyphenated`: true if hyphens alone join the words."""
    return all(words[place].gap == Gap.HYPHEN for place in range(phrase.first + 1, phrase.last + 1))


def is_shade(words: Sequence[Word], place: int) -> bool:
    """`Labeler._are_shades`: true for a word that names a shade: *light* in a light blue shirt."""
    return words[place].form in SHADES and place + 1 < len(words) and words[place + 1].form in COLOURS


def is_no_name_here(labeler: Labeler, words: Sequence[Word], phrase: Noun) -> bool:
    """Opposite of `Labeler._are_names_here`: true for a name that is a description here, "a white house"."""
    if not labeler.lexicon.names[phrase.lemma]:
        return False
    before = words[phrase.first - 1].form if phrase.first > 0 else ""
    return before != "the" and not (words[phrase.first].case == words[phrase.last].case == Case.CAPITAL)


def is_broken(words: Sequence[Word], phrase: Noun) -> bool:
    """Opposite of `Labeler._are_unbroken`: true if a sign parts the words, as in *a dog, house*."""
    for place in range(phrase.first + 1, phrase.last + 1):
        gap = words[place].gap
        if gap not in UNBROKEN or (gap == Gap.STOP and len(words[place - 1].form) > ABBREVIATED):
            return True
    return False


def longest_first(entries: Sequence[Noun], built_in: Sequence[Noun]) -> list[Noun]:
    """`labeler.longest_first`: of overlapping phrases the longer stays, of equal ones the user's, then the left one."""
    won: list[Noun] = []
    taken: set[int] = set()
    # Sorting keeps the order of equals.
    ordered = [*sorted(entries, key=lambda entry: entry.first), *sorted(built_in, key=lambda phrase: phrase.first)]
    for phrase in sorted(ordered, key=lambda phrase: -phrase.length):
        if taken.isdisjoint(phrase.places):
            won.append(phrase)
            taken.update(phrase.places)
    return won


def choose_sense(labeler: Labeler, words: Sequence[Word], noun: Noun) -> int:
    """`Senses.choose`: row in WordNet of the synset that a noun means, the first of those with the highest score."""
    candidates = [sense for sense in senses_of(labeler, words, noun) if sense.can_win]
    best = max(candidates, key=lambda sense: sense.total, default=None)
    if best is None or (labeler.senses.needs_cue[reading_of(labeler, noun)] and not best.listed):
        return NO_SENSE
    return best.synset


def senses_of(labeler: Labeler, words: Sequence[Word], noun: Noun) -> list[Sense]:
    """`Senses._choose_by_cues` and `_find_hints`: the senses that a noun may have, in order, with their evidence."""
    senses, starts = labeler.senses, labeler.senses.candidate_starts
    reading = reading_of(labeler, noun)
    candidates = senses.candidates[starts[reading] : starts[reading + 1]].tolist()
    around = words_around(words, noun)
    found: list[Sense] = []
    for sense in range(*labeler.nouns.sense_starts[noun.lemma : noun.lemma + 2].tolist()):
        if not senses.may_mean[int(noun.is_name), sense]:
            continue
        cues = [(word.text, cue_of(labeler, word, int(senses.kinds[sense]))) for word in around]
        speaking = tuple((text, cue) for text, cue in cues if cue != 0)
        listed = tuple(word.text for word in around if sense << PAIR_BITS | word.row in senses.pair_set)
        synset, score = int(senses.synsets[sense]), int(senses.scores[sense])
        found.append(Sense(synset, score, speaking, listed, can_win=sense in candidates))
    return found


def reading_of(labeler: Labeler, noun: Noun) -> int:
    """Row of a noun's lemma in the tables of `Senses`, where names follow the common nouns."""
    return noun.lemma + labeler.senses.lemmas * noun.is_name


def words_around(words: Sequence[Word], noun: Noun) -> list[Word]:
    """Words that may decide a noun's sense: those near it on both sides."""
    return [*words[max(0, noun.first - REACH) : noun.first], *words[noun.last + 1 : noun.last + 1 + REACH]]


def cue_of(labeler: Labeler, word: Word, kind: int) -> int:
    """Score that a word adds to the senses of a kind."""
    return int(labeler.senses.cues[labeler.senses.cue_of[word.row] + kind])
