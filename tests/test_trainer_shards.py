"""Tars: what is listed, what an index finds in hostile ones, and that an epoch sees each sample once."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.test_trainer_corpus import picture, write_tar
from trainer.shards import (
    Sample,
    epoch_groups,
    expand_braces,
    group_order,
    index_tar,
    list_tars,
    read_member,
)
from vocab.errors import InputError

LIMIT = 1 << 20


def index(path: Path) -> list[Sample]:
    return index_tar(path, max_member_bytes=LIMIT)


def faults(path: Path) -> list[tuple[str, str | None]]:
    return [(sample.key, sample.fault) for sample in index(path)]


@pytest.mark.parametrize(
    ("pattern", "expanded"),
    [
        ("a.tar", ["a.tar"]),
        ("{08..10}.tar", ["08.tar", "09.tar", "10.tar"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
    ],
)
def test_braces_expand_as_in_a_shell(pattern: str, expanded: list[str]) -> None:
    assert expand_braces(pattern) == expanded


def test_folders_globs_and_files_are_listed_once_in_order(tmp_path: Path) -> None:
    tars = [write_tar(tmp_path / name, {}) for name in ("a/00001.tar", "a/00000.tar", "b/00000.tar")]
    (tmp_path / "a" / "00000.parquet").touch()
    patterns = [str(tmp_path / "a"), str(tmp_path / "*" / "00000.tar"), str(tars[0])]
    assert list_tars(patterns) == sorted(tars)


@pytest.mark.parametrize("pattern", ["gone.tar", "*.tar", "{0..3}.tar", ""])
def test_a_pattern_without_tars_is_an_error(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(InputError, match="wanted a WebDataset tar"):
        list_tars([str(tmp_path / pattern)])


def test_an_index_tells_where_each_member_lies(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", {"a.png": picture(), "a.txt": b"a dog", "b.png": picture()})
    first, second = index(path)
    assert (first.key, first.index, sorted(first.members)) == ("a", 0, ["png", "txt"])
    assert read_member(path, first.members["txt"]) == b"a dog"
    assert (second.key, second.index, second.fault) == ("b", 1, None)


def test_each_fault_that_headers_show_is_named(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "0.tar",
        {
            "text.txt": b"only text",
            "zero.jpg": b"",
            "large.jpg": bytes(LIMIT + 1),
            "good.jpg": b"x",
            "text.jpg": b"x",
        },
    )
    assert faults(path) == [
        ("text", "no_image"),
        ("zero", "empty_image"),
        ("large", "image_too_large"),
        ("good", None),
        ("text", "repeated_key"),
    ]


def test_links_devices_and_paths_upwards_open_nothing(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in [("a.jpg", tarfile.SYMTYPE), ("b.jpg", tarfile.LNKTYPE), ("c.jpg", tarfile.CHRTYPE)]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("../../d.jpg")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    assert faults(path) == [("../../d", None)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(512, 10_000))
def test_a_cut_tar_keeps_its_whole_samples_and_says_so(tmp_path: Path, cut: int) -> None:
    members = {f"{number}.{kind}": bytes([number]) * 700 for number in range(3) for kind in ("jpg", "txt")}
    content = write_tar(tmp_path / "0.tar", members).read_bytes()
    (tmp_path / "1.tar").write_bytes(content[:cut])
    found = index(tmp_path / "1.tar")
    archive_ends = 6 * (512 + 1024) + 512
    assert (found[-1].fault == "truncated_tar") == (cut < archive_ends)
    for sample in found:
        if sample.fault is None:
            assert sample.image is not None
            assert read_member(tmp_path / "1.tar", sample.image) == bytes([sample.index]) * 700


@pytest.mark.parametrize("content", [b"", b"no tar at all", b"\x89PNG" * 500])
def test_a_file_that_is_no_tar_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.tar").write_bytes(content)
    with pytest.raises(InputError, match="no readable tar"):
        index(tmp_path / "0.tar")


def test_a_tar_that_shrinks_after_its_index_was_made_is_an_error(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", {"a.png": picture()})
    (sample,) = index(path)
    path.write_bytes(path.read_bytes()[:520])
    assert sample.image is not None
    with pytest.raises(InputError, match="bytes of a member"):
        read_member(path, sample.image)


@given(count=st.integers(1, 40), size=st.integers(1, 9), seed=st.integers(0, 99), epoch=st.integers(0, 99))
def test_an_epoch_visits_each_tar_once(count: int, size: int, seed: int, epoch: int) -> None:
    groups = epoch_groups(count, seed=seed, epoch=epoch, size=size)
    assert sorted(tar for group in groups for tar in group) == list(range(count))
    assert all(len(group) == size for group in groups[:-1])


@given(samples=st.integers(0, 60), streams=st.integers(1, 9), group=st.integers(0, 20))
def test_readers_share_a_group_without_gap_or_overlap(samples: int, streams: int, group: int) -> None:
    taken = [
        group_order(samples, seed=1, epoch=2, group=group, stream=stream, streams=streams) for stream in range(streams)
    ]
    assert sorted(place for part in taken for place in part) == list(range(samples))
    assert max(map(len, taken)) - min(map(len, taken)) <= 1


def test_readers_together_follow_one_order_whatever_their_number() -> None:
    alone = group_order(12, seed=1, epoch=0, group=0, stream=0, streams=1)
    pair = [group_order(12, seed=1, epoch=0, group=0, stream=stream, streams=2) for stream in range(2)]
    assert [place for both in zip(*pair, strict=True) for place in both] == alone


def test_seed_and_epoch_change_the_order() -> None:
    orders = {tuple(epoch_groups(20, seed=seed, epoch=epoch, size=20)[0]) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
