"""Whose member is whose in a WebDataset tar, and where an archive breaks off."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vocab.store.tars import BLOCK, BrokenTar, Member, walk

Walk = Callable[[BinaryIO], Iterator[Member]]


def plain_walk(stream: BinaryIO) -> Iterator[Member]:
    """The slow equal of `walk`: tarfile reads every header of one archive after the other."""
    stream.seek(0)
    content = stream.read()
    at = 0
    while True:
        at = yield from one_archive(content, at)
        while at < len(content) and not any(content[at : at + BLOCK]):
            at += BLOCK
        if at >= len(content):
            return


def one_archive(content: bytes, start: int) -> Generator[Member, None, int]:
    """The members of the archive at `start`, and where the zeros are that end it."""
    stream = io.BytesIO(content)
    stream.seek(start)
    name = ""
    try:
        archive = tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="replace")  # noqa: SIM115
    except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:
        raise (BrokenTar(name) if start else error) from error
    while True:
        try:
            info = archive.next()
        except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:
            raise BrokenTar(name) from error
        if info is None:
            break
        name = info.name
        last = archive.offset if info.issparse() else info.offset_data + info.size
        if info.size < 0 or last > len(content):
            raise BrokenTar(name)
        if info.isreg():
            yield Member(name, info.offset_data, -1 if info.issparse() else info.size)
    if content[archive.offset :][:BLOCK] != bytes(BLOCK):
        raise BrokenTar("")
    return archive.offset


def outcome(walk: Walk, stream: BinaryIO) -> tuple[list[Member], str]:
    """The members of a tar, and how it ends."""
    found: list[Member] = []
    try:
        for member in walk(stream):
            found.append(member)
    except BrokenTar as broken:
        return found, f"broken in {broken.name!r}"
    except (tarfile.ReadError, ValueError, OverflowError, MemoryError):
        return found, "no tar"
    return found, "whole"


def tar_of(*names: str, size: int = 700) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = size
            archive.addfile(member, io.BytesIO(b"x" * size))
    return buffer.getvalue()


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


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
names = st.one_of(
    st.from_regex(r"[a-z]{1,3}/?[0-9]{1,9}\.(jpg|txt|json)/?", fullmatch=True),
    text,
    st.builds(lambda part, count: part * count, text, st.integers(1, 30)),
    st.builds(lambda length: "d/" * length + "1.jpg", st.integers(40, 140)),
)
kinds = st.sampled_from(
    [tarfile.REGTYPE] * 12
    + [tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
    + [tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.XGLTYPE, b"x", b"L", b"K", b"V", b"\xff"]
)
times = st.one_of(st.just(0), st.integers(0, 2**34), st.floats(0, 2**40), st.floats(-9, 9))
records = st.dictionaries(
    st.sampled_from(["path", "size", "mtime", "atime", "ctime", "comment", "hdrcharset", "GNU.sparse.map", "linkpath"]),
    st.one_of(st.integers(0, 99).map(str), st.floats(0, 9).map(str), text),
    max_size=2,
)
members = st.fixed_dictionaries(
    {
        "name": names,
        "size": st.sampled_from([0, 1, 511, 512, 513, 1500]),
        "mtime": times,
        "type": kinds,
        "uid": st.sampled_from([0, 1000, 2**22]),
        "linkname": st.sampled_from(["", "", "x", "l" * 120]),
        "pax_headers": st.one_of(st.just({}), st.just({}), records),
    }
)
formats = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


def build(entries: list[dict[str, Any]], kind: int) -> bytes:
    """A tar of the entries that the format can hold."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind, encoding="utf-8") as archive:
        for entry in entries:
            info = tarfile.TarInfo()
            for name, value in entry.items():
                setattr(info, name, value)
            try:
                archive.addfile(info, io.BytesIO(b"1" * info.size))
            except ValueError:
                continue
    return buffer.getvalue()


def signed(header: bytes) -> bytes:
    """A header with the checksum that it should have."""
    return header[:148] + b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:])) + header[156:]


