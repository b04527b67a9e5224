"""Hostile text raises nothing, and is labelled alone as in a batch and as by the plain rule."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.hostile_text import KINDS
from pipeline.explain import explain
from pipeline.labels import label_lists
from pipeline.reading import json_captions as jsonl
from pipeline.reading import tars
from pipeline.reading.rows import ReadOptions
from vocab import labeler, plain, spacy_labeler
from vocab.cleaning import clean, clean_all

READING = ReadOptions("jsonl", ("caption",), None, None)
DIGITS = 5_000
"""more than the 4,300 that Python makes an int of"""
LONG = {
    "decimal": "a dog &#" + "1" * DIGITS + ";",
    "zeros before a digit": "&#" + "0" * DIGITS + "100;og",
    "zeros alone": "a dog &#" + "0" * DIGITS,
    "hexadecimal": "a dog &#x" + "f" * DIGITS + ";",
    "escaped": "a dog &amp;#" + "1" * DIGITS + ";",
    "in per cent signs": "a dog %26%23" + "1" * DIGITS,
    "in both": "a dog %26amp%3b%23" + "1" * DIGITS,
}

units = st.sampled_from(sorted({KINDS[kind](40)[:12] for kind in KINDS}))
hostile = st.lists(
    st.one_of(
        st.text(max_size=10),
        st.tuples(units, st.integers(1, 8)).map(lambda run: run[0] * run[1]),
        st.sampled_from(["&#" + "9" * DIGITS + ";", "&#x" + "9" * DIGITS, "nan", " dog ", "’", "\u00c3\u00a9"]),
    ),
    max_size=6,
).map("".join)


def test_every_kind_is_about_as_large_as_asked_for() -> None:
    sizes = {kind: len(build(1_000).encode()) for kind, build in KINDS.items()}
    assert {kind: size for kind, size in sizes.items() if not 850 <= size <= 1_000} == {}


@pytest.mark.parametrize("caption", LONG.values(), ids=LONG)
def test_an_entity_may_have_any_number_of_digits(caption: str) -> None:
    ours = labeler.load()
    [labels] = ours.label(pa.array([caption])).to_pylist()
    assert labels == [2084071]
    assert plain.label(ours, [caption]) == [labels]
    assert "dog.n.01" in explain([caption])


@pytest.mark.parametrize("size", [60, 700])
def test_every_kind_is_labelled_alone_as_in_a_batch_and_as_by_the_plain_rule(size: int) -> None:
    ours = labeler.load()
    texts = [build(size) for build in KINDS.values()]
    together = ours.label(pa.array(texts)).to_pylist()
    assert together == [ours.label(pa.array([text])).to_pylist()[0] for text in texts]
    assert dict(zip(KINDS, together, strict=True)) == dict(zip(KINDS, plain.label(ours, texts), strict=True))


@settings(max_examples=200, deadline=None)
@given(st.lists(hostile, max_size=6))
def test_any_hostile_batch_is_labelled_as_its_captions_are(batch: list[str]) -> None:
    ours = labeler.load()
    together = ours.label(pa.array(batch, pa.string())).to_pylist()
    assert together == [ours.label(pa.array([caption])).to_pylist()[0] for caption in batch]
    assert together == plain.label(ours, batch)
    cleaned = clean_all(pa.array(batch, pa.string()))
    assert [cleaned.text[a:b].tobytes().decode() for a, b in pairwise(cleaned.starts.tolist())] == [
        clean(caption)[0] for caption in batch
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.one_of(hostile.map(str.encode), st.binary(max_size=9)), max_size=3), max_size=4))
def test_any_row_is_labelled_or_has_a_reason(rows: list[list[bytes]]) -> None:
    labels = label_lists(pa.array(rows, pa.list_(pa.binary())), 4_000).to_pylist()
    assert [(row["synsets"] is None) != (row["reason"] is None) for row in labels] == [True] * len(rows)
    assert labels == [label_lists(pa.array([row], pa.list_(pa.binary())), 4_000).to_pylist()[0] for row in rows]


RECORDS = {
    "a number of more digits than Python reads": (
        '{"caption": "a dog", "n": ' + "1" * DIGITS + "}",
        "malformed_record",
    ),
    "a key of as many": ('{"key": -' + "1" * DIGITS + ', "caption": "a dog"}', "malformed_record"),
    "lists in lists": ('{"caption": "a dog", "n": ' + "[" * 100_000 + "]" * 100_000 + "}", "malformed_record"),
    "half a surrogate pair": ('{"caption": "a dog \\ud800"}', "not_utf8"),
    "no number": ('{"caption": NaN}', "null_caption"),
    "a text of that name": ('{"caption": "NaN"}', "missing_value"),
    "a number beyond all": ('{"caption": "a dog", "n": 1e99999}', None),
}


@pytest.mark.parametrize(("record", "reason"), RECORDS.values(), ids=RECORDS)
def test_a_hostile_json_record_costs_its_own_row_alone(record: str, reason: str | None) -> None:
    content = record.encode()
    lines = b"\n".join([b'{"caption": "a dog"}', content, b'{"caption": "a cat"}'])
    found = [
        row["reason"] for batch in jsonl.read_jsonl(io.BytesIO(lines), "a.jsonl", 0, READING) for row in rows_of(batch)
    ]
    assert found == [None, reason, None]
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name, member in (("a.json", b'{"caption": "a dog"}'), ("b.json", content)):
                info = tarfile.TarInfo(name)
                info.size = len(member)
                tar.addfile(info, io.BytesIO(member))
        file.seek(0)
        found = [
            row["reason"]
            for batch in tars.read_tar(file, replace(READING, captions=("json.caption",)))
            for row in rows_of(batch)
        ]
    assert found == [None, "no_caption" if reason == "null_caption" else reason]


def rows_of(batch: pa.RecordBatch) -> list[dict[str, object]]:
    """Rows of a batch as the job labels them: the reason of the reader first."""
    labels = label_lists(batch.column("captions"), 4_000).to_pylist()
    read = batch.column("reason").to_pylist()
    return [{**row, "reason": reason or row["reason"]} for reason, row in zip(read, labels, strict=True)]


@settings(max_examples=50, deadline=None)
@given(st.one_of(hostile, st.text(st.characters(), max_size=20)))
def test_anything_can_be_explained_and_written(caption: str) -> None:
    assert explain([caption]).encode()


@pytest.mark.parametrize(
    ("caption", "reason"), [("a dog \udcff", "not_utf8"), ("\ud800", "not_utf8"), ("NaN", "missing_value")]
)
def test_a_caption_that_the_job_rejects_is_explained_by_the_reason(caption: str, reason: str) -> None:
    assert explain([caption]).endswith(f"\nrejected  {reason}\n")


@pytest.fixture(scope="module")
def over_spacy() -> spacy_labeler.SpacyLabeler:
    spacy = pytest.importorskip("spacy", reason="needs spaCy: pip install 'open-catlip[spacy]'")
    nlp = spacy.blank("en")
    nlp.add_pipe("attribute_ruler").add(patterns=[[{"ORTH": {"REGEX": "."}}]], attrs={"POS": "NOUN"})
    return spacy_labeler.SpacyLabeler(nlp, "a pipeline to which everything is a noun", labeler.load())


@settings(max_examples=50, deadline=None)
@given(st.lists(hostile, max_size=4))
def test_spacy_takes_any_hostile_batch(over_spacy: spacy_labeler.SpacyLabeler, batch: list[str]) -> None:
    together = over_spacy.label(pa.array(batch, pa.string())).to_pylist()
    assert together == [over_spacy.label(pa.array([caption])).to_pylist()[0] for caption in batch]


@pytest.mark.parametrize("kind", KINDS)
def test_other_labelers_take_every_kind(over_spacy: spacy_labeler.SpacyLabeler, kind: str) -> None:
    over_spacy.label(pa.array([KINDS[kind](6_000)]))
    pytest.importorskip("nltk", reason="needs NLTK: pip install nltk ftfy")
    ftfy = pytest.importorskip("ftfy", reason="needs ftfy: pip install nltk ftfy")
    from nltk.tokenize import NLTKWordTokenizer

    from vocab import reference

    split = partial(reference._split_words, sentences=reference.untrained_punkt(), words=NLTKWordTokenizer())
    # Where synsets come from is a dictionary: the text has been taken apart before.
    released = reference.ReferenceLabeler(split, lambda word: None, ftfy.fix_text, "no WordNet")
    assert released.label(pa.array([KINDS[kind](6_000)])).to_pylist() == [[]]
