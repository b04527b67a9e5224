"""Features on the disk: computed once, whole, and never taken for those of something else."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pickle
import shutil
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.forks import Forks
from tests.labelled_images import HERE, Shelf, images_on, shelf
from tests.pictures import picture
from trainer.data.decoding import Decoding, EvalTransform
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import join_processes
from trainer.probe.cache import ImageFeatures, cached_features, key_of, positions_of
from trainer.probe.feature_files import UNFINISHED
from trainer.weights.folder import Preprocessing
from trainer.weights.pretrained import Pretrained
from vocab.errors import InputError
from vocab.vocabulary import Vocabulary


def pretrained(**changes: Any) -> Pretrained:
    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2, "num_classes": 5}
    synsets, captions = np.arange(1, 6, dtype=np.int32), np.arange(5, 0, -1).astype(np.int64)
    model = Pretrained(
        model=timm.create_model("vit_tiny_patch16_224", **sizes).eval(),
        classes=Vocabulary(synsets, captions, rows=20, min_count=1),
        preprocessing=Preprocessing(16, 0.5, 0.5, 0.9),
        architecture="vit_tiny_patch16_224",
        source="here",
        fingerprint="this one",
    )
    return replace(model, **changes)


def shown_to(model: Pretrained, *, max_pixels: int = 1 << 20, bfloat16: bool = False) -> EvalTransform:
    seen = model.preprocessing
    return EvalTransform(seen.image_size, seen.crop, 4, Decoding(0, 1, max_pixels), bfloat16)


def features(images: LabelledImages, cache: Path | None, model: Pretrained | None = None, **how: Any) -> ImageFeatures:
    model = model or pretrained()
    found = cached_features(model, images, HERE, transform=shown_to(model, **how), cache=cache)
    assert found is not None
    return found


def test_features_are_computed_once(tmp_path: Path) -> None:
    store = shelf(10)
    one = features(images_on(store), tmp_path / "cache")
    assert sorted(store.asked) == list(range(10))
    again = features(images_on(store), tmp_path / "cache")
    assert len(store.asked) == 10
    assert torch.equal(one.values, again.values)
    assert one.values.shape == (10, 32)
    assert [path.name[:9] for path in (tmp_path / "cache").iterdir()] == ["features-"]
    alone = features(images_on(shelf(10)), None)
    assert torch.equal(one.values, alone.values)


def test_a_subset_is_read_and_a_larger_set_computes_what_is_new(tmp_path: Path) -> None:
    store = shelf(10)
    whole = features(images_on(shelf(10)), None)
    some = features(images_on(store).select(np.array([7, 2, 4])), tmp_path)
    assert sorted(store.asked) == [2, 4, 7]
    torch.testing.assert_close(some.values, whole.values[[7, 2, 4]])
    assert some.images.names == ("7.png", "2.png", "4.png")
    assert features(images_on(store).select(np.array([2])), tmp_path).images.names == ("2.png",)
    assert len(store.asked) == 3
    torch.testing.assert_close(features(images_on(store), tmp_path).values, whole.values)
    assert sorted(store.asked) == list(range(10))


def test_images_that_do_not_decode_are_named_and_tried_again(tmp_path: Path) -> None:
    store = shelf(6)
    store.pictures[2], store.pictures[4] = b"", b"no picture"
    one = features(images_on(store), tmp_path)
    assert [(bad.key, bad.reason) for bad in one.skipped] == [("2.png", "missing"), ("4.png", "not_an_image")]
    assert one.images.names == ("0.png", "1.png", "3.png", "5.png")
    part = one.of(images_on(store).select(np.array([5, 4, 0])))
    assert part.images.names == ("5.png", "0.png")
    assert [bad.key for bad in part.skipped] == ["4.png"]
    assert torch.equal(part.values, one.values[[3, 0]])
    store.pictures[2] = picture()
    again = features(images_on(store), tmp_path)
    assert store.asked[6:] == [2, 4]
    assert again.images.names == ("0.png", "1.png", "2.png", "3.png", "5.png")
    assert [bad.key for bad in again.skipped] == ["4.png"]


def test_nothing_that_decodes_is_no_features(tmp_path: Path) -> None:
    found = features(images_on(Shelf({0: b"", 1: b""})), tmp_path)
    assert (found.values.shape, len(found.images), len(found.skipped)) == ((0, 32), 0, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "how"),
    [
        ({"fingerprint": "another"}, {}),
        ({"architecture": "vit_small_patch16_224"}, {}),
        ({"arguments": {"num_heads": 4}}, {}),
        ({"preprocessing": Preprocessing(16, 0.5, 0.5, 0.8)}, {}),
        ({"preprocessing": Preprocessing(16, 0.4, 0.5, 0.9)}, {}),
        ({}, {"bfloat16": True}),
        ({}, {"max_pixels": 1 << 19}),
    ],
)
def test_whatever_features_depend_on_has_its_own_file(
    changes: dict[str, Any], how: dict[str, Any], tmp_path: Path
) -> None:
    store = shelf(3)
    features(images_on(store), tmp_path)
    features(images_on(store), tmp_path, pretrained(**changes), **how)
    assert len(store.asked) == 6
    assert len(list(tmp_path.iterdir())) == 2


def test_another_data_set_has_its_own_file(tmp_path: Path) -> None:
    store = shelf(3)
    features(images_on(store), tmp_path)
    features(replace(images_on(store), fingerprint="those"), tmp_path)
    assert len(store.asked) == 6


def _cut(path: Path, **_: object) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _empty(path: Path, **_: object) -> None:
    path.write_bytes(b"")


def _no_key(path: Path, tensors: dict[str, torch.Tensor], key: str) -> None:
    save_file(tensors, path)


def _other_key(path: Path, tensors: dict[str, torch.Tensor], key: str) -> None:
    save_file(tensors, path, {"key": key.replace("these", "those")})


def _no_rows(path: Path, tensors: dict[str, torch.Tensor], key: str) -> None:
    save_file({"values": tensors["values"]}, path, {"key": key})


def _rows_twice(path: Path, tensors: dict[str, torch.Tensor], key: str) -> None:
    save_file(tensors | {"rows": torch.tensor([0, 1, 1])}, path, {"key": key})


def _too_narrow(path: Path, tensors: dict[str, torch.Tensor], key: str) -> None:
    save_file(tensors | {"values": torch.zeros(3, 31)}, path, {"key": key})


@pytest.mark.parametrize("spoil", [_cut, _empty, _no_key, _other_key, _no_rows, _rows_twice, _too_narrow])
def test_a_file_that_is_broken_or_anothers_is_computed_again(
    spoil: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = shelf(3)
    wanted = features(images_on(store), tmp_path)
    (path,) = tmp_path.iterdir()
    key = key_of(pretrained(), images_on(store), shown_to(pretrained()))
    kept = {name: tensor.clone() for name, tensor in load_file(path).items()}
    path.unlink()
    save_file(kept, path, {"key": key})
    spoil(path, tensors=kept, key=key)
    capsys.readouterr()
    found = features(images_on(store), tmp_path)
    said = capsys.readouterr().err
    assert said.startswith(str(path))
    assert "its features are computed again\n" in said
    assert torch.equal(found.values, wanted.values)
    assert len(store.asked) == 6
    assert torch.equal(features(images_on(store), tmp_path).values, wanted.values)
    assert len(store.asked) == 6


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_full_disk_is_found_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 3 * (4 * 32 + 8) - 1))
    store = shelf(3)
    with pytest.raises(
        InputError, match=r"--features .*: found a file system with 407 bytes free; wanted 408: 3 images"
    ):
        features(images_on(store), tmp_path / "new" / "cache")
    assert store.asked == []
    assert list(tmp_path.iterdir()) == []


LEFT = ".features-" + "9f" * 16 + ".safetensors"
"""what names of files on their way begin with"""


def left_behind(folder: Path, *names: str, hours: float = 0.0) -> None:
    """Files that nobody writes any more, last written to so long ago."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - 3600 * hours,) * 2)


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def killed_while_it_writes(cache: Path) -> None:
    def kill(_: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    os.fsync = kill
    features(images_on(shelf(3)), cache)


def test_what_a_killed_process_left_goes_before_the_next_write(forks: Forks, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    killed = forks.start(1, tmp_path / "log", killed_while_it_writes, cache)
    assert killed.wait() == [-signal.SIGKILL], killed.said()
    (name,) = hidden(cache)
    assert UNFINISHED.fullmatch(name)
    assert len(list(cache.iterdir())) == 1
    features(images_on(shelf(3)), cache)
    (path,) = cache.iterdir()
    assert path.name.startswith("features-")


def slow_to_write(cache: Path, go: Path) -> None:
    def wait(_: int) -> None:
        while not go.exists():
            time.sleep(0.01)

    torch.set_num_threads(1)
    os.fsync = wait
    features(images_on(shelf(3)), cache)


def test_a_file_that_is_being_written_is_left_alone(forks: Forks, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    writer = forks.start(1, tmp_path / "log", slow_to_write, cache, tmp_path / "go")
    writer.wait_for(lambda: cache.exists() and len(hidden(cache)) == 1)
    (name,) = hidden(cache)
    # Not even after a day of silence.
    os.utime(cache / name, (0, 0))
    features(replace(images_on(shelf(3)), fingerprint="those"), cache)
    assert hidden(cache) == [name]
    (tmp_path / "go").touch()
    assert writer.wait() == [0], writer.said()
    assert hidden(cache) == []
    assert len(list(cache.iterdir())) == 2


def test_what_another_host_left_goes_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "here.example")
    left_behind(tmp_path, f"{LEFT}.here-example.00000001.tmp", ".features-notes.tmp", hours=0)
    left_behind(tmp_path, f"{LEFT}.there-example.00000002.tmp", f"{LEFT}.00000003.tmp", hours=23)
    left_behind(tmp_path, f"{LEFT}.there-example.00000004.tmp", f"{LEFT}.00000005.tmp", hours=25)
    features(images_on(shelf(3)), tmp_path)
    assert hidden(tmp_path) == [
        f"{LEFT}.00000003.tmp",
        f"{LEFT}.there-example.00000002.tmp",
        ".features-notes.tmp",
    ]


def test_without_locks_files_are_written_and_what_is_left_goes_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    left_behind(tmp_path, f"{LEFT}.here.00000001.tmp", hours=23)
    left_behind(tmp_path, f"{LEFT}.here.00000002.tmp", hours=25)
    store = shelf(3)
    features(images_on(store), tmp_path)
    assert hidden(tmp_path) == [f"{LEFT}.here.00000001.tmp"]
    features(images_on(store), tmp_path)
    assert len(store.asked) == 3


def test_what_is_left_takes_no_room_from_what_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 0 if hidden(tmp_path) else 1 << 30))
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    left_behind(tmp_path, f"{LEFT}.here.00000001.tmp")
    assert len(features(images_on(shelf(3)), tmp_path).images) == 3


