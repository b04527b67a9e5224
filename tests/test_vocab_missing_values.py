"""Text of missing values is no caption as a whole, and words like any other inside of one."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocab import labeler, plain
from vocab.missing_values import NAMES, are_missing, is_missing

NAN_BREAD, DOG = 7684289, 2084071


@pytest.mark.parametrize(
    "caption",
    [
        "nan",
        "NaN",
        "NAN",
        " nan\n",
        "-nan",
        "None",
        "NULL",
        "null",
        "nil",
        "N/A",
        "n/a",
        "#N/A",
        "NA",
        "NaT",
        "<NA>",
        "undefined",
        '"NaN"',
        "'nan'",
        "['nan']",
        "(nan)",
        "NaN.",
        "nan%",
        "\u201cnan\u201d",
        "\ufeffnan\u200b",
        "\u00a0nan\x00",
        "nan nan",
        "nan, nan | NULL",
        "None/None",
        "<p>nan</p>",
        "nan<br />",
        "&quot;nan&quot;",
        "np.nan",
        "float('nan')",
        "nan.jpg",
        "[object Object]",
        "[object Object],[object Object]",
        "No caption",
        "No description available.",
        "Image not available",
    ],
)
def test_a_caption_that_names_a_missing_value_has_no_label(caption: str) -> None:
    ours = labeler.load()
    assert is_missing(caption)
    assert ours.label(pa.array(["a dog", caption])).to_pylist() == [[DOG], []]
    assert plain.label(ours, ["a dog", caption]) == [[DOG], []]


@pytest.mark.parametrize(
    "caption",
    ["garlic nan bread", "nan, a dog", "<NAN> of a dog", "my nan", "a dog, no caption", "image not available in dog"],
)
def test_inside_of_a_caption_it_is_a_word(caption: str) -> None:
    assert not is_missing(caption)
    assert labeler.load().label(pa.array([caption])).to_pylist() != [[]]


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "-",
        "[]",
        "untitled",
        "no caption here",
        "none of us",
        "object",
        "nan2.jpg",
        "a nan",
        "nan\u00a0x",
        "nan/dog",
        "nann",
        "<b></b>",
    ],
)
def test_other_captions_are_not_taken_for_missing(caption: str) -> None:
    assert not is_missing(caption)


names = st.sampled_from(sorted(NAMES)).map(str.upper) | st.sampled_from(sorted(NAMES))
around = st.text(" \t\v\0x\u212a\u00a0\u0131[.&;<>/\n", max_size=4)


@given(
    st.lists(
        st.one_of(
            st.none(),
            names,
            st.text(max_size=3),
            st.tuples(around, names, around).map("".join),
        )
    )
)
def test_a_batch_is_told_apart_as_each_caption_is(captions: list[str | None]) -> None:
    wanted = [caption is not None and is_missing(caption) for caption in captions]
    assert are_missing(pa.array(captions, pa.string())).tolist() == wanted
