"""Tars as a task: labels from .cls, and a store that any thread may read."""

from __future__ import annotations

import gc
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.pictures import classed, picture
from trainer.data import labelled_images
from trainer.data.labelled_images import ImageStore, LabelledImages
from trainer.data.tar_cache import TarCache
from trainer.transfer.tasks.tars import open_tars, with_all_classes
from vocab.errors import InputError


def opened(place: Path) -> LabelledImages:
    cache = TarCache(place.parent / "cache", max_bytes=1 << 30)
    return open_tars(str(place), cache=cache, max_bad_share=0.1)


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