def test_a_file_is_one_that_others_read(tmp_path: Path) -> None:
    found = features(images_on(shelf(5)), tmp_path)
    (path,) = tmp_path.iterdir()
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["key"])["images"] == "these"
    tensors = load_file(path)
    assert torch.equal(tensors["values"], found.values)
    assert tensors["rows"].tolist() == [0, 1, 2, 3, 4]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_places_are_found_in_any_order() -> None:
    assert positions_of(np.array([5, 1, 9]), np.array([9, 5, 7])).tolist() == [1, -1, 0]
    assert positions_of(np.array([5]), np.array([], np.int64)).tolist() == [-1]
    assert positions_of(np.array([], np.int64), np.array([3])).tolist() == []


def rank_of_two(out: Path) -> None:
    torch.set_num_threads(1)
    store = shelf(11)
    store.pictures[3] = b""
    with join_processes("cpu") as rank:
        found = []
        for images in (images_on(store).select(np.arange(5)), images_on(store)):
            model, cache = pretrained(), out / f"cache{rank.index}"
            one = cached_features(model, images, rank, transform=shown_to(model), cache=cache)
            found.append(one and (one.values.numpy(), one.images.names, one.skipped))
        (out / str(rank.index)).write_bytes(pickle.dumps(found))


def test_two_ranks_give_what_one_gives_and_the_main_one_has_the_disk(forks: Forks, tmp_path: Path) -> None:
    forks.run(2, tmp_path / "log", rank_of_two, tmp_path)
    main, other = (pickle.loads((tmp_path / rank).read_bytes()) for rank in "01")  # noqa: S301 - our own
    assert other == [None, None]
    store = shelf(11)
    store.pictures[3] = b""
    for found, images in zip(main, (images_on(store).select(np.arange(5)), images_on(store)), strict=True):
        alone = features(images, None)
        values, names, skipped = found
        assert (names, skipped) == (alone.images.names, alone.skipped)
        torch.testing.assert_close(torch.from_numpy(values), alone.values, atol=1e-5, rtol=1e-5)
    assert len(list((tmp_path / "cache0").iterdir())) == 1
    assert not (tmp_path / "cache1").exists()
