"""Which members make a sample, alike for the job that labels, the check and the trainer."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.align.image_ids import list_image_files
from pipeline.check import account_tar, run_check
from pipeline.config import Check
from pipeline.reading.rows import ReadOptions
from pipeline.reading.tars import read_tar
from tests.labels import write_labels
from trainer.data.tar_index import FAULTS, NoTarError, index_tar
from trainer.data.tar_locations import list_tars
from vocab.errors import InputError
from vocab.store.label_shards import LabelShards
from vocab.store.tars import samples, split_name

END = bytes(1024)


def tar_bytes(*names: str, kind: int = tarfile.USTAR_FORMAT) -> bytes:
    """Members of five bytes each, without the zeros that end an archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 5
            archive.addfile(info, io.BytesIO(b"a dog"))
        length = archive.offset
    return buffer.getvalue()[:length]


def found(content: bytes) -> list[tuple[str, list[str], bool, bool]]:
    """Key, extensions, repeated and whole of each sample."""
    every = list(samples(io.BytesIO(content)))
    return [(sample.key, sorted(sample.members), sample.repeated, sample.whole) for sample in every]


def keys(content: bytes) -> list[str]:
    return [sample.key for sample in samples(io.BytesIO(content))]


@pytest.mark.parametrize(
    ("name", "key", "extension"),
    [
        ("000000003.jpg", "000000003", "jpg"),
        ("a/b.c.JPG", "a/b", "c.jpg"),
        ("a.b/c", "a.b/c", ""),
        ("../up.jpg", "../up", "jpg"),
        *((f"{folder}x.txt", "x", "txt") for folder in ("./", "././", ".//", "/", "")),
        *((f"{folder}x.txt", "a/b/x", "txt") for folder in ("a/b/", "./a/b/", "a/./b/", "a//b/", "/a/b/")),
    ],
)
def test_the_key_goes_to_the_first_dot_of_the_base_name_however_its_folder_is_spelt(
    name: str, key: str, extension: str
) -> None:
    assert split_name(name) == (key, extension)


def test_a_sample_ends_where_its_key_or_an_extension_comes_again() -> None:
    assert found(tar_bytes("a.jpg", "a.txt", "b.jpg", "a.json", "c.jpg", "c.JPG") + END) == [
        ("a", ["jpg", "txt"], True, True),
        ("b", ["jpg"], False, True),
        ("a", ["json"], True, True),
        ("c", ["jpg"], True, True),
        ("c", ["jpg"], True, True),
    ]


LITTER = (
    "._a.jpg",
    "d/._a.jpg",
    "__MACOSX/._a.jpg",
    "__MACOSX/a.jpg",
    "./__MACOSX/d/a.txt",
    ".DS_Store",
    "./.DS_Store",
    ".AppleDouble/a.jpg",
    "PaxHeaders.1234/a.jpg",
    "./PaxHeaders/a.jpg",
    "@eaDir/a.jpg/thumb.jpg",
    "Thumbs.db",
    "d/desktop.ini",
    "#recycle/a.jpg",
    "d/lost+found/a.jpg",
    "Icon\r",
    ".gitignore",
)


@pytest.mark.parametrize("litter", LITTER)
def test_what_operating_systems_leave_is_no_sample_and_parts_none(litter: str) -> None:
    content = tar_bytes(litter, "a.jpg", litter, "a.txt", litter, "b.jpg", litter) + END
    assert found(content) == [("a", ["jpg", "txt"], False, True), ("b", ["jpg"], False, True)]


@pytest.mark.parametrize(
    "name", ["Thumbs.jpg", "db.db", "my__MACOSX/a.jpg", "PaxHeadersX/a.jpg", "_a.jpg", "a/b.ini", ".d/a.jpg"]
)
def test_names_that_only_resemble_such_are_samples(name: str) -> None:
    assert len(keys(tar_bytes(name) + END)) == 1


@pytest.mark.parametrize("padding", [512, 1024, 10_240, 3 << 20])
@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_behind_one_another_are_read_as_one(padding: int, kind: int) -> None:
    long = "d" * 80 + "/" + "e" * 60
    content = tar_bytes("a.jpg", f"{long}.jpg", kind=kind) + bytes(padding)
    assert keys(
        content + tar_bytes("b.jpg") + END + tar_bytes(f"{long}2.jpg", "c.jpg", kind=kind) + bytes(padding)
    ) == [
        *("a", long, "b", f"{long}2", "c"),
    ]


@pytest.mark.parametrize(
    "garbage",
    [b"x", b"garbage " * 64, b"\0" * 511 + b"x", bytes(512) + b"x" * 512, tar_bytes("z.jpg")[:300], b"PK\3\4"],
)
def test_bytes_behind_the_end_that_are_no_archive_are_a_break(garbage: bytes) -> None:
    content = tar_bytes("a.jpg", "b.jpg") + END
    assert found(content + bytes(700)) == [("a", ["jpg"], False, True), ("b", ["jpg"], False, True)]
    assert found(content + garbage)[-1] == ("", [], False, False)
    assert keys(content + garbage)[:-1] == ["a", "b"]


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_a_sparse_member_costs_its_own_sample_alone(tmp_path: Path, form: str) -> None:
    program = shutil.which("tar")
    if program is None:
        pytest.skip("no tar to write sparse members with")
    for key in "abc":
        (tmp_path / f"{key}.txt").write_bytes(b"a dog")
        (tmp_path / f"{key}.jpg").write_bytes(b"image")
    with (tmp_path / "b.jpg").open("r+b") as hole:
        hole.seek(1 << 20)
        hole.write(b"x")
    names = [f"{key}.{extension}" for key in "abc" for extension in ("jpg", "txt")]
    subprocess.run([program, "-S", f"--format={form}", "-cf", "0.tar", *names], cwd=tmp_path, check=True)
    assert found((tmp_path / "0.tar").read_bytes()) == [
        ("a", ["jpg", "txt"], False, True),
        ("b", ["txt"], False, True),
        ("c", ["jpg", "txt"], False, True),
    ]
    index = index_tar(tmp_path / "0.tar", max_member_bytes=1 << 20)
    assert [FAULTS[fault] for fault in index.faults.tolist()] == ["", "no_image", ""]


