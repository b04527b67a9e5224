"""Cleaning: what the web wrapped around the words goes, the words stay."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vocab.cleaning import DECOMPOSED, FOREIGN_LETTER, FOREIGN_LETTERS, REPLACEMENTS, clean, clean_all


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("<b>dog</b> &amp; cat", " dog  & cat"),
        ("a dog&amp;#39;s ball", "a dog's ball"),
        ("&lt;i&gt;dog", " dog"),
        ("a%20dog", "a dog"),
        ("100% wool", "100% wool"),
        ("see http://x.org/dog.jpg now", "see   now"),
        ("see www.dogs.com now", "see   now"),
        ("mail me@dogs.com", "mail  "),
        ("a-white-cat_0342.jpg", "a white cat 0342"),
        ("photos/My+Dog.PNG", "My Dog"),
        ("dogs.org is a site", "  is a site"),
        ("made in the U.S.A. in 3.5 days", "made in the U.S.A. in 3.5 days"),
        ("Tom’s “dog” – a—b", 'Tom\'s "dog" - a-b'),
        ("#GoldenRetriever #dog #1 &#X2F;", "#Golden Retriever #dog #1 /"),
    ],
)
def test_what_is_no_word_goes(caption: str, wanted: str) -> None:
    assert clean(caption) == (wanted, 0)
    assert clean_all(pa.array([caption])).text.tobytes().decode() == wanted


@pytest.mark.parametrize(
    ("caption", "wanted", "accents"),
    [
        ("Café Zoë", "Cafe Zoe", 2),
        ("a dog 🐕 runs", "a dog   runs", 0),
        ("犬と猫 dog", f"{FOREIGN_LETTER * 3} dog", 1),
        ("\ufdfa dog", f"{FOREIGN_LETTER} dog", 1),
        ("Straße", "Strasse", 0),
    ],
)
def test_letters_become_ascii_and_the_change_is_counted(caption: str, wanted: str, accents: int) -> None:
    assert clean(caption) == (wanted, accents)


@given(st.text(max_size=12))
@example("a" + "\u0300\u0316" * 3)
@example("\ufdfa \ud55c \u0f73")
def test_characters_decompose_one_by_one_as_in_a_whole_text(text: str) -> None:
    """But for the marks, which go afterwards, and the number of letters and words in other scripts."""

    def compared(decomposed: str) -> str:
        return FOREIGN_LETTERS.sub(r"\1", "".join(c for c in decomposed if not unicodedata.combining(c)))

    whole = unicodedata.normalize("NFKD", text).translate(REPLACEMENTS)
    assert compared(text.translate(DECOMPOSED)) == compared(whole)


def test_the_same_sign_is_the_same_whatever_else_is_in_the_caption() -> None:
    assert clean("a `dog`")[0] == clean("a `dog` ’")[0].removesuffix(" '")


@given(st.lists(st.text(alphabet="aZw0 .#&%<>@:/;\"'’é日jpgcom", max_size=30), max_size=8))
@example(["a.", "jpg", "x.j", "pg"])
@example(["#", "Ab", "w.", "a", "%", "41"])
def test_a_batch_is_cleaned_as_each_caption_is(captions: list[str]) -> None:
    cleaned = clean_all(pa.array(captions, pa.string()))
    edges = cleaned.starts.tolist()
    texts = [cleaned.text[a:b].tobytes().decode() for a, b in pairwise(edges)]
    assert list(zip(texts, cleaned.accents.tolist(), strict=True)) == [clean(caption) for caption in captions]
