"""Classes that a user chooses beside their counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import Prune
from pipeline.prune import Pruned, preview, prune
from tests.labels import label_table
from tests.synsets import CAT, COUCH, DOG
from vocab import near_duplicates
from vocab.errors import FormatError, InputError
from vocab.near_duplicates import groups_in
from vocab.store.label_writing import write_label_shards
from vocab.vocabulary import Vocabulary

POODLE, PRICE, SLATTERN = 2113335, 13303315, 10609198
GIRL, LASS, FEMALE_CHILD = 10129825, 10247358, 10084295
ROWS = (
    ("0", "a", [DOG, PRICE]),
    ("0", "b", [DOG, POODLE]),
    ("0", "c", [CAT, PRICE]),
    ("0", "d", [COUCH]),
    ("0", "e", [SLATTERN]),
    ("0", "f", sorted([GIRL, LASS])),
    ("0", "g", [FEMALE_CHILD]),
    ("0", "h", [GIRL]),
)


def choose(folder: Path, *, name: str = "v", **options: Any) -> Pruned:
    """Prune the rows above; `lists` in options hold texts of lists."""
    if not (folder / "labels").exists():
        write_label_shards(folder / "labels", label_table(*ROWS), labeler="catlip", fingerprint="f")
    options = {"min_count": 1, "out": folder / f"{name}.parquet", **options}
    return prune(Prune((str(folder / "labels"),), **options))


def names(chosen: Pruned) -> list[str]:
    return sorted(chosen.vocabulary.names)


def listed(folder: Path, text: str) -> tuple[str]:
    (folder / "list.txt").write_text(text)
    return (str(folder / "list.txt"),)


def test_only_what_a_picture_can_show_is_kept(tmp_path: Path) -> None:
    chosen = choose(tmp_path, depictable=True)
    assert names(chosen) == [
        "cat.n.01", "dog.n.01", "female_child.n.01", "girl.n.01", "lass.n.01", "poodle.n.01", "slattern.n.02",
        "sofa.n.01",
    ]  # fmt: skip
    assert Vocabulary.load(tmp_path / "v.parquet").choice == ("--depictable",)


def test_only_the_listed_synsets_are_kept(tmp_path: Path) -> None:
    chosen = choose(tmp_path, only=listed(tmp_path, "dog.n.01+\nsofa.n.01\n"))
    assert names(chosen) == ["dog.n.01", "poodle.n.01", "sofa.n.01"]
    assert chosen.remarks == (
        "188 synsets of --only in no caption",
        "few classes for a model to tell apart: a wider choice or more captions would give more",
    )


def test_the_listed_synsets_are_left_out(tmp_path: Path) -> None:
    assert names(choose(tmp_path, without=listed(tmp_path, "person.n.01+\nprice.n.02"))) == [
        "cat.n.01", "dog.n.01", "poodle.n.01", "sofa.n.01",
    ]  # fmt: skip
    assert "slattern.n.02" not in names(choose(tmp_path, name="w", without=("slurs-and-adult",)))


def test_lists_are_united_and_what_is_left_out_goes(tmp_path: Path) -> None:
    chosen = choose(tmp_path, only=("imagenet-1k", *listed(tmp_path, "dog.n.01+")))
    assert names(chosen) == ["dog.n.01", "poodle.n.01"]
    (tmp_path / "less.txt").write_text("poodle")
    less = choose(tmp_path, name="w", only=listed(tmp_path, "dog.n.01+"), without=(str(tmp_path / "less.txt"),))
    assert names(less) == ["dog.n.01"]
    assert less.vocabulary.choice == (f"--only {tmp_path}/list.txt", f"--without {tmp_path}/less.txt")


def test_the_vocabulary_holds_no_secret_of_a_list_s_location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vocab.synset_lists.read_whole", lambda location, most: b"dog.n.01")
    choose(tmp_path, only=("https://user:word@host/list.txt?X-Amz-Signature=9f86",))
    assert Vocabulary.load(tmp_path / "v.parquet").choice == ("--only https://host/list.txt?...",)


def test_the_size_is_that_of_the_chosen_synsets(tmp_path: Path) -> None:
    chosen = choose(tmp_path, only=listed(tmp_path, "cat.n.01\nsofa.n.01"), min_count=None, top_k=1)
    assert names(chosen) == ["cat.n.01"]


def test_duplicates_are_one_class_and_a_caption_of_two_counts_once(tmp_path: Path) -> None:
    chosen = choose(tmp_path, merge_duplicates=True, count_unlabelled=True).vocabulary
    assert chosen.merged == ((FEMALE_CHILD, GIRL), (LASS, GIRL))
    assert dict(zip(chosen.synsets.tolist(), chosen.captions.tolist(), strict=True))[GIRL] == 3
    read = Vocabulary.load(tmp_path / "v.parquet")
    assert (read.merged, read.fingerprint) == (chosen.merged, chosen.fingerprint)
    girl, lass, child, dog = read.classes_of(np.array([GIRL, LASS, FEMALE_CHILD, DOG], np.int32)).tolist()
    assert girl == lass == child != dog
    assert str(choose(tmp_path, name="w", merge_duplicates=True, count_unlabelled=True)).startswith(
        "7 classes seen in at least 1 of 8 captions, 1.38 labels per caption, 0 captions (0.0%) without one, "
        "2 synsets merged into another"
    )


def test_a_synset_that_was_left_out_counts_for_no_class(tmp_path: Path) -> None:
    chosen = choose(tmp_path, without=listed(tmp_path, "lass.n.01"), merge_duplicates=True).vocabulary
    assert chosen.merged == ((FEMALE_CHILD, GIRL),)


def test_without_duplicates_nothing_is_merged(tmp_path: Path) -> None:
    chosen = choose(tmp_path, only=listed(tmp_path, "animal.n.01+"), merge_duplicates=True).vocabulary
    assert chosen.merged == ()


def test_merging_changes_the_fingerprint(tmp_path: Path) -> None:
    only = listed(tmp_path, "girl.n.01")
    plain = choose(tmp_path, only=only).vocabulary
    merged = Vocabulary(plain.synsets, plain.captions, plain.rows, 1, merged=((LASS, GIRL),))
    assert plain.fingerprint != merged.fingerprint
    assert plain.fingerprint == plain.sha256_of_synsets == merged.sha256_of_synsets


def test_a_list_that_leaves_no_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--only .*list\.txt: found none of its 1 synset in the labels"):
        choose(tmp_path, only=listed(tmp_path, "wombat.n.01"))
    with pytest.raises(InputError, match=r"--without .*list\.txt: found none of the 9 synsets of the labels left"):
        choose(tmp_path, without=listed(tmp_path, "entity.n.01+"))
    with pytest.raises(InputError, match=r"--only .*list\.txt --depictable: found none of the 9 synsets"):
        choose(tmp_path, only=listed(tmp_path, "price.n.02"), depictable=True)
    assert not (tmp_path / "v.parquet").exists()


def test_the_preview_counts_the_chosen_synsets(tmp_path: Path) -> None:
    choose(tmp_path)
    table = preview(Prune((str(tmp_path / "labels"),), only=listed(tmp_path, "dog.n.01+")))
    assert [line.split() for line in table.splitlines()[1:3]] == [["1", "2", "0.38"], ["2", "1", "0.25"]]
    assert table.splitlines()[-1] == "188 synsets of --only in no caption"


def test_the_groups_of_duplicates_hold_each_synset_once() -> None:
    groups = near_duplicates.load()
    assert (GIRL, LASS, FEMALE_CHILD) in groups
    assert len({synset for group in groups for synset in group}) == sum(map(len, groups))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("girl.n.01 lasss.n.01", r"lasss\.n\.01: found no such synset; .*Did you mean"),
        ("girl.n.01 lass.n.01\nlass.n.01 dog.n.01", "lass.n.01: found once more"),
        ("girl.n.01", "found one synset"),
    ],
)
def test_a_wrong_line_of_duplicates_is_named(text: str, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        groups_in(text)