@pytest.mark.parametrize(
    ("first", "form"),
    [
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"BZh91AY", "bzip2"),
        (b"\xfd7zXZ\0\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"PK\3\4", "zip"),
    ],
)
def test_a_compressed_tar_is_told_from_one_that_is_broken(first: bytes, form: str) -> None:
    with pytest.raises(tarfile.ReadError, match=f"a tar compressed with {form}, which is not read: unpack it first"):
        keys(first + bytes(range(256)) * 8)


READING = ReadOptions("webdataset", ("txt",), None, None)


REFUSING: dict[str, Callable[[str], object]] = {
    "check": lambda tar: run_check(Check("labels", (tar,))),
    "align": lambda tar: list_image_files((tar,), "json.uid"),
    "train": lambda tar: list_tars([tar]),
    "index": lambda tar: index_tar(Path(tar), max_member_bytes=1 << 20),
}


@pytest.mark.parametrize(
    ("verb", "name"),
    [(verb, name) for verb in REFUSING for name in ("0.tar.gz", "0.tgz", "0.tar.bz2", "0.tar.zst")]
    + [("index", "0.tar")],
)
def test_a_compressed_tar_is_refused_with_the_command_that_unpacks_it(tmp_path: Path, verb: str, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(tar_bytes("a.jpg")))
    with pytest.raises(InputError, match=r"compressed with (gzip|bzip2|zstd).*(gzip|bzip2|zstd) -d") as caught:
        REFUSING[verb](str(tmp_path / name))
    # Bad samples are passed over, up to a share.
    assert not isinstance(caught.value, NoTarError)


def labelled(content: bytes) -> list[tuple[str, str]]:
    """Key and reason of each row that the job has, "" where it is labelled."""
    rows = [row for batch in read_tar(io.BytesIO(content), READING) for row in batch.to_pylist()]
    return [(row["key"], row["reason"] or "") for row in rows]


def indexed(path: Path) -> list[tuple[str, str]]:
    index = index_tar(path, max_member_bytes=1 << 20)
    return [(key, FAULTS[fault]) for key, fault in zip(index.keys, index.faults.tolist(), strict=True)]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: Any) -> LabelShards:
    folder = tmp_path_factory.mktemp("agree") / "labels"
    write_labels(folder, ("0", "a", [2084071]))
    return LabelShards.open(folder)


names = st.builds("{}{}.{}".format, st.sampled_from(["", "", "./", "d/", "._"]), st.sampled_from("abc"),
                  st.sampled_from(["jpg", "txt", "TXT", "json"]))  # fmt: skip
archives = st.lists(st.lists(names, max_size=8), min_size=1, max_size=3)


@given(st.lists(names, max_size=12))
def test_samples_equal_those_that_a_list_of_names_gives(members: Sequence[str]) -> None:
    wanted: list[tuple[str, list[str]]] = []
    for key, extension in map(split_name, members):
        if key and wanted and wanted[-1][0] == key and extension not in wanted[-1][1]:
            wanted[-1][1].append(extension)
        elif key:
            wanted.append((key, [extension]))
    every = [key for key, _ in wanted]
    assert found(tar_bytes(*members) + END) == [
        (key, sorted(extensions), every.count(key) > 1, True) for key, extensions in wanted
    ]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(archives, st.integers(0, 4000), st.sampled_from([b"", b"junk" * 200]))
def test_label_check_and_training_see_the_same_samples(
    tmp_path: Path, labels: LabelShards, parts: Sequence[Sequence[str]], lost: int, junk: bytes
) -> None:
    content = b"".join(tar_bytes(*part) + END for part in parts)
    content = (content[: max(512, len(content) - lost)] if lost % 2 else content) + junk
    path = tmp_path / "0.tar"
    path.write_bytes(content)
    every = found(content) if content.strip(b"\0") else []
    if not every:
        return
    rows, index, account = labelled(content), indexed(path), account_tar(str(path), labels)
    assert [key for key, *_ in every] == [key for key, _ in rows] == [key for key, _ in index]
    repeated = Counter(key for key, _, again, whole in every if again and whole)
    assert Counter(key for key, reason in rows if reason == "repeated_key") == repeated
    assert Counter(key for key, fault in index if fault == "repeated_key") == repeated
    assert account.repeated == repeated.total()
    assert account.samples == len({key for key, _, _, whole in every if whole})
    assert [reason == "truncated_tar" for _, reason in rows] == [not whole for *_, whole in every]
    assert [fault == "truncated_tar" for _, fault in index] == [not whole for *_, whole in every]
    assert account.truncated == (not every[-1][3])
    counts = Counter(key for key, *_ in every if key)
    assert {key for key, *_, again, _ in every if again} == {key for key, count in counts.items() if count > 1}
