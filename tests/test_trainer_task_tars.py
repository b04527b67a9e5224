"""Tars as a task: what a .cls may say, what is left out and named, and a store that any thread may read."""

from __future__ import annotations

import gc
import gzip
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.pictures import classed, picture, write_tar
from trainer.data import labelled_images
from trainer.data.labelled_images import ImageStore, LabelledImages, TarStore
from trainer.data.tar_cache import TarCache
from trainer.transfer.tasks.tars import class_of, open_tars, with_all_classes
from vocab.errors import InputError


def opened(place: Path, *, max_bad_share: float = 0.1) -> LabelledImages:
    cache = TarCache(place.parent / "cache", max_bytes=1 << 30)
    return open_tars([str(place)], cache=cache, max_bad_share=max_bad_share)


def test_classes_are_the_numbers_that_occur(tmp_path: Path) -> None:
    classed(tmp_path / "t" / "b.tar", {"x/0": b"30", "x/1": b"1"})
    classed(tmp_path / "t" / "a.tar", {"0": b"2\n"})
    images = opened(tmp_path / "t")
    assert images.labels == ("1", "2", "30")
    assert images.names == ("a.tar/0", "b.tar/x/0", "b.tar/x/1")
    assert images.one_class.tolist() == [1, 2, 0]
    assert not images.multi_label
    assert isinstance(images.store, ImageStore)
    with pickle.loads(pickle.dumps(images.store)).open() as read:  # noqa: S301 - its own bytes
        assert [read(image) for image in (2, 0, 1)] == [picture()] * 3


def test_a_list_of_names_says_how_many_classes_there_are(tmp_path: Path) -> None:
    images = with_all_classes(opened(classed(tmp_path / "a.tar", {"0": b"3", "1": b"1"})), 5)
    assert images.labels == ("0", "1", "2", "3", "4")
    assert images.one_class.tolist() == [3, 1]


def test_tars_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    classed(tmp_path / "t" / "a" / "0.tar", {"0": b"0"})
    classed(tmp_path / "t" / "b" / "0.tar", {"0": b"1"})
    assert opened(tmp_path / "t").names == (f"{tmp_path}/t/a/0.tar/0", f"{tmp_path}/t/b/0.tar/0")


def test_the_fingerprint_tells_a_tar_that_was_written_anew(tmp_path: Path) -> None:
    place = classed(tmp_path / "a.tar", {"0": b"0", "1": b"1"})
    before = opened(place).fingerprint
    assert opened(place).fingerprint == before
    os.utime(place, ns=(0, 12345))
    assert opened(place).fingerprint != before


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_few_tars_stay_open_and_none_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled_images, "MAX_OPEN", 2)
    for number in range(5):
        classed(tmp_path / "t" / f"{number}.tar", {"0": b"0"})
    store = opened(tmp_path / "t").store
    gc.collect()
    before = descriptors()
    with store.open() as read:
        for image in (0, 1, 2, 3, 4, 3, 0):
            assert read(image) == picture()
            assert descriptors() <= before + 2
    assert descriptors() == before


def test_threads_read_at_once_while_tars_are_closed_and_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled_images, "MAX_OPEN", 1)
    for number in range(4):
        classed(tmp_path / "t" / f"{number}.tar", {"0": b"0", "1": b"1"})
    store = opened(tmp_path / "t").store
    with store.open() as read, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, [image % 8 for image in range(400)])) == {picture()}


def test_a_tar_that_was_changed_since_its_headers_were_read_is_an_error(tmp_path: Path) -> None:
    place = classed(tmp_path / "a.tar", {"0": b"0", "1": b"1"})
    store = opened(place).store
    # As many bytes, and every image where it was.
    content = place.read_bytes().replace(picture(), picture()[:-1] + b"?")
    place.write_bytes(content)
    os.utime(place, ns=(0, 1))
    with (
        store.open() as read,
        pytest.raises(InputError, match=rf"a.tar: found a tar of {len(content):,} bytes that was"),
    ):
        read(0)


def test_a_tar_that_became_shorter_or_is_gone_is_an_error(tmp_path: Path) -> None:
    place = classed(tmp_path / "a.tar", {"0": b"0", "1": b"1"})
    store = opened(place).store
    with store.open() as read:
        assert read(1) == picture()
        place.write_bytes(place.read_bytes()[:520])
        with pytest.raises(InputError, match=r"a.tar: found 8 of \d+ bytes of the image at byte 512"):
            read(0)
    place.unlink()
    with store.open() as read, pytest.raises(InputError, match=r"a.tar: found No such file"):
        read(0)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (b"0", 0),
        (b"17\n", 17),
        (b" 007\r\n", 7),
        (b"2147483647", 2147483647),
        (b"2147483648", None),
        (b"9" * 40, None),
        (b"-1", None),
        (b"+1", None),
        (b"1.0", None),
        (b"1e3", None),
        (b"0x11", None),
        (b"1_000", None),
        (b"1 2", None),
        (b"", None),
        (b"\n", None),
        (b"cat", None),
        ("１".encode(), None),
        (b"\xff", None),
        (b"1" + b" " * 64, None),
    ],
)
def test_a_class_is_an_integer_in_ascii_digits(text: bytes, label: int | None) -> None:
    assert class_of(text) == label


