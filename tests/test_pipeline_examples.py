"""Captions beside synsets: the same captions as the job reads, without Spark, from the labels' own files alone."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import caption_sample
from pipeline.caption_sample import sample_captions
from pipeline.config import Label
from pipeline.reading.inputs import list_inputs
from pipeline.report.examples import choose, examples_of, label_again
from tests.synsets import CAT, DOG
from vocab import labeler
from vocab.errors import InputError, MismatchError
from vocab.store.manifest import InputFile, Manifest


@dataclass(frozen=True)
class Labels:
    """Label directory of which only the manifest is read."""

    manifest: Manifest

    def lexicon(self) -> None:
        """No words of the user's own."""


def manifest_of(places: Path | None = None, **config: Any) -> Manifest:
    inputs = () if places is None else list_inputs((str(places),), config.get("format", "auto")).files
    ours = labeler.load()
    return Manifest(ours.name, ours.fingerprint, "3.0", (), 0, 0, 0, 0, inputs=inputs, config=config)


def write_tsv(place: Path) -> dict[str, Any]:
    lines = [b"caption\turl", b"a dog\tu1", b"a \xff cat\tu2", b"one\rline\tu3", b"", b"no url", b'a "q\tu4']
    (place / "a.tsv").write_bytes(b"\r\n".join(lines) + b"\n")
    (place / "b.tsv").write_bytes(b"caption\turl\nsecond file\tu\n")
    return {}


def write_headless_tsv(place: Path) -> dict[str, Any]:
    (place / "a.tsv").write_text("u1\ta dog\nu2\ta cat\n")
    return {"columns": ("url", "TEXT"), "caption_columns": ("TEXT",)}


def write_csv(place: Path) -> dict[str, Any]:
    (place / "a.csv").write_text('id,caption\n1,"a dog, ""running""\nhome"\n2,a cat\n3,\n')
    return {}


def write_jsonl(place: Path) -> dict[str, Any]:
    records: list[object] = [
        {"title": "a dog", "alt": ["a cat", "a couch"]},
        {"title": "[Explored] dog", "alt": None},
        {"alt": ["only alt"]},
    ]
    lines = [json.dumps(record) for record in records]
    (place / "a.jsonl").write_text("\n".join([*lines, "", '{"title": "broken']) + "\n")
    return {"caption_columns": ("title", "alt")}


def write_parquet(place: Path) -> dict[str, Any]:
    table = {"TEXT": ["a dog", None, "a cat"], "more": [["x y"], [], None], "other": [1, 2, 3]}
    pq.write_table(pa.table(table), place / "a.parquet")
    return {"caption_columns": ("TEXT", "more")}


def write_img2dataset(place: Path) -> dict[str, Any]:
    table = {"key": ["0", "1"], "caption": ["a dog", "never downloaded"], "status": ["success", "failed_to_download"]}
    pq.write_table(pa.table(table), place / "00000.parquet")
    (place / "00000.tar").write_bytes(bytes(10240))
    return {}


