"""The vocabulary: which synsets are classes, in which order, and the file that holds it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocab.errors import CatlipError, FormatError, InputError
from vocab.labeler_record import LabelerRecord
from vocab.user_lexicon import lexicon_in
from vocab.vocabulary import METADATA_KEY, Vocabulary

DOG, CAT, SOFA, TREE = 2084071, 2121620, 4256520, 13104059
COUNTS = {CAT: 7, DOG: 9, TREE: 7, SOFA: 1}


def table(counts: dict[int, int]) -> pa.Table:
    return pa.table(
        {"synset": pa.array(list(counts), pa.int32()), "captions": pa.array(list(counts.values()), pa.int64())}
    )


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary.from_counts(table(COUNTS), rows=12, min_count=2, sources=("abc",))


def test_classes_are_the_most_frequent_first_and_ties_go_by_synset(vocabulary: Vocabulary) -> None:
    assert vocabulary.synsets.tolist() == [DOG, CAT, TREE]
    assert vocabulary.captions.tolist() == [9, 7, 7]


def test_a_synset_seen_exactly_min_count_times_is_kept() -> None:
    assert len(Vocabulary.from_counts(table(COUNTS), rows=12, min_count=7)) == 3


def test_top_k_keeps_k_classes_and_knows_their_least_count() -> None:
    vocabulary = Vocabulary.from_counts(table(COUNTS), rows=12, top_k=2)
    assert (vocabulary.synsets.tolist(), vocabulary.min_count) == ([DOG, CAT], 7)


def test_classes_have_names_and_wnids(vocabulary: Vocabulary) -> None:
    assert vocabulary.names == ["dog.n.01", "cat.n.01", "tree.n.01"]
    assert vocabulary.wnids == ["n02084071", "n02121620", "n13104059"]


def test_synsets_become_classes_and_unknown_ones_minus_one(vocabulary: Vocabulary) -> None:
    found = vocabulary.classes_of(np.array([TREE, 1, DOG, SOFA, 2**31 - 1], dtype=np.int32))
    assert found.tolist() == [2, -1, 0, -1, -1]
    assert vocabulary.classes_of(np.zeros(0, dtype=np.int32)).tolist() == []


@given(st.permutations(sorted(COUNTS)))
def test_the_order_of_the_counts_changes_nothing(order: list[int]) -> None:
    shuffled = Vocabulary.from_counts(table({s: COUNTS[s] for s in order}), rows=12, min_count=1)
    assert shuffled.synsets.tolist() == [DOG, CAT, TREE, SOFA]


@given(st.lists(st.integers(1, 50), unique=True, min_size=1), st.lists(st.integers(1, 60)))
def test_classes_of_equals_a_plain_search(synsets: list[int], wanted: list[int]) -> None:
    vocabulary = Vocabulary(np.array(synsets, np.int32), np.ones(len(synsets), np.int64), rows=1, min_count=1)
    plain = [synsets.index(synset) if synset in synsets else -1 for synset in wanted]
    assert vocabulary.classes_of(np.array(wanted, dtype=np.int32)).tolist() == plain


def test_a_saved_vocabulary_reads_the_same(vocabulary: Vocabulary, tmp_path: Path) -> None:
    vocabulary.save(tmp_path / "v.parquet")
    read = Vocabulary.load(tmp_path / "v.parquet")
    assert read.synsets.tolist() == vocabulary.synsets.tolist()
    assert read.captions.tolist() == vocabulary.captions.tolist()
    assert (read.rows, read.min_count, read.sources) == (12, 2, ("abc",))
    assert read.fingerprint == vocabulary.fingerprint


def test_the_file_has_the_columns_of_the_format(vocabulary: Vocabulary, tmp_path: Path) -> None:
    vocabulary.save(tmp_path / "v.parquet")
    [dog, *_] = pq.read_table(tmp_path / "v.parquet").to_pylist()
    assert dog == {
        "label": 0,
        "synset": "n02084071",
        "captions": 9,
        "name": "dog.n.01",
        "lemmas": ["dog", "domestic_dog", "Canis_familiaris"],
    }


def test_the_same_vocabulary_gives_the_same_bytes(vocabulary: Vocabulary, tmp_path: Path) -> None:
    vocabulary.save(tmp_path / "a.parquet")
    vocabulary.save(tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_the_fingerprint_is_that_of_the_ordered_classes(vocabulary: Vocabulary) -> None:
    other = Vocabulary(vocabulary.synsets[::-1], vocabulary.captions, rows=12, min_count=2)
    assert other.fingerprint != vocabulary.fingerprint


@pytest.mark.parametrize("rule", [{}, {"min_count": 1, "top_k": 1}, {"min_count": 0}, {"top_k": 0}, {"min_count": 10}])
def test_a_rule_that_gives_no_vocabulary_is_refused(rule: dict[str, int]) -> None:
    with pytest.raises(InputError, match="vocabulary: found"):
        Vocabulary.from_counts(table(COUNTS), rows=12, **rule)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"no such file.*python -m pipeline prune"):
        Vocabulary.load(tmp_path / "v.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"text"])
def test_what_is_no_parquet_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v.parquet").write_bytes(content)
    with pytest.raises(FormatError, match="no readable Parquet file"):
        Vocabulary.load(tmp_path / "v.parquet")


def unsealed(vocabulary: pa.Table) -> bytes:
    """The metadata of an earlier release, which stored no checksum of the content."""
    header = json.loads(vocabulary.schema.metadata[METADATA_KEY])
    del header["sha256"]
    return json.dumps(header).encode()


def test_a_vocabulary_of_an_earlier_release_is_read(vocabulary: Vocabulary, tmp_path: Path) -> None:
    table = vocabulary.to_table()
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: unsealed(table)}), tmp_path / "v.parquet")
    assert Vocabulary.load(tmp_path / "v.parquet").captions.tolist() == vocabulary.captions.tolist()


def test_another_parquet_file_is_refused(tmp_path: Path) -> None:
    pq.write_table(table(COUNTS), tmp_path / "v.parquet")
    with pytest.raises(FormatError, match="something else"):
        Vocabulary.load(tmp_path / "v.parquet")


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (b'"version": 1', b'"version": 2', "format version 2, written by a newer release"),
        (b'"rows"', b'"rowz"', "unreadable metadata"),
        (b'"rows": ', b'"rows": Infinity, "x": ', "unreadable metadata"),
        (b'"rows": ', b'"rows": "many", "x": ', "unreadable metadata"),
        pytest.param(b'"rows": ', b'"rows": ' + b"[" * 100_000, "unreadable metadata", id="brackets"),
        (b'"fingerprint": "', b'"fingerprint": "0', "do not match the fingerprint"),
    ],
)
def test_altered_metadata_is_refused(
    vocabulary: Vocabulary, tmp_path: Path, old: bytes, new: bytes, found: str
) -> None:
    altered = vocabulary.to_table()
    header = unsealed(altered)
    assert old in header
    pq.write_table(altered.replace_schema_metadata({METADATA_KEY: header.replace(old, new)}), tmp_path / "v.parquet")
    with pytest.raises(FormatError, match=found):
        Vocabulary.load(tmp_path / "v.parquet")


def test_reordered_classes_are_refused(vocabulary: Vocabulary, tmp_path: Path) -> None:
    reordered = vocabulary.to_table().take([1, 0, 2])
    pq.write_table(reordered, tmp_path / "v.parquet")
    with pytest.raises(CatlipError, match="does not match the checksum"):
        Vocabulary.load(tmp_path / "v.parquet")
    # Of an earlier release, which stored no checksum.
    pq.write_table(reordered.replace_schema_metadata({METADATA_KEY: unsealed(reordered)}), tmp_path / "v.parquet")
    with pytest.raises(CatlipError, match="do not match the fingerprint"):
        Vocabulary.load(tmp_path / "v.parquet")


def test_log_odds_are_those_of_the_frequency_and_finite_for_none_and_all() -> None:
    synsets = np.array([DOG, CAT, SOFA, TREE], np.int32)
    vocabulary = Vocabulary(synsets, np.array([100, 50, 20, 0], np.int64), rows=100, min_count=0)
    assert vocabulary.log_odds.tolist() == pytest.approx([4.60517, 0.0, -1.386294, -4.60517], abs=1e-5)


@pytest.mark.parametrize(("captions", "wanted"), [([4, 1], [1.386294, -1.386294]), ([0, 0], [0.0, 0.0])])
def test_log_odds_without_a_count_of_rows_take_them_to_hold_one_class_each(
    captions: list[int], wanted: list[float]
) -> None:
    vocabulary = Vocabulary(np.array([DOG, CAT], np.int32), np.array(captions, np.int64), rows=0, min_count=0)
    assert vocabulary.log_odds.tolist() == pytest.approx(wanted, abs=1e-5)


def test_the_file_says_which_classes_a_picture_can_show(tmp_path: Path) -> None:
    price = 13303315
    Vocabulary.from_counts(table({DOG: 3, price: 2, CAT: 1}), rows=9, min_count=1).save(tmp_path / "v.parquet")
    header = json.loads(pq.read_schema(tmp_path / "v.parquet").metadata[METADATA_KEY])
    assert header["depictable"] == "101"
    assert {"merged", "choice"}.isdisjoint(header)


def test_a_table_that_another_program_wrote_back_is_refused(vocabulary: Vocabulary, tmp_path: Path) -> None:
    edited = vocabulary.to_table().slice(1).replace_schema_metadata(None)
    pq.write_table(edited, tmp_path / "v.parquet")
    with pytest.raises(FormatError, match=r"columns of a vocabulary without its metadata.*--only and --without"):
        Vocabulary.load(tmp_path / "v.parquet")


def test_a_vocabulary_with_a_class_taken_out_by_hand_is_refused(vocabulary: Vocabulary, tmp_path: Path) -> None:
    whole = vocabulary.to_table()
    pq.write_table(whole.slice(0, 2), tmp_path / "v.parquet")
    with pytest.raises(FormatError, match="content that does not match the checksum"):
        Vocabulary.load(tmp_path / "v.parquet")


@pytest.mark.parametrize(
    ("merged", "found"),
    [
        (((SOFA, 1),), "a synset merged into one that is no class"),
        (((DOG, CAT),), "a synset that stands twice"),
    ],
)
def test_a_merge_that_contradicts_the_classes_is_refused(
    merged: tuple[tuple[int, int], ...], found: str, tmp_path: Path
) -> None:
    synsets, captions = np.array([DOG, CAT], np.int32), np.array([2, 1], np.int64)
    Vocabulary(synsets, captions, rows=3, min_count=1, merged=merged).save(tmp_path / "v.parquet")
    with pytest.raises(FormatError, match=found):
        Vocabulary.load(tmp_path / "v.parquet")


OF_CATLIP = {"name": "catlip", "fingerprint": "f"}


@pytest.mark.parametrize(
    "labeler",
    [
        [], "catlip", {}, {"name": "catlip"}, OF_CATLIP | {"lexicon": ""}, OF_CATLIP | {"lexicon": "dog\n"},
        OF_CATLIP | {"lexicon": "dog\tcat\n"}, OF_CATLIP | {"lexicon": "a b c d e\tn02084071\n"},
    ],
)  # fmt: skip
def test_a_labeler_that_is_none_is_refused(labeler: object, tmp_path: Path) -> None:
    stored = Vocabulary.from_counts(table(COUNTS), rows=12, min_count=2).to_table()
    header = json.loads(stored.schema.metadata[METADATA_KEY])
    del header["sha256"]
    stored = stored.replace_schema_metadata({METADATA_KEY: json.dumps(header | {"labeler": labeler})})
    pq.write_table(stored, tmp_path / "v.parquet")
    with pytest.raises(FormatError, match="unreadable metadata"):
        Vocabulary.load(tmp_path / "v.parquet")


def test_a_vocabulary_keeps_the_labeler_of_its_labels(tmp_path: Path) -> None:
    record = LabelerRecord("catlip", "f" * 64, lexicon=lexicon_in("vintage =\ndog = cat.n.01", name=""))
    Vocabulary.from_counts(table(COUNTS), rows=12, min_count=2, labeler=record).save(tmp_path / "v.parquet")
    assert Vocabulary.load(tmp_path / "v.parquet").labeler == record
