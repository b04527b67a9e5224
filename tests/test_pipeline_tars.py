"""Rows that are held until their tar ends: in order, however many there are, and whatever ends the reading."""

from __future__ import annotations

import errno
import io
import tarfile
from typing import Any

import pytest

from pipeline import tars
from pipeline.tars import read_tar
from vocab.errors import InputError


def tar_of(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def rows(stream: Any) -> list[tuple[str, list[bytes], str | None]]:
    return [
        (row["key"], row["captions"], row["reason"])
        for batch in read_tar(stream, ("txt",))
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
    assert max(len(batch) for batch in read_tar(io.BytesIO(content), ("txt",))) == most


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
        for batch in read_tar(Failing(content, 65_000), ("txt",)):
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
    (batch,) = read_tar(io.BytesIO(content), ("json.a.b", "json.a.c"))
    assert batch["captions"].to_pylist() == [[b"one"], [b"two", b"three", b"five"], []]
