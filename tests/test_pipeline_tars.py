"""Rows that are held until their tar ends: in order, however many there are, and whatever ends the reading."""

from __future__ import annotations

import errno
import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.reading import gzip_files, tars
from pipeline.reading.captions import Piece, UnreadableFile, read_piece
from pipeline.reading.rows import ReadOptions
from pipeline.reading.tars import read_tar
from vocab.errors import InputError


def tar_of(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def reading(*captions: str, synsets: tuple[str, ...] = ()) -> ReadOptions:
    return ReadOptions("webdataset", captions, None, None, synsets=synsets)


def rows(stream: Any) -> list[tuple[str, list[bytes], str | None]]:
    return [
        (row["key"], row["captions"], row["reason"])
        for batch in read_tar(stream, reading("txt"))
        for row in batch.to_pylist()
    ]


@pytest.fixture(params=[1 << 20, 1])
def small(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of two rows, held in memory or in a file."""
    monkeypatch.setattr(tars, "BATCH_ROWS", 2)
    monkeypatch.setattr(tars, "HELD_BYTES", request.param)


@pytest.mark.usefixtures("small")
def test_the_last_sample_rejects_the_first_of_its_key() -> None:
    members = [(f"{number}.txt", f"caption {number}".encode()) for number in range(5)]
    content = tar_of(*members, ("0.txt", b"again"), ("5.jpg", b""))
    repeated = (0, 5)
    assert rows(io.BytesIO(content)) == [
        (key, captions, "repeated_key" if place in repeated else reason)
        for place, (key, captions, reason) in enumerate(
            [(name[0], [text], None) for name, text in members] + [("0", [b"again"], None), ("5", [], "no_caption")]
        )
    ]
    most = 2 if tars.HELD_BYTES > 1 else 1
    assert max(len(batch) for batch in read_tar(io.BytesIO(content), reading("txt"))) == most


class Failing(io.BytesIO):
    """A disk whose last bytes cannot be read."""

    def __init__(self, content: bytes, last: int) -> None:
        super().__init__(content)
        self.last = last

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self.last:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size)


@pytest.mark.usefixtures("small")
def test_a_disk_that_fails_leaves_the_rows_before_it() -> None:
    content = tar_of(*((f"{number}.txt", bytes(20_000)) for number in range(5)))
    found = []
    with pytest.raises(OSError, match="Input/output error"):  # noqa: PT012
        for batch in read_tar(Failing(content, 65_000), reading("txt")):
            found += batch["key"].to_pylist()
    assert found == ["0", "1", "2"]


def test_a_full_disk_of_temporary_files_is_not_taken_for_a_broken_tar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile", lambda _: Full())
    with pytest.raises(InputError, match=r"found a disk that cannot be written .*No space left.* TMPDIR"):
        rows(io.BytesIO(tar_of(("0.txt", b"a dog"))))


def test_a_path_leads_to_captions_inside_of_a_record() -> None:
    records = [b'{"a": {"b": "one"}}', b'{"a": [{"b": "two"}, {"b": ["three", 4]}], "a.c": "five"}', b'[{"a": "b"}]']
    content = tar_of(*((f"{number}.json", record) for number, record in enumerate(records)))
    (batch,) = read_tar(io.BytesIO(content), reading("json.a.b", "json.a.c"))
    assert batch["captions"].to_pylist() == [[b"one"], [b"two", b"three", b"five"], []]


def gzipped(*parts: bytes) -> bytes:
    return b"".join(gzip.compress(part, mtime=0) for part in parts)


MEMBERS = [(f"{number}.{end}", f"{number} {end}".encode() * 9000) for number in range(4) for end in ("jpg", "txt")]
LONG = [("a.txt", b"a dog"), ("a.jpg", bytes(300_000)), ("b.json", b"{}"), ("b.txt", b"a cat")]


@pytest.mark.parametrize("kept", [1 << 26, 1 << 12])
@pytest.mark.parametrize(
    "content",
    [
        gzipped(tar_of(*MEMBERS)),
        gzipped(tar_of(*MEMBERS[:3]), tar_of(*MEMBERS[3:])),
        gzipped(*(tar_of(*LONG)[start : start + 65_536] for start in range(0, 400_000, 65_536))),
        gzipped(tar_of(*LONG)) + bytes(1024),
    ],
)
def test_a_compressed_tar_gives_the_rows_of_the_tar(content: bytes, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gzip_files, "KEPT_BYTES", kept)
    monkeypatch.setattr(gzip_files, "TEXT_BYTES", 1 << 12)
    tar, damage = gzip_files.tar_stream(io.BytesIO(content))
    assert damage is None
    assert rows(tar) == rows(io.BytesIO(gzip.decompress(content)))


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (gzipped(tar_of(*LONG))[:-4], []),
        (flipped(gzipped(tar_of(*LONG)), -5), []),
        (flipped(gzipped(tar_of(*MEMBERS)), 200), []),
        (gzipped(tar_of(*LONG)) + b"junk", [("a", None), ("b", None)]),
        (gzipped(tar_of(*LONG)) + gzipped(tar_of(*MEMBERS))[:-1], [("a", None), ("b", None)]),
        (gzipped(tar_of(*LONG)[: 512 * 3]) + gzipped(tar_of(*LONG)[512 * 3 :])[:-1], [("a", "truncated_tar")]),
    ],
)
def test_a_damaged_compressed_tar_gives_no_row_that_its_checksum_does_not_cover(
    tmp_path: Path, content: bytes, found: list[tuple[str, str | None]]
) -> None:
    (tmp_path / "0.tar.gz").write_bytes(content)
    taken = []
    with pytest.raises(UnreadableFile, match="gzip"):  # noqa: PT012
        for batch in read_piece(Piece(str(tmp_path / "0.tar.gz"), "0"), reading("txt")):
            taken += [(row["key"], row["reason"]) for row in batch.to_pylist()]
    assert taken == found


def test_members_that_name_synsets_are_read_beside_captions() -> None:
    content = tar_of(("a.cls", b"n02084071\n"), ("a.txt", b"a cat"), ("b.json", b'{"s": ["dog.n.01"]}'), ("c.jpg", b""))
    (batch,) = read_tar(io.BytesIO(content), reading("txt", synsets=("cls", "json.s")))
    assert batch["named"].to_pylist() == [[b"n02084071\n"], [b"dog.n.01"], []]
    assert batch["captions"].to_pylist() == [[b"a cat"], [], []]
    assert batch["reason"].to_pylist() == [None, None, "no_caption"]