def write_tar(place: Path) -> dict[str, Any]:
    with tarfile.open(place / "00000.tar", "w") as tar:
        for name, content in (("0.jpg", b"\xff\xd8"), ("0.txt", b"a dog"), ("1.txt", b"a \xff cat"), ("2.jpg", b"x")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return {}


WRITERS: list[tuple[Callable[[Path], dict[str, Any]], set[str]]] = [
    (write_tsv, {"a dog", "one\rline", 'a "q', "second file"}),
    (write_headless_tsv, {"a dog", "a cat"}),
    (write_csv, {'a dog, "running"\nhome', "a cat", ""}),
    (write_jsonl, {"a dog", "a cat", "a couch", "[Explored] dog", "only alt"}),
    (write_parquet, {"a dog", "x y", "a cat"}),
    (write_img2dataset, {"a dog"}),
    (write_tar, {"a dog"}),
]


@pytest.mark.parametrize(("write", "texts"), WRITERS, ids=[write.__name__[6:] for write, _ in WRITERS])
def test_the_sample_holds_the_captions_that_the_job_labels(
    tmp_path: Path, write: Callable[[Path], dict[str, Any]], texts: set[str]
) -> None:
    options = Label((str(tmp_path),), "unused", **write(tmp_path))
    inputs = list_inputs(options.captions, "auto")
    sample = sample_captions(manifest_of(tmp_path, **asdict(options) | {"format": inputs.format}), (str(tmp_path),))
    assert set(sample.texts) == texts
    assert (sample.files, sample.listed) == (len(inputs.files), len(inputs.files))


def test_a_caption_of_a_synset_holds_its_noun(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("caption\nthree dogs\na cat\nnothing of the kind\n")
    manifest = manifest_of(tmp_path)
    # Labels may lie among their captions.
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/part-0.parquet").touch()
    labelled = label_again(Labels(manifest), (str(tmp_path),), apart_from=str(tmp_path / "labels"))
    found = examples_of(labelled, np.array([DOG, CAT], dtype=np.int32), count=3)
    assert found.captions == {DOG: ["three dogs"], CAT: ["a cat"]}
    assert (found.sample.rows, found.sample.files, found.sample.listed) == (3, 1, 1)


def test_examples_are_spread_from_the_first_to_the_last() -> None:
    lists = pa.array([[5], [], [5, 7], [5], [5], [5, 9], [7]], pa.list_(pa.int32()))
    assert choose(lists, np.array([5, 7, 8], dtype=np.int32), count=3) == {5: [0, 3, 5], 7: [2, 6]}
    assert choose(lists, np.array([8], dtype=np.int32), count=3) == {}


def test_a_sample_is_bounded_in_files_rows_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10):
        rows = "".join(f"caption {number} {row}\n" for row in range(100))
        (tmp_path / f"{number}.tsv").write_text("caption\n" + rows)
    monkeypatch.setattr(caption_sample, "MAX_FILES", 3)
    monkeypatch.setattr(caption_sample, "MAX_ROWS", 30)
    sample = sample_captions(manifest_of(tmp_path), (str(tmp_path),))
    assert (sample.files, sample.listed, sample.rows) == (3, 10, 30)
    assert [text for text in sample.texts if text.endswith(" 0")] == ["caption 0 0", "caption 4 0", "caption 9 0"]
    # 22 bytes a file and 11 a caption: a file ends with the caption that exceeds its share of what was left free.
    monkeypatch.setattr(caption_sample, "MAX_BYTES", 66)
    assert sample_captions(manifest_of(tmp_path), (str(tmp_path),)).rows == 7


def test_captions_that_the_job_found_too_long_are_no_examples(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("caption\ndog\nlong caption\n")
    assert sample_captions(manifest_of(tmp_path, max_caption_bytes=5), (str(tmp_path),)).texts == ["dog"]


def test_files_that_the_labels_were_not_made_from_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "a.tsv").write_text("caption\ndog\n")
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "a.tsv").write_text("caption\ndog\n")
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "a.tsv").write_text("caption\nsomething else\n")
    manifest = manifest_of(tmp_path / "ours")
    assert sample_captions(manifest, (str(tmp_path / "moved"),)).texts == ["dog"]
    with pytest.raises(MismatchError, match=r"others/a\.tsv: found a file of 23 bytes that the labels were not made"):
        sample_captions(manifest, (str(tmp_path / "others"),))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("title\ndog\n")
    with pytest.raises(InputError, match="found columns title; wanted a column 'caption'"):
        sample_captions(manifest_of(tmp_path), (str(tmp_path),))


@pytest.mark.parametrize("name", ["a.parquet", "a.tsv.gz"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"neither of the two")
    with pytest.raises(InputError, match=f"{name}: found a file that cannot be read"):
        sample_captions(manifest_of(tmp_path), (str(tmp_path),))


@pytest.mark.parametrize(
    ("name", "found"),
    [("catlip", "labels by catlip 000000000000; wanted labels by catlip"), ("x", "labels by 'x'; wanted")],
)
def test_labels_of_another_labeler_get_no_captions(tmp_path: Path, name: str, found: str) -> None:
    (tmp_path / "a.tsv").write_text("caption\ndog\n")
    manifest = Manifest(name, "0" * 64, "3.0", (), 0, 0, 0, 0, inputs=(InputFile("a.tsv", 12, ""),))
    with pytest.raises(MismatchError, match=found):
        label_again(Labels(manifest), (str(tmp_path),))


def test_a_file_without_a_row_gives_no_example(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("caption\n")
    found = examples_of(
        label_again(Labels(manifest_of(tmp_path)), (str(tmp_path),)), np.array([DOG], np.int32), count=3
    )
    assert (found.captions, found.sample.rows) == ({}, 0)
