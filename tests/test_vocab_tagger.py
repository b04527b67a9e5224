"""Parts of speech: the tables that come with the package, and how such tables are made."""

from __future__ import annotations

import pyarrow as pa
import pytest

from vocab import labeler, plain, tagger
from vocab.fit.treebank import GoldToken
from vocab.tagger import Tag


def tags(caption: str) -> list[str]:
    reading = plain.read(labeler.load(), caption)
    return [max(Tag, key=lambda tag: (scores[tag], -tag)).name for scores in reading.scores]


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("people duck under the doorway", "NOUN OTHER OTHER OTHER NOUN"),
        ("a duck sits in the pond", "OTHER NOUN OTHER OTHER OTHER NOUN"),
        ("a man swinging a bat", "OTHER NOUN OTHER OTHER NOUN"),
        ("free shipping", "ADJECTIVE NOUN"),
        ("black and white dogs", "ADJECTIVE OTHER ADJECTIVE NOUN"),
        ("she can open a can", "OTHER OTHER OTHER OTHER NOUN"),
    ],
)
def test_a_word_is_tagged_where_it_stands(caption: str, wanted: str) -> None:
    assert tags(caption) == wanted.split()


def test_an_unknown_word_has_the_row_of_its_longest_known_ending() -> None:
    tables = tagger.load()
    [row, other] = tables.rows(pa.array(["zorbification", "xq\x7f"])).tolist()
    assert tables.words[row].as_py() == "*tion"
    assert tables.words[other].as_py().startswith("*")


def test_the_fingerprint_does_not_depend_on_what_was_used_before() -> None:
    fresh = tagger.unpack(tagger.packing.read(tagger.PACKED))
    before = fresh.fingerprint()
    fresh.rows(pa.array(["dog", "zorbification"]))
    labeler.load().label(pa.array(["a dog"]))
    assert fresh.fingerprint() == before == tagger.load().fingerprint()


def gold(text: str) -> list[GoldToken]:
    return [GoldToken(form, form.lower(), upos, True) for form, _, upos in (w.partition("/") for w in text.split())]


def test_the_same_sentences_give_the_same_bytes() -> None:
    pytest.importorskip("scipy", reason="tables are fitted with SciPy, the extra `fit`")
    from vocab.fit.tagger_fit import fit_sentences

    sentences = [
        gold("The/DET dog/NOUN barks/VERB ./PUNCT"),
        gold("They/PRON duck/VERB under/ADP it/PRON ./PUNCT"),
        gold("A/DET duck/NOUN swims/VERB ./PUNCT"),
        gold("The/DET big/ADJ duck/NOUN sees/VERB the/DET dog/NOUN ./PUNCT"),
    ] * 4
    first, second = (fit_sentences(sentences, {}, ["pond"]) for _ in range(2))
    content = tagger.pack(first, {"trained_on": "four sentences"})
    assert content == tagger.pack(second, {"trained_on": "four sentences"})
    assert tagger.unpack(content).fingerprint() == first.fingerprint()
