"""Tars with classes: what a .cls may say, what is left out and named, and which pixels an image gives."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pictures import classed, picture, write_tar
from trainer.data.class_tars import ClassTars, check_classes, class_of, open_class_tars
from trainer.data.tar_cache import TarCache
from vocab.errors import InputError, MismatchError


def opened(place: Path, **changes: Any) -> ClassTars:
    return open_class_tars([str(place)], cache=TarCache(place.parent / "cache", max_bytes=1 << 30), **changes)


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
    assert found.classes.tolist() == [2, 3, 1]
    assert found.keys == ("0", "x/0", "x/1")
    assert found.tars.tolist() == [0, 1, 1]
    assert found.labels.tolist() == [1, 2, 3]
    assert found.skipped == ()
    assert pickle.loads(pickle.dumps(found)).classes.tolist() == [2, 3, 1]  # noqa: S301 - its own bytes


def test_samples_of_no_use_are_counted_and_named(tmp_path: Path) -> None:
    place = classed(
        tmp_path / "a.tar",
        {"good": b"1", "word": b"cat", "negative": b"-4", "huge": b"9" * 5000, "none": b""},
        bare__png=picture(),
        text__cls=b"1",
        empty__jpg=b"",
    )
    with pytest.raises(InputError, match=r"1 of 8 samples .*4 broken_class, .*for example a.tar/word"):
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
    assert found.account["broken_class"] == 4
    assert found.keys == ("good",)


def test_tars_without_a_sample_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 of 0 samples"):
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
        open_class_tars(["http://me:word@127.0.0.1:9/a.tar?sig=abc"], cache=cache)
    assert "word" not in str(raised.value)
    assert "abc" not in str(raised.value)


@pytest.mark.parametrize(
    ("train", "test", "error", "match"),
    [
        ([5, 5], [5], InputError, "1 classes in 2 images"),
        ([5, 6], [5, 7, 9], MismatchError, "2 classes without a training image: 7, 9"),
    ],
)
def test_classes_that_no_probe_can_be_made_of(
    tmp_path: Path, train: list[int], test: list[int], error: type[Exception], match: str
) -> None:
    sides = [
        opened(classed(tmp_path / name, {str(n): str(label).encode() for n, label in enumerate(labels)}))
        for name, labels in (("train.tar", train), ("test.tar", test))
    ]
    with pytest.raises(error, match=match):
        check_classes(*sides)


def test_a_tar_on_both_sides_is_an_error(tmp_path: Path) -> None:
    both = opened(classed(tmp_path / "a.tar", {"0": b"1", "1": b"2"}))
    with pytest.raises(MismatchError, match=r"a\.tar: found a tar that the probe is both trained and measured on"):
        check_classes(both, both)


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
    found = open_class_tars([str(place)], cache=TarCache(tmp_path / "cache", max_bytes=1 << 30))
    assert len(found) == 5000
    assert len(found.labels) == 200
    assert found.skipped == ()
