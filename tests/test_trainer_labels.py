"""The join: each sample gets its own caption's classes, and what does not join is counted or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.labels import label_table
from trainer.data.labels import TarLabels, check_matched, check_vocabulary, find_shards, join
from vocab.errors import MismatchError
from vocab.store.label_shards import LabelShards
from vocab.store.label_writing import write_label_shards
from vocab.vocabulary import Vocabulary

DOG, CAT, CAR = 2084071, 2121620, 2958343
ROWS = [
    ("00000", "a", [DOG, CAT]),
    ("00000", "b", []),
    ("00000", "c", [CAR]),
    ("00000", "gone", [DOG]),
    ("00001", "a", [DOG]),
]


def write(place: Path, rows: list[tuple[str, str, list[int]]]) -> LabelShards:
    write_label_shards(place, label_table(*rows), labeler="test", fingerprint="f" * 64)
    return LabelShards.open(place)


def vocabulary_of(labels: LabelShards, size: int) -> Vocabulary:
    return Vocabulary.from_counts(labels.counts(), rows=5, top_k=size, sources=(labels.counts_sha256,))


def classes_of(joined: TarLabels) -> list[list[int] | None]:
    """The classes of each sample, None for one without a row."""
    ends = joined.ends.tolist()
    return [
        joined.classes[ends[i] : ends[i + 1]].tolist() if matched else None for i, matched in enumerate(joined.matched)
    ]


@pytest.fixture
def labels(tmp_path: Path) -> LabelShards:
    return write(tmp_path / "labels", ROWS)


def test_samples_get_the_classes_of_their_own_key(labels: LabelShards) -> None:
    vocabulary = vocabulary_of(labels, 3)
    assert vocabulary.names == ["dog.n.01", "cat.n.01", "car.n.01"]
    # In the tar's order, which need not be the labels'.
    joined = join(labels, vocabulary, shard="00000", keys=list("cabd"))
    assert classes_of(joined) == [[2], [0, 1], [], None]
    assert (joined.unmatched, joined.surplus) == (1, 1)


def test_a_sample_has_the_class_of_merged_synsets_once(labels: LabelShards) -> None:
    two = vocabulary_of(labels, 2)
    merged = Vocabulary(two.synsets[:1], two.captions[:1], rows=5, min_count=1, merged=((CAT, DOG), (CAR, DOG)))
    joined = join(labels, merged, shard="00000", keys=list("cab"))
    assert classes_of(joined) == [[0], [0], []]


def test_synsets_outside_the_vocabulary_are_no_classes(labels: LabelShards) -> None:
    joined = join(labels, vocabulary_of(labels, 2), shard="00000", keys=list("abc"))
    assert classes_of(joined) == [[0, 1], [], []]


def test_a_key_that_repeats_gets_its_labels_each_time_and_is_no_surplus(labels: LabelShards) -> None:
    joined = join(labels, vocabulary_of(labels, 3), shard="00000", keys=list("aca"))
    assert classes_of(joined) == [[0, 1], [2], [0, 1]]
    assert joined.surplus == 2


@pytest.mark.parametrize(("shard", "keys"), [("00000", []), ("00007", ["a", "b"]), ("00007", [])])
def test_a_tar_or_a_shard_without_samples_joins_nothing(labels: LabelShards, shard: str, keys: list[str]) -> None:
    joined = join(labels, vocabulary_of(labels, 3), shard=shard, keys=keys)
    assert classes_of(joined) == [None] * len(keys)
    assert joined.ends.tolist() == [0] * (len(keys) + 1)
    assert (joined.unmatched, joined.surplus) == (len(keys), 4 if shard == "00000" else 0)


synsets = st.sets(st.sampled_from([DOG, CAT, CAR, 5, 2**31 - 1])).map(sorted)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=2)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.dictionaries(keys, synsets, max_size=8),
    tar=st.lists(keys, max_size=8),
    size=st.integers(1, 3),
    data=st.data(),
)
def test_the_join_equals_a_look_up_of_each_key(
    tmp_path_factory: pytest.TempPathFactory,
    rows: dict[str, list[int]],
    tar: list[str],
    size: int,
    data: st.DataObject,
) -> None:
    order = data.draw(st.permutations([*tar, *list(rows)[: data.draw(st.integers(0, 8))]]))
    labels = write(
        tmp_path_factory.mktemp("join") / "labels",
        [("0", key, row) for key, row in rows.items()] + [("1", "x", [DOG]), ("1", "y", [CAT, CAR])],
    )
    vocabulary = vocabulary_of(labels, size)
    order_of = {synset: label for label, synset in enumerate(vocabulary.synsets.tolist())}
    joined = join(labels, vocabulary, shard="0", keys=order)
    assert classes_of(joined) == [
        sorted(order_of[s] for s in rows[key] if s in order_of) if key in rows else None for key in order
    ]
    assert joined.surplus == len(rows.keys() - set(order))


def test_tars_find_their_shards_by_path_or_url(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels", [("emoji/00000", "a", [DOG]), ("photos/00000", "a", [CAT]), ("7", "a", [CAR])])
    tars = ["/data/emoji/00000.tar", "s3://bucket/photos/00000.tar", "https://host/7.tar"]
    assert find_shards(labels, tars) == dict(zip(tars, ["emoji/00000", "photos/00000", "7"], strict=True))


def test_a_tar_that_the_labels_lack_is_named(labels: LabelShards) -> None:
    with pytest.raises(MismatchError, match=r"00007.tar: found no shard .*labels; wanted labels of shard '00007'"):
        find_shards(labels, ["images/00007.tar"])


def test_two_tars_never_share_labels(labels: LabelShards) -> None:
    with pytest.raises(MismatchError, match=r"which images/00000\.tar has as well; wanted one tar for each shard"):
        find_shards(labels, ["images/00000.tar", "other/00000.tar"])


def test_a_vocabulary_from_another_corpus_is_refused_unless_allowed(labels: LabelShards, tmp_path: Path) -> None:
    foreign = vocabulary_of(write(tmp_path / "other", ROWS[:1]), 2)
    with pytest.raises(MismatchError, match=r"python -m pipeline prune --labels .* or pass --allow-foreign-vocabulary"):
        check_vocabulary(labels, foreign, allow_foreign=False)
    check_vocabulary(labels, foreign, allow_foreign=True)
    check_vocabulary(labels, vocabulary_of(labels, 2), allow_foreign=False)


def test_labels_of_other_images_are_refused() -> None:
    accounts = {
        "images/0.tar": {"samples": 3, "unmatched": 3, "surplus_labels": 0},
        "images/1.tar": {"samples": 1, "unmatched": 0, "surplus_labels": 0},
    }
    with pytest.raises(
        MismatchError, match=r"labels: found no row for 3 of 4 samples of images/0\.tar, images/1\.tar; wanted .* 50%"
    ):
        check_matched(accounts, location="labels", max_unmatched_share=0.5)
    check_matched(accounts, location="labels", max_unmatched_share=0.75)
    check_matched({}, location="labels", max_unmatched_share=0.0)


def test_rows_without_their_samples_are_refused() -> None:
    # As of labels of another corpus whose shards and keys are called the same.
    accounts = {"images/0.tar": {"samples": 3, "unmatched": 1, "surplus_labels": 6}}
    with pytest.raises(
        MismatchError, match=r"labels: found 6 of 8 rows without a sample in images/0\.tar; .*python -m pipeline check"
    ):
        check_matched(accounts, location="labels", max_unmatched_share=0.5)
    check_matched(accounts, location="labels", max_unmatched_share=0.75)
