"""Whose member is whose in a WebDataset tar, and where an archive breaks off."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocab.tars import BrokenTar, split_name, walk


def tar_of(*names: str, size: int = 700) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = size
            archive.addfile(member, io.BytesIO(b"x" * size))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "key", "extension"),
    [
        ("000000003.jpg", "000000003", "jpg"),
        ("a/b.c.JPG", "a/b", "c.jpg"),
        ("a.b/c", "a.b/c", ""),
        ("./x.txt", "./x", "txt"),
        (".hidden", "", "hidden"),
    ],
)
def test_the_key_goes_to_the_first_dot_of_the_base_name(name: str, key: str, extension: str) -> None:
    assert split_name(name) == (key, extension)


def test_members_are_found_where_they_lie() -> None:
    content = tar_of("1.jpg", "1.txt")
    members = list(walk(io.BytesIO(content)))
    assert [member.name for member in members] == ["1.jpg", "1.txt"]
    assert all(content[m.offset : m.offset + m.size] == b"x" * 700 for m in members)


def test_links_devices_and_folders_are_passed_over() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind in (("l.jpg", tarfile.SYMTYPE), ("d.jpg", tarfile.CHRTYPE), ("f", tarfile.DIRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    assert list(walk(buffer)) == []


@given(st.integers(0, 3 * (512 + 1024)))
def test_wherever_a_tar_breaks_off_it_is_noticed(length: int) -> None:
    content = tar_of("1.jpg", "2.jpg", "3.jpg")[:length]
    found = []
    with pytest.raises((BrokenTar, tarfile.ReadError)):  # noqa: PT012
        for member in walk(io.BytesIO(content)):
            found.append(member.name)
    whole = sum(length >= header + 512 + 700 for header in (0, 1536, 3072))
    assert found == ["1.jpg", "2.jpg", "3.jpg"][:whole]


# Blocks of zeros alone are an empty archive.
@given(st.binary(max_size=2000).filter(lambda content: any(content[:512]) or len(content) < 512))
def test_bytes_that_are_no_tar_are_refused(content: bytes) -> None:
    with pytest.raises((BrokenTar, tarfile.ReadError)):
        list(walk(io.BytesIO(content)))
