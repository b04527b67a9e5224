"""The probe: features whatever the ranks, a classifier that is the optimum, and numbers that can be believed."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from tests.forks import Forks
from tests.pictures import picture, write_tar
from trainer.config import DataConfig, RunConfig
from trainer.data.class_tars import ClassTars, open_class_tars
from trainer.data.crops import centre_box
from trainer.data.decoding import Decoding, EvalTransform
from trainer.data.device_batches import prepare
from trainer.data.images import crop_into
from trainer.data.tar_cache import TarCache
from trainer.distributed import Rank, join_processes
from trainer.model.vit import features
from trainer.probe import linear_probe
from trainer.probe.features import Embed, Features, extract
from trainer.probe.probe import open_probe, probe
from vocab.errors import InputError, MismatchError

HERE = Rank(0, 1, torch.device("cpu"))
LOADING = {"size": 16, "batch": 4, "bfloat16": False}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices so small are no work for two; threads that wait for each other would be."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


def opened(folder: Path) -> ClassTars:
    return open_class_tars([str(folder)], cache=TarCache(folder.parent / "cache", max_bytes=1 << 30))


def embed_of(model: nn.Module) -> Embed:
    return lambda images: features(model.eval(), prepare(images, None))


def extracted(embed: Embed, tars: ClassTars, workers: int = 0) -> Features:
    viewing = EvalTransform(16, tars.eval_crop, 4, Decoding(workers, 1, tars.max_pixels), bfloat16=False)
    found = extract(embed, tars.store, np.arange(len(tars)), HERE, viewing)
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
    found = probe(embed_of(model_of()), train, test, HERE, **LOADING, seed=0)
    assert found is not None
    assert found.top1 > 0.9
    assert (found.top5, found.classes) == (None, 3)
    assert (found.train_images, found.test_images, found.bad_images) == (60, 29, 1)
    assert found.numbers().keys() == {
        f"probe_{name}" for name in "top1 top5 classes train_images test_images bad_images weight_decay seconds".split()
    }
    again = probe(embed_of(model_of()), train, test, HERE, **LOADING, seed=0)
    assert again is not None
    assert replace(again, seconds=0.0) == replace(found, seconds=0.0)


def test_images_that_all_turn_out_broken_are_an_error(tmp_path: Path) -> None:
    good, bad = opened(squares(tmp_path, "good", 9)), opened(squares(tmp_path, "bad", 6, bad=6))
    for train, test in ((good, bad), (bad, good)):
        with pytest.raises(InputError, match=r"6 not_an_image"):
            probe(embed_of(model_of()), train, test, HERE, **LOADING, seed=0)


def test_a_model_that_is_no_number_gives_no_number(tmp_path: Path) -> None:
    train, test = opened(squares(tmp_path, "train", 30)), opened(squares(tmp_path, "test", 6))
    model = model_of()
    with torch.no_grad():
        model.get_parameter("norm.weight").fill_(torch.nan)
    found = probe(embed_of(model), train, test, HERE, **LOADING, seed=0)
    assert found is not None
    assert np.isnan(found.top1)


# --- several ranks ---


class Embedder(nn.Module):
    """What FSDP2 gathers weights for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return embed_of(self.model)(images)


def rank_of_two(train: ClassTars, test: ClassTars, out: Path) -> None:
    """Leave what a rank hears of a model whose weights are whole, then sharded."""
    with join_processes("cpu") as rank:
        sharded = Embedder(model_of())
        for block in sharded.model.get_submodule("blocks").children():
            fully_shard(block)
        fully_shard(sharded)
        found = [
            probe(embed, train, test, rank, size=16, batch=4, bfloat16=False, seed=0)
            for embed in (embed_of(model_of()), sharded)
        ]
        (out / str(rank.index)).write_bytes(pickle.dumps(found))


def test_two_ranks_give_what_one_gives_with_whole_and_with_sharded_weights(forks: Forks, tmp_path: Path) -> None:
    train, test = opened(squares(tmp_path, "train", 37, bad=2)), opened(squares(tmp_path, "test", 9))
    alone = probe(embed_of(model_of()), train, test, HERE, **LOADING, seed=0)
    forks.run(2, tmp_path / "log", rank_of_two, train, test, tmp_path)
    main, other = (pickle.loads((tmp_path / rank).read_bytes()) for rank in "01")  # noqa: S301 - our own
    assert alone is not None
    assert other == [None, None]
    assert [replace(found, seconds=0.0) for found in main] == [replace(alone, seconds=0.0)] * 2


# --- the classifier ---