@settings(max_examples=250, deadline=None)
@given(st.lists(members, max_size=6), formats)
def test_every_kind_of_tar_is_read_as_tarfile_reads_it(entries: list[dict[str, Any]], kind: int) -> None:
    content = build(entries, kind)
    assert outcome(walk, io.BytesIO(content)) == outcome(plain_walk, io.BytesIO(content))


@settings(max_examples=250, deadline=None)
@given(st.lists(members, min_size=1, max_size=4), formats, st.data())
def test_a_cut_tar_or_one_with_garbage_after_it_ends_as_in_tarfile(
    entries: list[dict[str, Any]], kind: int, data: st.DataObject
) -> None:
    content = build(entries, kind).rstrip(b"\0")
    cut = content[: data.draw(st.integers(0, len(content) + 600))] + data.draw(
        st.one_of(
            *(
                st.just(end)
                for end in (b"", bytes(1024), content, bytes(1024) + content, bytes(1536) + content + bytes(9))
            ),
            st.binary(max_size=1100),
        )
    )
    assert outcome(walk, io.BytesIO(cut)) == outcome(plain_walk, io.BytesIO(cut))


@settings(max_examples=400, deadline=None)
@given(st.lists(members, min_size=1, max_size=3), formats, st.data())
def test_a_header_changed_anywhere_is_read_as_tarfile_reads_it(
    entries: list[dict[str, Any]], kind: int, data: st.DataObject
) -> None:
    content = bytearray(build(entries, kind))
    at = data.draw(st.integers(0, max(0, len(bytes(content).rstrip(b"\0")) // BLOCK - 1))) * BLOCK
    field = data.draw(
        st.sampled_from([0, 95, 100, 107, 120, 124, 130, 135, 136, 148, 154, 156, 157, 257, 329, 337, 345])
    )
    patch = data.draw(
        st.one_of(
            st.binary(min_size=1, max_size=12),
            st.text("01234567 89_+-\0x", min_size=1, max_size=12).map(str.encode),
            st.sampled_from([b"\x80" + bytes(6) + b"\1\1", b"\xff" * 12, b"\x80\xff\xff\xff\xff\xff\xff\xff"]),
        )
    )
    content[at + field : at + field + len(patch)] = patch
    if data.draw(st.booleans()):
        content[at : at + BLOCK] = signed(bytes(content[at : at + BLOCK]))
    changed = bytes(content)
    assert outcome(walk, io.BytesIO(changed)) == outcome(plain_walk, io.BytesIO(changed))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(
        [
            b"28 mtime=1747969211.5140378\n",
            b"20 atime=1.5\n20 ctime=1.5\n",
            b"13 mtime=1.5\n13 atime=1.5\n",
            b"12 mtime=15\n11 path=x\n",
            b"99 mtime=1.5\n",
            b"1 mtime=1.5\n",
            b"0 mtime=1.5\n",
            b"13 mtime=1..\n",
            b"13 mtime=1.5\0",
            b"11 path=ab\n",
            b"10 size=7\n",
            b"",
        ]
    ),
    st.sampled_from([0, 1, 13, 600, None]),
    st.sampled_from([b"", b"11 path=zz\n"]),
    st.sampled_from(["0", "5", "x", "L", "end", "cut", "junk"]),
)
@example(b"28 mtime=1747969211.5140378\n", None, b"", "0")
def test_extended_headers_are_read_as_tarfile_reads_them(
    body: bytes, size: int | None, padding: bytes, after: str
) -> None:
    def header(name: str, kind: str, size: int) -> bytes:
        info = tarfile.TarInfo(name)
        info.type, info.size = kind.encode(), size
        return info.tobuf(tarfile.USTAR_FORMAT)

    size = len(body) if size is None else size
    block = (body + padding).ljust(BLOCK, b"\0")
    content = header("0.txt", "0", 3) + b"abc".ljust(BLOCK, b"\0") + header("x", "x", size) + block
    if after in ("end", "cut", "junk"):
        content += {"end": bytes(BLOCK), "cut": b"", "junk": b"junk" * 128}[after]
    else:
        content += header("1.jpg", after, 5 if after == "0" else 0) + b"image".ljust(BLOCK, b"\0")
    for start in (0, 2 * BLOCK):
        tar = content[start:] + header("2.jpg", "0", 0) + bytes(2 * BLOCK)
        assert outcome(walk, io.BytesIO(tar)) == outcome(plain_walk, io.BytesIO(tar))


@pytest.mark.parametrize(
    ("mode", "checksum"), [(b"000644 \0", b"%06o\0 "), (b"   644 \0", b"%06o \0"), (b"0000644\0", b"%07o\0")]
)
def test_numbers_may_be_written_as_old_and_other_programs_do(mode: bytes, checksum: bytes) -> None:
    content = bytearray(tar_of("1.jpg", "2.jpg"))
    for at in (0, 512 + 1024):
        header = bytes(content[at : at + 100]) + mode + bytes(content[at + 108 : at + BLOCK])
        total = sum(header[:148]) + 256 + sum(header[156:])
        content[at : at + BLOCK] = header[:148] + checksum % total + header[156:]
    assert outcome(walk, io.BytesIO(content)) == ([Member("1.jpg", 512, 700), Member("2.jpg", 2048, 700)], "whole")


@pytest.mark.parametrize(
    ("field", "junk"),
    [
        (100, b"99"),
        (124, b"00000000011\x80"),
        (136, b"junk"),
        (148, b"junk"),
        (156, b"5"),
        (156, b"S"),
        (329, b"junk"),
        (337, b"9"),
    ],
)
def test_a_header_with_junk_in_one_field_is_read_as_tarfile_reads_it(field: int, junk: bytes) -> None:
    content = bytearray(tar_of("1.jpg", "2.jpg", "3.jpg"))
    content[1536 + field : 1536 + field + len(junk)] = junk
    if field != 148:
        content[1536 : 1536 + BLOCK] = signed(bytes(content[1536 : 1536 + BLOCK]))
    assert outcome(walk, io.BytesIO(content)) == outcome(plain_walk, io.BytesIO(content))
    assert outcome(walk, io.BytesIO(content[1536:])) == outcome(plain_walk, io.BytesIO(content[1536:]))


def test_the_stream_may_be_read_between_two_members() -> None:
    content = tar_of("1.jpg", "2.jpg", "d" * 120 + "/3.jpg", "4.jpg")
    stream, found = io.BytesIO(content), []
    for member in walk(stream):
        stream.seek(member.offset)
        found.append(stream.read(member.size))
    assert found == [b"x" * 700] * 4


def test_files_and_arrow_streams_are_walked_like_bytes_in_memory(tmp_path: Path) -> None:
    content = tar_of(*(f"{number}.{kind}" for number in range(40) for kind in ("jpg", "txt")))
    (tmp_path / "0.tar").write_bytes(content)
    wanted = list(plain_walk(io.BytesIO(content)))
    with (tmp_path / "0.tar").open("rb") as buffered, (tmp_path / "0.tar").open("rb", buffering=0) as raw:
        assert list(walk(buffered)) == list(walk(raw)) == wanted
    arrow: Any = pa.BufferReader(content)
    assert list(walk(arrow)) == wanted


def test_a_chain_of_long_names_does_not_exhaust_the_stack() -> None:
    info = tarfile.TarInfo("x")
    info.type = tarfile.GNUTYPE_LONGNAME
    chain = info.tobuf(tarfile.GNU_FORMAT) * 20_000
    with pytest.raises(tarfile.ReadError):
        list(walk(io.BytesIO(chain)))
    with pytest.raises(BrokenTar, match=r"1\.jpg"):
        list(walk(io.BytesIO(tar_of("1.jpg")[: 512 + 1024] + chain)))


def test_a_first_header_of_impossible_numbers_is_no_tar() -> None:
    info = tarfile.TarInfo("1.jpg")
    info.pax_headers = {"GNU.sparse.map": "no numbers"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    with pytest.raises(tarfile.ReadError):
        list(walk(buffer))


def test_real_tars_are_walked_as_tarfile_walks_them(real_data: Path) -> None:
    tars = sorted((real_data / "images").rglob("*.tar"))
    if not tars:
        pytest.skip(f"no tars in {real_data}")
    for tar in tars:
        with tar.open("rb") as stream:
            assert outcome(walk, stream) == outcome(plain_walk, stream)
