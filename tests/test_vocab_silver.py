"""SemCor's parts of speech as a treebank's."""

from __future__ import annotations

import pytest

from vocab.fit.semcor import SenseToken, Sentence, silver_sentences


@pytest.mark.parametrize(
    ("form", "penn", "wanted"),
    [
        ("dogs", "NN", "dogs/NOUN"),
        ("Atlanta", "NNP", "Atlanta/PROPN"),
        ("Fulton_County", "NNP", "Fulton/PROPN County/PROPN"),
        ("primary_election", "NN", "primary/_ election/NOUN"),
        ("took_place", "VB", "took/_ place/_"),
        ("recent", "JJ", "recent/ADJ"),
        ("would", "MD", "would/AUX"),
        ("of", "IN", "of/ADP"),
        (".", None, "./PUNCT"),
        ("_", None, ""),
    ],
)
def test_each_word_of_an_entry_has_the_tag_that_is_sure(form: str, penn: str | None, wanted: str) -> None:
    [sentence] = silver_sentences([Sentence("br-a01", (SenseToken(form, penn, None, ()),))])
    assert " ".join(f"{token.form}/{token.upos}" for token in sentence) == wanted
