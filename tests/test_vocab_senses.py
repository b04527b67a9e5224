"""Senses: the tables, the lists written by hand, and the batch rule beside the rule for one."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from vocab import labeler, plain, wordnet
from vocab.cleaning import Cleaned, clean_all
from vocab.context import Case
from vocab.entries import EntryKind
from vocab.errors import FormatError
from vocab.fit.caption_senses import SENSES_FILE, WORDS_FILE, entries_of, read_senses, read_words
from vocab.fit.senses_fit import rows_of_listed
from vocab.labeler import Labeler
from vocab.nouns import is_described_name
from vocab.senses import REACH
from vocab.tokens import Gap, Shape, split_words


def test_every_listed_lemma_and_sense_is_wordnets_and_stands_once() -> None:
    ours = labeler.load()
    listed = read_senses(SENSES_FILE.read_text(encoding="utf-8"))
    assert len({line.lemma for line in listed}) == len(listed) > 4000
    # A number that no lemma or entry has is an error.
    assert len(rows_of_listed(ours.nouns, listed)) > 3500


def test_the_tables_hold_the_lists() -> None:
    nouns = wordnet.load()
    words = read_words(WORDS_FILE.read_text(encoding="utf-8"), nouns)
    listed = read_senses(SENSES_FILE.read_text(encoding="utf-8"))
    ours = labeler.load()
    entries = entries_of(nouns, ours.tagger.words, listed, words)
    held = ours.nouns.lemmas.to_pylist()[ours.lexicon.own :]
    assert [entry.words.replace(" ", "_") for entry in entries] == held[: len(entries)]
    # After the lists come names of several words.
    assert ours.lexicon.titles[ours.lexicon.own + len(entries) :].all()
    assert "the_north_face" in held


def test_no_listed_word_hides_another_that_is_cleaned_to_the_same_letters() -> None:
    """A rosé is a rose to the labeler, and a K9 is a K2."""
    nouns = wordnet.load()
    senses_of: dict[str, set[int]] = {}
    spelled = clean_all(pc.replace_substring(nouns.lemmas, "_", " "))
    for row, words in enumerate(plain_words(spelled)):
        synsets = nouns.sense_synsets[nouns.sense_starts[row] : nouns.sense_starts[row + 1]].tolist()
        senses_of.setdefault(words, set()).update(synsets)
    entries = [
        entry
        for entry in read_words(WORDS_FILE.read_text(encoding="utf-8"), nouns)
        if entry.kind == EntryKind.WORD and not re.fullmatch("[a-z .'&/-]+", entry.words)
    ]
    cleaned = plain_words(clean_all(pa.array([entry.words for entry in entries])))
    hidden = {
        entry.words
        for entry, words in zip(entries, cleaned, strict=True)
        if words in senses_of and not senses_of[words].issuperset(entry.synsets)
    }
    assert hidden == set()


def plain_words(cleaned: Cleaned) -> list[str]:
    """Words of each text as the labeler looks them up."""
    tokens = split_words(cleaned)
    words, starts = tokens.words.to_pylist(), tokens.starts.tolist()
    return [" ".join(words[begin:end]) for begin, end in pairwise(starts)]


def test_no_listed_word_is_a_name_that_reads_like_a_description() -> None:
    """The lexicon would take "a white house" for the White House; its sense belongs into the list of senses."""
    nouns = wordnet.load()
    names = set(nouns.lemmas.filter(pa.array(is_described_name(nouns))).to_pylist())
    individual = np.diff(nouns.instance_starts) > 0
    listed = read_words(WORDS_FILE.read_text(encoding="utf-8"), nouns)
    assert [
        entry.words
        for entry in listed
        if entry.words.replace(" ", "_") in names and any(individual[row] for row in entry.synsets)
    ] == []


@pytest.mark.parametrize("line", ["dog 1 | hound", "dog", "dog one", "dog 1 | two: hound", "dog 1 2"])
def test_a_line_that_is_no_sense_is_named(line: str) -> None:
    with pytest.raises(FormatError, match=r"caption_senses\.txt"):
        read_senses(f"cat 1\n{line}\n")


@pytest.mark.parametrize("line", ["selfie = portrait", "selfie = dog.n.99", "selfie", "selfie = zorbing.n.01"])
def test_a_line_that_is_no_synset_is_named(line: str) -> None:
    with pytest.raises(FormatError, match=r"caption_words\.txt.*wanted a synset of WordNet 3\.0"):
        read_words(line, wordnet.load())


@pytest.mark.parametrize(
    ("line", "number"), [("dog 1 | 8: hound", 8), ("dog 8", 8), ("dog 0", 0), ("dog - | 0: hound", 0)]
)
def test_a_number_beyond_the_senses_is_named(line: str, number: int) -> None:
    with pytest.raises(FormatError, match=f"caption_senses.txt, dog: found sense {number}; wanted 1 to 7"):
        rows_of_listed(wordnet.load(), read_senses(line))


def labels(ours: Labeler, caption: str) -> set[str]:
    reading = plain.read(ours, caption)
    return {ours.nouns.name_of(row) for row in reading.synsets if row >= 0}


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        pytest.param("a crane lifting steel at a construction site", "crane.n.04", id="a word nearby turns the sense"),
        pytest.param("two hoodies on a shelf", "sweatshirt.n.01", id="a word that WordNet lacks, in the plural"),
        pytest.param("a race track at night", "racetrack.n.01", id="another spelling"),
        pytest.param("monarchs on a flower", "monarch.n.02", id="a plural that spelling does not tell"),
        pytest.param("the sun over the sea", "sun.n.01", id="an individual that is written small"),
        pytest.param("a red fire hydrant", "fireplug.n.01", id="the words that belong together"),
        pytest.param("a trip to Paris", "paris.n.01", id="a name that WordNet has"),
    ],
)
def test_captions_mean(caption: str, wanted: str) -> None:
    assert wanted in labels(labeler.load(), caption)


@pytest.mark.parametrize(
    ("caption", "unwanted"),
    [
        pytest.param("a cat in front of a door", "front", id="words that are no noun together"),
        pytest.param("a red dress", "red", id="a colour"),
        pytest.param("Michael Jordan at the gala", "jordan", id="a name beside a name"),
        pytest.param("a male lion", "male", id="an adjective"),
        pytest.param("2 XL la de cr", "la", id="codes"),
    ],
)
def test_captions_do_not_mean(caption: str, unwanted: str) -> None:
    ours = labeler.load()
    lemma = ours.nouns.lemmas.index(unwanted).as_py()
    starts = ours.nouns.sense_starts
    senses = {ours.nouns.name_of(row) for row in ours.nouns.sense_synsets[starts[lemma] : starts[lemma + 1]].tolist()}
    assert senses.isdisjoint(labels(ours, caption))


def test_a_batch_of_nouns_gets_what_each_gets_alone() -> None:
    ours = labeler.load()
    chance = random.Random(0)
    several = np.flatnonzero(np.diff(ours.senses.candidate_starts) > 1)
    readings = np.array(chance.sample(several.tolist(), 200))
    # Each noun in the middle of a caption of its own, nine words long, with as many empty places behind as cues reach.
    length, middle = 2 * REACH + 1, REACH
    rows = np.array([chance.randrange(len(ours.tagger.words)) for _ in range((length + REACH) * len(readings))])
    captions = rows.reshape(len(readings), length + REACH)
    captions[:, length:] = ours.tagger.pad
    places = np.arange(len(readings)) * (length + REACH) + middle
    together = ours.senses.choose(rows, places, places, readings)
    alone = [
        plain.choose_sense(
            ours,
            [plain.Word("", "", 0, Gap.SPACE, Shape.LOWER, Case.NONE, row) for row in caption[:length].tolist()],
            plain.Noun(middle, middle, reading % ours.senses.lemmas, reading >= ours.senses.lemmas),
        )
        for reading, caption in zip(readings.tolist(), captions, strict=True)
    ]
    assert together.tolist() == alone
