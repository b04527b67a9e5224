"""The probe: features whatever the ranks, a classifier that is the optimum, and numbers that can be believed."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from tests.corpus import make_corpus
from tests.forks import Forks
from tests.pictures import picture, write_tar
from trainer.config import DataConfig, PretrainConfig, RunConfig, check
from trainer.data.crops import centre_box
from trainer.data.decoding import Decoding, EvalTransform
from trainer.data.images import crop_into
from trainer.data.labelled_images import LabelledImages
from trainer.data.tar_cache import TarCache
from trainer.distributed import Rank, join_processes
from trainer.model.backbone import features
from trainer.model.objective import prepare
from trainer.pretrain import pretrain
from trainer.probe.features import Embed, Outputs, extract
from trainer.probe.probe import open_probe, probe
from trainer.records.record import read_records
from trainer.transfer.config import ProbeConfig, TaskConfig
from trainer.transfer.probing import probe_records
from trainer.transfer.tasks.tars import open_tars
from vocab.errors import InputError, MismatchError

pytestmark = pytest.mark.usefixtures("one_thread")

HERE = Rank(0, 1, torch.device("cpu"))
LOADING = EvalTransform(16, 0.875, 4, Decoding(0, 1, 1 << 27), bfloat16=False)


def model_of(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2, "num_classes": 5}
    model: nn.Module = timm.create_model("vit_tiny_patch16_224", **(sizes | changes))
    return model


def squares(root: Path, name: str, count: int, *, tars: int = 1, bad: int = 0) -> Path:
    """Tars of squares whose class, 3, 7 or 12, is their colour; the first `bad` images are none."""
    generator = np.random.default_rng(len(name))
    folder = root / name
    for tar in range(tars):
        members: dict[str, bytes] = {}
        for number in range(tar, count, tars):
            kind = number // tars % 3
            colour = [int(v) for v in generator.integers(0, 60, 3)]
            colour[kind] += 120
            members[f"{number:04d}.png"] = picture((colour[0], colour[1], colour[2])) if number >= bad else b"none"
            members[f"{number:04d}.cls"] = str((3, 7, 12)[kind]).encode()
        write_tar(folder / f"{tar}.tar", members)
    return folder


def opened(place: Path, cache: Path | None = None) -> LabelledImages:
    cached = TarCache(cache or place.parent / "cache", max_bytes=1 << 30)
    return open_tars([str(place)], cache=cached, max_bad_share=0.1)


def embed_of(model: nn.Module) -> Embed:
    return lambda images: features(model.eval(), prepare(images, None))


def extracted(embed: Embed, tars: LabelledImages, workers: int = 0) -> Outputs:
    transform = replace(LOADING, decoding=replace(LOADING.decoding, threads=workers))
    found = extract(embed, tars.store, tars.rows, HERE, transform)
    assert found is not None
    return found


def test_features_are_what_the_classifier_reads(tmp_path: Path) -> None:
    for pool in ("token", "avg", "map"):
        model = model_of(global_pool=pool)
        tars = opened(squares(tmp_path, pool, 7, tars=2))
        found = extracted(embed_of(model), tars)
        pixels = np.zeros((7, 16, 16, 3), np.uint8)
        with tars.store.open() as read:
            for image in range(7):
                crop_into(read(image), pixels[image], choose=partial(centre_box, share=0.875), max_pixels=1 << 20)
        model.eval()
        images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127.5) / 127.5
        with torch.no_grad():
            wanted = model.forward_head(model.forward_features(images), pre_logits=True)
        torch.testing.assert_close(found.values, wanted, atol=1e-5, rtol=1e-5)
        assert found.decoded.tolist() == list(range(7))
        assert found.faults == {}


def test_threads_change_nothing_and_every_file_is_closed(tmp_path: Path) -> None:
    tars = opened(squares(tmp_path, "many", 40, tars=9, bad=2))
    model = model_of()
    before = len(list(Path("/proc/self/fd").iterdir()))
    one, three = extracted(embed_of(model), tars), extracted(embed_of(model), tars, workers=3)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert torch.equal(one.values, three.values)
    # The first images of the first two tars, of which the first has five.
    assert one.faults == three.faults == {0: "not_an_image", 5: "not_an_image"}
    assert one.decoded.tolist() == [image for image in range(40) if image not in (0, 5)]
    assert len(one.values) == 38


def test_colours_are_told_apart_by_a_random_model(tmp_path: Path) -> None:
    train, test = opened(squares(tmp_path, "train", 60)), opened(squares(tmp_path, "test", 30, bad=1))
    found = probe(embed_of(model_of()), train, test, HERE, transform=LOADING, seed=0)
    assert found is not None
    assert found.top1 > 0.9
    assert (found.top5, found.classes) == (None, 3)
    assert (found.train_images, found.test_images, found.bad_images) == (60, 29, 1)
    assert found.numbers().keys() == {
        f"probe_{name}"
        for name in "top1 top5 classes train_images test_images bad_images learning_rate weight_decay seconds".split()
    }
    again = probe(embed_of(model_of()), train, test, HERE, transform=LOADING, seed=0)
    assert again is not None
    assert replace(again, seconds=0.0) == replace(found, seconds=0.0)


def test_images_that_all_turn_out_broken_are_an_error(tmp_path: Path) -> None:
    good, bad = opened(squares(tmp_path, "good", 9)), opened(squares(tmp_path, "bad", 6, bad=6))
    for train, test in ((good, bad), (bad, good)):
        with pytest.raises(InputError, match=r"6 not_an_image"):
            probe(embed_of(model_of()), train, test, HERE, transform=LOADING, seed=0)


def test_a_model_that_is_no_number_gives_no_number(tmp_path: Path) -> None:
    train, test = opened(squares(tmp_path, "train", 30)), opened(squares(tmp_path, "test", 6))
    model = model_of()
    with torch.no_grad():
        model.get_parameter("norm.weight").fill_(torch.nan)
    found = probe(embed_of(model), train, test, HERE, transform=LOADING, seed=0)
    assert found is not None
    assert np.isnan(found.top1)


def test_the_probe_of_a_run_and_the_verb_give_one_number(tmp_path: Path) -> None:
    train, test = squares(tmp_path, "train", 60), squares(tmp_path, "test", 31)
    options: dict[str, Any] = {"probe_images": (str(train),), "probe_eval_images": (str(test),)}
    assert pretrain(make_corpus(tmp_path / "corpus").config(tmp_path / "run", **options)) == 0
    (own,) = (record for record in read_records(tmp_path / "run") if record.method == "probe")
    task = TaskConfig(str(train), str(test), cache=tmp_path / "cache")
    config = ProbeConfig(tmp_path / "run", task, tmp_path / "out", neighbours=0, workers=0, device="cpu")
    (record,) = probe_records(config, HERE, task="squares")
    assert (record.metric, record.value) == ("top1", own.value)
    for name in ("top1", "learning_rate", "weight_decay", "train_images", "bad_images"):
        assert record.extra[name] == own.extra[name]
    assert record.images == own.images == 31
    assert own.task == f"{train} | {test}"


# --- several ranks ---


class Embedder(nn.Module):
    """What FSDP2 gathers weights for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return embed_of(self.model)(images)