def blobs(images: int, width: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features of overlapping classes, of different scales."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(count, width, generator=generator)
    classes = torch.randint(count, (images,), generator=generator)
    noise = torch.randn(images, width, generator=generator)
    return (centres[classes] + noise) * torch.logspace(-3, 3, width) + 5, classes


@settings(deadline=None, max_examples=20)
@given(
    images=st.integers(1, 12),
    width=st.integers(1, 5),
    count=st.integers(2, 6),
    chunk=st.integers(1, 40),
    decay=st.sampled_from([0.0, 0.3]),
)
def test_the_gradient_is_that_of_autograd(images: int, width: int, count: int, chunk: int, decay: float) -> None:
    generator = torch.Generator().manual_seed(images)
    rows = torch.randn(images, width, generator=generator)
    classes = torch.randint(count, (images,), generator=generator)
    parameters = torch.randn(width + 1, count, generator=generator, requires_grad=True)
    naive = F.cross_entropy(rows @ parameters[:-1] + parameters[-1], classes)
    naive = naive + decay / 2 * parameters[:-1].square().sum()
    (wanted,) = torch.autograd.grad(naive, parameters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_probe, "CHUNK_ELEMENTS", chunk)
        loss, gradient = linear_probe.objective(parameters.detach(), rows, classes, decay=decay)
    torch.testing.assert_close(loss, naive.detach())
    torch.testing.assert_close(gradient, wanted, atol=1e-5, rtol=1e-4)


def test_the_fit_is_the_optimum_whatever_the_scale_of_the_features() -> None:
    values, classes = blobs(300, 6, 4, seed=1)
    (model,) = linear_probe.fit(values, classes, count=4, decays=[1e-2])
    rows = (values - model.mean) / model.deviation
    parameters = torch.cat([model.weight, model.bias[None]])
    loss, gradient = linear_probe.objective(parameters, rows, classes, decay=1e-2)
    # Long gradient descent from elsewhere ends at the same loss.
    slow = torch.zeros_like(parameters)
    for _ in range(1000):
        slow -= 0.5 * linear_probe.objective(slow, rows, classes, decay=1e-2)[1]
    assert abs(float(loss - linear_probe.objective(slow, rows, classes, decay=1e-2)[0])) < 1e-5
    assert gradient.abs().max() < 1e-3
    torch.testing.assert_close(parameters, slow, atol=0.02, rtol=0.02)


def test_a_feature_that_never_changes_does_no_harm() -> None:
    values, classes = blobs(200, 4, 3, seed=2)
    constant = torch.full((200, 1), 1234.5)
    (with_it,) = linear_probe.fit(torch.cat([values, constant], 1), classes, count=3, decays=[1e-2])
    (without,) = linear_probe.fit(values, classes, count=3, decays=[1e-2])
    others = torch.cat([values, constant + 1], 1)
    torch.testing.assert_close(with_it.logits(others), without.logits(values), atol=1e-3, rtol=1e-3)


def test_noise_gets_a_strong_decay_and_clean_data_does_not_lose_to_it() -> None:
    generator = torch.Generator().manual_seed(0)
    noise, classes = torch.randn(200, 100, generator=generator), torch.randint(2, (200,), generator=generator)
    noise[:, 0] += 2 * classes
    _, strong = linear_probe.train(noise, classes, count=2, seed=0)
    assert strong >= 1e-2
    model, decay = linear_probe.train(noise, classes, count=2, seed=0, decays=[1e-3])
    assert decay == 1e-3
    assert linear_probe.accuracy(model, noise, classes).top1 == 1.0


def test_accuracy_counts_the_first_and_the_first_five() -> None:
    model = linear_probe.Linear(torch.eye(7), torch.zeros(7), torch.zeros(7), torch.ones(7))
    features = torch.arange(7.0).flip(0).repeat(4, 1)
    found = linear_probe.accuracy(model, features, torch.tensor([0, 4, 5, -1]))
    assert (found.top1, found.top5) == (0.25, 0.5)


# --- options ---


def test_a_probe_needs_both_options_and_fitting_tars(tmp_path: Path) -> None:
    data = DataConfig(cache=tmp_path / "cache")
    folder = str(squares(tmp_path, "train", 6))
    assert open_probe(data, RunConfig()) is None
    with pytest.raises(InputError, match="--probe-eval-images: found nothing"):
        open_probe(data, RunConfig(probe_images=(folder,)))
    with pytest.raises(InputError, match="--probe-images: found nothing"):
        open_probe(data, RunConfig(probe_eval_images=(folder,)))
    with pytest.raises(MismatchError, match="both trained and measured on"):
        open_probe(data, RunConfig(probe_images=(folder,), probe_eval_images=(folder,)))
    test = str(squares(tmp_path, "test", 3))
    found = open_probe(data, RunConfig(probe_images=(folder,), probe_eval_images=(test,)))
    assert found is not None
    assert [len(side) for side in found] == [6, 3]


def test_real_images_are_told_apart_better_than_by_chance(real_data: Path, tmp_path: Path) -> None:
    tar = real_data / "images" / "tiny_imagenet" / "val-00000.tar"
    if not tar.exists():
        pytest.skip(f"no {tar}")
    whole = open_class_tars([str(tar)], cache=TarCache(tmp_path / "cache", max_bytes=1 << 30))
    # Forty classes of 25 images each, every fifth of them to measure on.
    few = np.flatnonzero(np.isin(whole.classes, whole.labels[:40]))
    sides = [part(whole, few[np.arange(len(few)) % 5 != 0]), part(whole, few[::5])]
    found = probe(embed_of(model_of(img_size=64)), *sides, HERE, size=64, batch=50, bfloat16=False, seed=0)
    assert found is not None
    assert (found.train_images, found.test_images, found.classes) == (800, 200, 40)
    assert found.top1 > 0.05
    assert found.top5 is not None
    assert found.top5 > found.top1


def part(whole: ClassTars, images: np.ndarray) -> ClassTars:
    """Some images of tars."""
    arrays = {name: getattr(whole, name)[images] for name in ("tars", "offsets", "sizes", "classes")}
    return replace(whole, keys=tuple(whole.keys[image] for image in images), **arrays)
