"""Class names of downstream datasets to synsets: the classifier rows that a class can start from.

n02084071, dog.n.01                   ->  dog                a wnid, or WordNet's own name, is the synset itself
tench, Tinca tinca                    ->  tench              the sense that most of the synonyms share
hot_dog, hot-dog, HotDog, hot dogs    ->  hot dog            one noun, however it is written
dogs                                  ->  dog                a plural is read as the labeler reads it
/c/church/indoor                      ->  church             Places365: folder and qualifier go
/a/airplane_cabin                     ->  airplane, cabin    no noun as a whole: what a caption would give
zzzz                                  ->                     nothing
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

from vocab import labeler, wordnet
from vocab.cleaning import clean_all
from vocab.errors import InputError
from vocab.misread import mended
from vocab.tokens import split_words
from vocab.user_lexicon import ANY_SIGN, UserLexicon

WNID = re.compile(r"n[0-9]{8}")
SYNSET_NAME = re.compile(r"(?P<lemma>[^,/]+)\.n\.(?P<sense>[0-9]{2,3})")
CAPITAL_INSIDE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# Apostrophes join and other signs part, in names as in lemmas: bull's-eye, bulls eye.
APOSTROPHES = "['’ʼ]"
BETWEEN_WORDS = r"[\W_]+"

Labels = dict[str, list[int]]


def synsets_of_class_names(
    names: Sequence[str],
    *,
    label: Callable[[pa.StringArray], pa.ListArray] | None = None,
    lexicon: UserLexicon | None = None,
) -> list[list[int]]:
    """Synsets of each class name, as offsets, unique and ascending; an empty list if there are none.

    A wnid gives its synset, or none if WordNet 3.0 does not have it. A lemma with the number of its sense, as NLTK and
    LVIS name synsets, gives that synset; of one that WordNet 3.0 does not have, such as LVIS's stop_sign.n.01, the
    lemma is the name. Any other name is read in the ways that `readings_of` lists, and the first that gives a synset
    counts. A way to read a name is a list of synonyms:

    1. If any of them is a noun of WordNet as a whole, or a single word with a label, the class is one synset: the
       one that most of the synonyms can mean; among equals the labeler's choice, then WordNet's first sense.
    2. If none is, the labels of them all, by the same extraction as captions. This is the rule of CatLIP's Transfer
       Init (arXiv 2404.15653), which averages the rows of several synsets.

    `label` maps captions to lists of offsets as `vocab.labeler.Labeler.label` does, and is that of
    `vocab.labeler.load()` unless given; it should be the one that labelled the corpus. It is called once, for all
    names. `lexicon` is the user's lexicon of that labeler: a name that is an entry of it has the entry's synset; an
    entry without one says nothing of classes. Raises InputError for a string in place of a list.
    """
    if isinstance(names, str):
        head = repr(names[:80])
        raise InputError("class names", found=f"the string {head}", wanted="a list", remedy=f"Write [{head}].")
    names = [mended(name.strip()) for name in names]
    named = [_synset_named(name) for name in names]
    readings = [
        []
        if synset is not None or WNID.fullmatch(name)
        else readings_of(match["lemma"] if (match := SYNSET_NAME.fullmatch(name)) else name)
        for name, synset in zip(names, named, strict=True)
    ]
    texts = list(dict.fromkeys(text for ways in readings for synonyms in ways for text in synonyms))
    senses, labels = senses_of(texts), _labels_of(texts, label)
    for text, meant in _entries_among(texts, lexicon).items():
        senses[text] = labels[text] = [meant]
    found: list[list[int]] = []
    for synset, ways in zip(named, readings, strict=True):
        if synset is not None:
            found.append([synset])
        else:
            found.append(next(filter(None, (_resolve(synonyms, senses, labels) for synonyms in ways)), []))
    return found


def _synset_named(name: str) -> int | None:
    """Synset of a wnid, or of a lemma's sense, counted from 1; None for any other name.

    "n02084071", "dog.n.01" -> 2084071; "dog", "stop_sign.n.01", "n99999999" -> None
    """
    if WNID.fullmatch(name):
        synset = wordnet.synset_of_wnid(name)
        return None if wordnet.load().find(synset) is None else synset
    match = SYNSET_NAME.fullmatch(name)
    if match is None:
        return None
    text, sense = match["lemma"].replace("_", " ").lower(), int(match["sense"])
    senses = senses_of([text]).get(text, [])
    return senses[sense - 1] if 1 <= sense <= len(senses) else None


def readings_of(name: str) -> list[list[str]]:
    """Ways to read a name, best first, each a list of synonyms in lower-case words.

    The parts between slashes are tried from the left, so that Places365's qualifiers come after what they qualify. Each
    part is read as it stands, then parted where capitals begin; commas part synonyms. A single letter, such as
    Places365's folder, is never read.

        "tench, Tinca tinca"  ->  [["tench", "tinca tinca"]]
        "/c/church/indoor"    ->  [["church"], ["indoor"]]
        "HotDog"              ->  [["hotdog"], ["hot dog"]]
        ""                    ->  []
    """
    ways: dict[tuple[str, ...], None] = {}
    for part in name.split("/"):
        for written in (part, CAPITAL_INSIDE.sub(" ", part)):
            synonyms = dict.fromkeys(map(_plain, written.split(",")))
            ways[tuple(s for s in synonyms if len(s) > 1 or s.isdecimal())] = None
    return [list(way) for way in ways if way]


def senses_of(texts: Sequence[str]) -> Labels:
    """Offsets of all senses, in WordNet's order, of those texts that are the spelling of a lemma.

    Texts are lower-case words with single spaces. A lemma with signs ("t-shirt") is found by its words ("t shirt")
    unless another is spelt exactly so.
    """
    nouns = wordnet.load()
    spelt, plain = _spellings()
    wanted = pa.array(texts, pa.string())
    rows = pc.coalesce(pc.index_in(wanted, value_set=spelt), pc.index_in(wanted, value_set=plain))
    senses: Labels = {}
    for text, row in zip(texts, rows.to_pylist(), strict=True):
        if row is not None:
            synsets = nouns.sense_synsets[nouns.sense_starts[row] : nouns.sense_starts[row + 1]]
            senses[text] = nouns.synsets[synsets].tolist()
    return senses


@cache
def _spellings() -> tuple[pa.StringArray, pa.StringArray]:
    """Every lemma in words, as spelt and without its signs: "bull's eye" and "bulls eye"."""
    lemmas = wordnet.load().lemmas
    plain = pc.replace_substring_regex(lemmas, APOSTROPHES, "")
    plain = pc.replace_substring_regex(plain, r"[^\p{L}\p{N}]+", " ")
    return pc.replace_substring(lemmas, "_", " "), pc.utf8_trim_whitespace(plain)


def _labels_of(texts: list[str], label: Callable[[pa.StringArray], pa.ListArray] | None) -> Labels:
    """Labels of each text; the labeler is not loaded if there are no texts."""
    if not texts:
        return {}
    return dict(zip(texts, (label or labeler.load().label)(pa.array(texts, pa.string())).to_pylist(), strict=True))


def _entries_among(texts: list[str], lexicon: UserLexicon | None) -> dict[str, int]:
    """Synset of each text that is an entry with one."""
    if lexicon is None or not texts:
        return {}
    entries = {words.replace(ANY_SIGN, " "): synset for words, synset in lexicon.entries}
    tokens = split_words(clean_all(pa.array(texts, pa.string())))
    words, starts = tokens.words.to_pylist(), tokens.starts.tolist()
    meant = {text: entries.get(" ".join(words[a:b])) for text, (a, b) in zip(texts, pairwise(starts), strict=True)}
    return {text: synset for text, synset in meant.items() if synset is not None}


def _resolve(synonyms: list[str], senses: Labels, labels: Labels) -> list[int]:
    """Rules 1 and 2 of `synsets_of_class_names` for one way to read a name."""
    votes: collections.Counter[int] = collections.Counter()
    for synonym in synonyms:
        one_word = [] if " " in synonym else labels[synonym]
        votes.update({*senses.get(synonym, []), *one_word})
    if not votes:
        return sorted({synset for synonym in synonyms for synset in labels[synonym]})
    choices = [synset for synonym in synonyms for synset in labels[synonym] if synset in votes]
    choices += [synset for synonym in synonyms for synset in senses.get(synonym, [])]
    return [max(choices, key=lambda synset: votes[synset])]  # the first of those with most votes


def _plain(name: str) -> str:
    """ "Bull's-Eye " -> "bulls eye"."""
    return re.sub(BETWEEN_WORDS, " ", re.sub(APOSTROPHES, "", name.lower())).strip()