def rank_of_two(train: LabelledImages, test: LabelledImages, out: Path) -> None:
    """Leave what a rank hears of a model whose weights are whole, then sharded."""
    with join_processes("cpu") as rank:
        sharded = Embedder(model_of())
        for block in sharded.model.get_submodule("blocks").children():
            fully_shard(block)
        fully_shard(sharded)
        found = [
            probe(embed, train, test, rank, transform=LOADING, seed=0) for embed in (embed_of(model_of()), sharded)
        ]
        (out / str(rank.index)).write_bytes(pickle.dumps(found))


def test_two_ranks_give_what_one_gives_with_whole_and_with_sharded_weights(forks: Forks, tmp_path: Path) -> None:
    train, test = opened(squares(tmp_path, "train", 37, bad=2)), opened(squares(tmp_path, "test", 9))
    alone = probe(embed_of(model_of()), train, test, HERE, transform=LOADING, seed=0)
    forks.run(2, tmp_path / "log", rank_of_two, train, test, tmp_path)
    main, other = (pickle.loads((tmp_path / rank).read_bytes()) for rank in "01")  # noqa: S301 - our own
    assert alone is not None
    assert other == [None, None]
    assert [replace(found, seconds=0.0) for found in main] == [replace(alone, seconds=0.0)] * 2


# --- options ---


def test_a_probe_needs_both_options_and_fitting_tars(tmp_path: Path) -> None:
    data = DataConfig(cache=tmp_path / "cache")
    folder = str(squares(tmp_path, "train", 6))
    assert open_probe(data, RunConfig()) is None
    named = DataConfig(images=("images",), labels="labels", vocabulary="vocabulary.parquet")
    for option in ("probe_images", "probe_eval_images"):
        with pytest.raises(InputError, match="found only one of --probe-images and --probe-eval-images"):
            check(PretrainConfig(data=named, run=RunConfig(**{option: (folder,)})), world=1)
    with pytest.raises(MismatchError, match="both trained on and tested on"):
        open_probe(data, RunConfig(probe_images=(folder,), probe_eval_images=(folder,)))
    test = str(squares(tmp_path, "test", 3))
    found = open_probe(data, RunConfig(probe_images=(folder,), probe_eval_images=(test,)))
    assert found is not None
    assert [len(side) for side in found] == [6, 3]


def test_real_images_are_told_apart_better_than_by_chance(real_data: Path, tmp_path: Path) -> None:
    tar = real_data / "images" / "tiny_imagenet" / "val-00000.tar"
    if not tar.exists():
        pytest.skip(f"no {tar}")
    whole = opened(tar, tmp_path / "cache")
    # Forty classes of 25 images each, every fifth of them to measure on.
    few = np.flatnonzero(whole.classes < 40)
    sides = [whole.select(some) for some in (few[np.arange(len(few)) % 5 != 0], few[::5])]
    found = probe(embed_of(model_of(img_size=64)), *sides, HERE, transform=replace(LOADING, size=64, batch=50), seed=0)
    assert found is not None
    assert (found.train_images, found.test_images, found.classes) == (800, 200, 40)
    assert found.top1 > 0.05
    assert found.top5 is not None
    assert found.top5 > found.top1