def test_images_come_in_the_order_of_tars_with_their_classes(tmp_path: Path) -> None:
    classed(tmp_path / "t" / "b.tar", {"x/0": b"3", "x/1": b"1"})
    classed(tmp_path / "t" / "a.tar", {"0": b"2\n"})
    found = opened(tmp_path / "t")
    assert found.one_class.tolist() == [1, 2, 0]
    assert found.labels == ("1", "2", "3")
    assert found.names == ("a.tar/0", "b.tar/x/0", "b.tar/x/1")
    assert isinstance(found.store, TarStore)
    assert found.store.tars.tolist() == [0, 1, 1]
    assert found.skipped == ()
    assert pickle.loads(pickle.dumps(found)).one_class.tolist() == [1, 2, 0]  # noqa: S301 - its own bytes


def test_samples_of_no_use_are_counted_and_named(tmp_path: Path) -> None:
    place = classed(
        tmp_path / "a.tar",
        {"good": b"1", "word": b"cat", "negative": b"-4", "huge": b"9" * 5000, "none": b""},
        bare__png=picture(),
        text__cls=b"1",
        empty__jpg=b"",
    )
    with pytest.raises(InputError, match=r"1 of 8 images .*4 broken_class, .*for example a.tar/word"):
        opened(place)
    found = opened(place, max_bad_share=0.9)
    assert {(bad.shard, bad.key, bad.reason) for bad in found.skipped} == {
        ("a.tar", "word", "broken_class"),
        ("a.tar", "negative", "broken_class"),
        ("a.tar", "huge", "broken_class"),
        ("a.tar", "none", "broken_class"),
        ("a.tar", "bare", "no_class"),
        ("a.tar", "text", "no_image"),
        ("a.tar", "empty", "empty_image"),
    }
    assert found.names == ("a.tar/good",)


def test_tars_without_a_sample_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 of 0 images"):
        opened(write_tar(tmp_path / "a.tar", {}))
    (tmp_path / "b.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(InputError, match=f"{tmp_path}/b.tar: found no readable tar"):
        opened(tmp_path / "b.tar")
    (tmp_path / "b.tar").write_bytes(gzip.compress(b"whatever"))
    with pytest.raises(InputError, match=f"{tmp_path}/b.tar: found no readable tar .a tar compressed with"):
        opened(tmp_path / "b.tar")
    with pytest.raises(InputError, match="no such file"):
        opened(tmp_path / "c.tar")


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        (lambda whole, at: whole[:at], "between two members, after 3 samples, the last one '2'"),
        (lambda whole, at: whole[: at + 512 + 1], "inside sample '2', after 2 samples, the last one '1'"),
        (lambda whole, at: whole[:at] + b"x" * 512 + whole[at + 512 :], "between two members, after 3 samples"),
        (lambda whole, at: whole[: 512 + 1], "inside sample '0', after 0 samples"),
        (lambda whole, at: whole + b"junk", "between two members, after 3 samples, the last one '2'"),
    ],
)
def test_a_tar_that_breaks_off_is_an_error_whatever_share_may_be_bad(
    tmp_path: Path, damage: Callable[[bytes, int], bytes], where: str
) -> None:
    place = classed(tmp_path / "a.tar", {"0": b"1", "1": b"2", "2": b"3"})
    content = place.read_bytes()
    place.write_bytes(damage(content, content.index(b"2.cls")))
    with pytest.raises(InputError, match=f"a.tar: found an archive that breaks off {where}.*Download or pack it again"):
        opened(place, max_bad_share=1.0)


def test_a_secret_address_is_not_shown(tmp_path: Path) -> None:
    cache = TarCache(tmp_path / "cache", max_bytes=1 << 30, tries=1)
    with pytest.raises(InputError) as raised:
        open_tars(["http://me:word@127.0.0.1:9/a.tar?sig=abc"], cache=cache, max_bad_share=0.1)
    assert "word" not in str(raised.value)
    assert "abc" not in str(raised.value)


def test_a_tar_that_has_become_shorter_is_named(tmp_path: Path) -> None:
    found = opened(classed(tmp_path / "a.tar", {"0": b"1"}))
    with found.store.open() as read:
        assert read(0).startswith(b"\x89PNG")
    (tmp_path / "a.tar").write_bytes(b"")
    with (
        found.store.open() as read,
        pytest.raises(InputError, match=r"a\.tar: found a tar of 0 bytes that was changed"),
    ):
        read(0)


def test_real_tars_have_every_class(real_data: Path, tmp_path: Path) -> None:
    place = real_data / "images" / "tiny_imagenet" / "val-00000.tar"
    if not place.exists():
        pytest.skip(f"no {place}")
    found = open_tars([str(place)], cache=TarCache(tmp_path / "cache", max_bytes=1 << 30), max_bad_share=0.1)
    assert len(found) == 5000
    assert len(found.labels) == 200
    assert found.skipped == ()
