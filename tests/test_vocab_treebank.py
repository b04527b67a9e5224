"""Treebanks: CoNLL-U to gold tokens, and gold tokens to the words that the labeler sees."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from vocab.errors import FormatError, InputError
from vocab.fit.treebank import Aligned, GoldToken, align, read_treebank


def line(number: str, form: str, lemma: str, upos: str, misc: str = "_") -> str:
    return "\t".join([number, form, lemma, upos, "_", "_", "_", "_", "_", misc]) + "\n"


TINY = (
    "# sent_id = 1\n"
    + "# text = Don't walk dogs.\n"
    + line("1-2", "Don't", "_", "_")
    + line("1", "Do", "do", "AUX")
    + line("2", "n't", "not", "PART")
    + line("3", "walk", "walk", "VERB")
    + line("4", "dogs", "dog", "NOUN", "Gloss=x|SpaceAfter=No")
    + line("5", ".", ".", "PUNCT")
    + "\n\n"
    + "# sent_id = 2\n"
    + line("1", "Dogs", "dog", "NOUN")
    + line("1.1", "bark", "bark", "VERB")
    + line("2-3", "cannot", "_", "_", "SpaceAfter=No")
    + line("2", "can", "can", "AUX")
    + line("3", "not", "not", "PART")
    + line("4", "!", "!", "PUNCT")
)
SENTENCES = [
    [
        GoldToken("Do", "do", "AUX", space_after=False),
        GoldToken("n't", "not", "PART", space_after=True),
        GoldToken("walk", "walk", "VERB", space_after=True),
        GoldToken("dogs", "dog", "NOUN", space_after=False),
        GoldToken(".", ".", "PUNCT", space_after=True),
    ],
    [
        GoldToken("Dogs", "dog", "NOUN", space_after=True),
        GoldToken("can", "can", "AUX", space_after=False),
        GoldToken("not", "not", "PART", space_after=False),
        GoldToken("!", "!", "PUNCT", space_after=True),
    ],
]


def tokens(*words: str) -> list[GoldToken]:
    """A word that ends in "+" is joined to the next."""
    return [GoldToken(word.removesuffix("+"), "", "X", not word.endswith("+")) for word in words]


def spans(aligned: Aligned) -> list[tuple[str, int, int]]:
    words = aligned.tokens.words.to_pylist()
    return list(zip(words, aligned.first.tolist(), aligned.last.tolist(), strict=True))


def test_ranges_spaces_empty_nodes_and_comments_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "tiny.conllu"
    path.write_text(TINY, encoding="utf-8")
    assert read_treebank(path) == SENTENCES


def test_a_gzipped_treebank_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tiny.conllu.gz"
    path.write_bytes(gzip.compress(TINY.encode()))
    assert read_treebank(path) == SENTENCES


def test_an_empty_treebank_has_no_sentences(tmp_path: Path) -> None:
    path = tmp_path / "empty.conllu"
    path.write_text("\n# nothing\n\n")
    assert read_treebank(path) == []


def test_a_missing_treebank_says_where_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.conllu: found no such file.*universaldependencies\.org"):
        read_treebank(tmp_path / "none.conllu")


def test_a_line_with_other_than_ten_fields_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.conllu"
    path.write_text(line("1", "Dogs", "dog", "NOUN") + "2\tbark\tbark\n")
    with pytest.raises(FormatError, match=r"broken\.conllu:2: found 3 fields"):
        read_treebank(path)


def test_a_sentence_is_written_out_as_it_was() -> None:
    assert align(SENTENCES).captions == ["Don't walk dogs. ", "Dogs cannot! "]


def test_words_know_their_gold_tokens() -> None:
    aligned = align(SENTENCES)
    assert spans(aligned) == [
        ("don", 0, 1), ("t", 1, 1), ("walk", 2, 2), ("dogs", 3, 3), ("dogs", 5, 5), ("cannot", 6, 7),
    ]  # fmt: skip
    assert aligned.tokens.starts.tolist() == [0, 4, 6]


def test_a_hyphen_parts_one_gold_token_into_two_words() -> None:
    assert spans(align([tokens("an", "e-mail")])) == [("an", 0, 0), ("e", 1, 1), ("mail", 1, 1)]


def test_a_possessive_is_no_word() -> None:
    assert spans(align([tokens("dog+", "'s", "ball")])) == [("dog", 0, 0), ("ball", 2, 2)]


def test_a_token_that_cleaning_takes_off_leaves_the_others_in_place() -> None:
    assert spans(align([tokens("see", "http://x.org", "dogs")])) == [("see", 0, 0), ("dogs", 2, 2)]


def test_accents_fall_off_before_places_are_counted() -> None:
    assert spans(align([tokens("Café+", ",", "Zoë")])) == [("cafe", 0, 0), ("zoe", 2, 2)]


def test_lower_casing_changes_shapes_and_nothing_else() -> None:
    sentence = [tokens("Dogs", "in", "PARIS")]
    written, lower = align(sentence), align(sentence, case=str.lower)
    assert lower.captions == ["dogs in paris "]
    assert spans(written) == spans(lower)
    assert written.tokens.shapes.tolist() == [1, 0, 2]
    assert lower.tokens.shapes.tolist() == [0, 0, 0]
