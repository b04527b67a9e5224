"""The library call, and what it makes of hostile captions."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.labeling import label_lists, with_synsets
from vocab import labeler
from vocab.errors import InputError

DOG, CAT, SOFA = 2084071, 2121620, 4256520


def labels(*rows: list[bytes], limit: int = 100) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = label_lists(pa.array(rows, pa.list_(pa.binary())), limit).to_pylist()
    return result


def test_a_row_gets_the_union_of_its_captions() -> None:
    assert labels([b"a dog", b"dog and cat", b"nothing"])[0]["synsets"] == [DOG, CAT]


@pytest.mark.parametrize(
    ("captions", "reason"),
    [
        ([], "null_caption"),
        ([b"dog \xff"], "not_utf8"),
        ([b"dog", b"\xed\xa0\x80"], "not_utf8"),
        ([b"dog " * 26], "caption_too_long"),
    ],
)
def test_a_row_that_cannot_be_labelled_says_why(captions: list[bytes], reason: str) -> None:
    before, bad, after = labels([b"dog"], captions, [b"cat"])
    assert bad == {"synsets": None, "reason": reason}
    assert (before["synsets"], after["synsets"]) == ([DOG], [CAT])


@pytest.mark.parametrize("captions", [[b""], [b"  \t"], [b"of the"]])
def test_a_caption_without_a_noun_is_empty_not_rejected(captions: list[bytes]) -> None:
    assert labels(captions) == [{"synsets": [], "reason": None}]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.one_of(st.binary(max_size=8), st.sampled_from([b"dog", b"cats", b"sofa"])), max_size=3)))
def test_a_batch_equals_its_rows_one_by_one(rows: list[list[bytes]]) -> None:
    assert labels(*rows) == [labels(row)[0] for row in rows]


def test_with_synsets_adds_a_column_and_keeps_the_others(spark: Any) -> None:
    frame = spark.createDataFrame(
        [(1, "a couch", ["dogs"]), (2, None, ["cat", None]), (3, None, None)],
        "id int, title string, alts array<string>",
    )
    rows = with_synsets(frame, captions=("title", "alts")).orderBy("id").collect()
    assert [row.asDict() for row in rows] == [
        {"id": 1, "title": "a couch", "alts": ["dogs"], "synsets": [DOG, SOFA]},
        {"id": 2, "title": None, "alts": ["cat", None], "synsets": [CAT]},
        {"id": 3, "title": None, "alts": None, "synsets": None},
    ]


def test_spark_and_the_labeler_agree(spark: Any) -> None:
    captions = ["two Golden Retrievers", "", "hot dogs & mice", "ice-cream", "<b>sofa</b>"] * 20
    frame = spark.createDataFrame([(i, c) for i, c in enumerate(captions)], "id int, caption string")
    rows = with_synsets(frame, captions=("caption",)).orderBy("id").collect()
    assert [row["synsets"] for row in rows] == labeler.load().label(pa.array(captions)).to_pylist()


def test_a_missing_column_is_named_with_those_there_are(spark: Any) -> None:
    frame = spark.createDataFrame([("a",)], "text string")
    with pytest.raises(InputError, match="found columns text; wanted a column 'caption'"):
        with_synsets(frame, captions=("caption",))


def test_a_column_of_numbers_holds_no_captions(spark: Any) -> None:
    frame = spark.createDataFrame([(1,)], "caption int")
    with pytest.raises(InputError, match="found type int"):
        with_synsets(frame, captions=("caption",))
