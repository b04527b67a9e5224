"""Treebanks and SemCor, read and set beside the labeler's words."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from vocab.errors import FormatError, InputError
from vocab.semcor import read_semcor
from vocab.treebank import align, read_treebank

CONLLU = """# text = Dogs don't e-mail.
1\tDogs\tdog\tNOUN\tNNS\t_\t0\troot\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\t_\t0\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t0\tadvmod\t_\t_
4\te-mail\te-mail\tVERB\tVB\t_\t0\troot\t_\tSpaceAfter=No
4.1\tleft\tleave\tVERB\tVB\t_\t_\t_\t_\t_
5\t.\t.\tPUNCT\t.\t_\t0\tpunct\t_\t_

"""


def test_a_sentence_is_read_with_its_joined_and_empty_words(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.conllu", tmp_path / "a.conllu.gz"
    plain.write_text(CONLLU)
    packed.write_bytes(gzip.compress(CONLLU.encode()))
    [sentence] = read_treebank(plain)
    assert [(t.form, t.upos, t.space_after) for t in sentence] == [
        ("Dogs", "NOUN", True), ("do", "AUX", False), ("n't", "PART", True), ("e-mail", "VERB", False),
        (".", "PUNCT", True),
    ]  # fmt: skip
    assert read_treebank(packed) == [sentence]


def test_words_know_their_gold_tokens(tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text(CONLLU)
    aligned = align(read_treebank(tmp_path / "a.conllu"), case=str.lower)
    assert aligned.captions == ["dogs don't e-mail. "]
    assert aligned.tokens.words.to_pylist() == ["dogs", "don", "t", "e", "mail"]
    assert aligned.first.tolist() == [0, 1, 2, 3, 3]
    assert aligned.last.tolist() == [0, 2, 2, 3, 3]


def test_a_missing_treebank_and_another_kind_of_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_treebank(tmp_path / "none.conllu")
    (tmp_path / "b.conllu").write_text("1\tDogs\tdog\n")
    with pytest.raises(FormatError, match=r"b\.conllu:1.*3 fields"):
        read_treebank(tmp_path / "b.conllu")


def test_semcor_gives_senses_and_none_for_words_without(tmp_path: Path) -> None:
    path = tmp_path / "semcor.jsonl"
    path.write_text(
        '{"doc": "a", "tokens": [{"w": "The", "pos": "DT"}, '
        '{"w": "dogs", "pos": "NN", "lemma": "dog", "wnsn": "1;3"}, '
        '{"w": "x", "pos": "NN", "lemma": "x", "wnsn": "0"}]}\n'
    )
    [sentence] = read_semcor(path)
    assert sentence.document == "a"
    assert [token.senses for token in sentence.tokens] == [(), (1, 3), ()]


@pytest.mark.parametrize("line", ["{", '{"doc": "a"}', '{"doc": "a", "tokens": [{"pos": "NN"}]}', "[]"])
def test_a_line_that_is_no_sentence_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "semcor.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(FormatError, match=r"semcor\.jsonl:1"):
        list(read_semcor(path))
