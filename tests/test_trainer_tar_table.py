"""The table of a tar: which samples it holds and what it says of them, and that its file is whole or none."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.pictures import tar_of
from tests.synsets import CAR, CAT, DOG, vocabulary_of
from tests.tar_tables import LIMIT, Asked, asked_in, content_of, damaged, labels_of
from trainer.data.tar_index import FAULTS, NoTarError, index_tar
from trainer.data.tar_tables import TarTable, read_table, write_table
from vocab.errors import FormatError, InputError


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return asked_in(tmp_path)


def stored(table: TarTable, folder: Path) -> TarTable:
    """A table, written and read back."""
    write_table(folder / "x.tar-table", table)
    read = read_table(folder / "x.tar-table")
    assert read is not None
    return read


def test_a_table_holds_the_samples_that_can_be_trained_on(asked: Asked) -> None:
    table = asked.make()
    assert content_of(table) == {
        "keys": ["dogs", "cars"],
        "indices": [1, 5],
        "offsets": [1536, 6656],
        "sizes": [15, 5],
        "class_ends": [0, 2, 2],
        "classes": [0, 1],
        "faults": [
            ("none", "no_image"),
            ("large", "image_too_large"),
            ("twice", "repeated_key"),
            ("twice", "repeated_key"),
        ],
        "account": {"samples": 7, "bad": 4, "unmatched": 1, "surplus_labels": 1, "unlabelled": 1},
    }
    assert len(table) == 2


keys = st.sampled_from(["a", "b", "c", "ä"])


@settings(max_examples=60, deadline=None)
@given(
    members=st.lists(st.tuples(keys, st.sampled_from(["jpg", "png", "txt"]), st.sampled_from([0, 7, 101])), max_size=9),
    rows=st.dictionaries(keys, st.sets(st.sampled_from([DOG, CAT, CAR])).map(sorted)),
)
def test_a_table_equals_one_made_sample_by_sample(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, str, int]], rows: dict[str, list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("table")
    path = tar_of(folder / "0.tar", *((f"{key}.{kind}", b"x" * size) for key, kind, size in members))
    labels = labels_of(folder / "labels", [("0", key, row) for key, row in rows.items()] + [("1", "z", [DOG])])
    asked = Asked(path, labels, vocabulary_of(CAR, DOG))
    index = index_tar(path, max_member_bytes=LIMIT)
    wanted: dict[str, Any] = {name: [] for name in ("keys", "indices", "offsets", "sizes", "classes", "faults")}
    ends, unmatched = [0], 0
    for place, key in enumerate(index.keys):
        if index.faults[place]:
            wanted["faults"].append((key, FAULTS[index.faults[place]]))
        elif key not in rows:
            unmatched += 1
        else:
            classes = sorted({CAR: 0, DOG: 1}[synset] for synset in rows[key] if synset != CAT)
            usable = (key, place, index.offsets[place], index.sizes[place])
            for name, value in zip(("keys", "indices", "offsets", "sizes"), usable, strict=True):
                wanted[name].append(value)
            wanted["classes"] += classes
            ends.append(ends[-1] + len(classes))
    wanted["class_ends"] = ends
    wanted["account"] = {
        "samples": len(index),
        "bad": len(wanted["faults"]),
        "unmatched": unmatched,
        "surplus_labels": len(rows.keys() - set(index.keys)),
        "unlabelled": sum(a == b for a, b in itertools.pairwise(ends)),
    }
    table = asked.make()
    assert content_of(table) == content_of(stored(table, folder)) == wanted


@pytest.mark.parametrize("content", [b"", b"<html>no tar</html>" * 99])
def test_a_file_that_is_no_tar_counts_as_all_the_samples_of_its_labels(
    asked: Asked, tmp_path: Path, content: bytes
) -> None:
    asked.path.write_bytes(content)
    for table in (asked.make(), stored(asked.make(), tmp_path)):
        assert (len(table), table.keys, table.class_ends.tolist()) == (0, [], [0])
        assert table.faults == [("", "unreadable_tar")]
        assert table.account == {"samples": 4, "bad": 4, "unmatched": 0, "surplus_labels": 0, "unlabelled": 0}
    assert asked.make(shard="unknown").account["bad"] == 1


@pytest.mark.parametrize("cut", ["inside", "padding", "between", "header"])
def test_labelled_samples_behind_a_break_count_as_bad(asked: Asked, cut: str) -> None:
    content = bytearray(asked.path.read_bytes())
    at = content.index(b"stranger.jpg")
    content[at : at + 512] = b"x" * 512
    lost = {"inside": 512, "padding": 9, "between": 0}
    asked.path.write_bytes(content if cut == "header" else content[: at - lost[cut]])
    account = asked.make().account
    # Before the break lie none, dogs and large, behind it cars and gone. How many others, nobody knows.
    broken = int(cut in ("between", "header"))
    assert account == {"samples": 5 + broken, "bad": 4 + broken, "unmatched": 0, "surplus_labels": 0, "unlabelled": 0}


def test_a_tar_that_is_not_there_is_an_error(asked: Asked, tmp_path: Path) -> None:
    for path in (tmp_path / "gone.tar", tmp_path):
        with pytest.raises(InputError, match="found no readable tar") as caught:
            asked.make(path=path)
        assert not isinstance(caught.value, NoTarError)


def test_labels_that_cannot_be_read_are_an_error(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "labels" / "part-00000.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(FormatError, match=r"part-00000\.parquet"):
        asked.make()


def test_a_table_is_mapped_and_outlives_its_file(asked: Asked, tmp_path: Path) -> None:
    mapped = stored(asked.make(), tmp_path)
    assert not mapped.offsets.flags.owndata
    (tmp_path / "x.tar-table").unlink()
    assert content_of(mapped) == content_of(asked.make())
    assert read_table(tmp_path / "x.tar-table") is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_holds_no_table(asked: Asked, tmp_path: Path, data: st.DataObject) -> None:
    file = tmp_path / "x.tar-table"
    write_table(file, asked.make())
    file.write_bytes(damaged(file.read_bytes(), data))
    assert read_table(file) is None
