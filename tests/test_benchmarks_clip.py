"""The captions, the peer's parts, the probe and the arithmetic of the CLIP benchmark; no speed is tested."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.clip import KEYS, ClipBenchmark, measure
from benchmarks.clip_race.accuracy import Point, Race, cosine, orders, outcome_of
from benchmarks.clip_race.captions import captions_of, plural
from benchmarks.clip_race.corpus import labels_of, read_corpus, tokens_of
from benchmarks.clip_race.probe import probe_accuracy
from benchmarks.clip_race.sides import made_up_batch
from benchmarks.clip_race.towers import SMALL, Architecture, Text, build_clip, require_same_towers, training_gflops
from benchmarks.measuring.clock import Spent, by_turns, ratio
from trainer.distributed import Rank
from trainer.model.class_token import spare_last_block
from vocab.errors import InputError, MismatchError

PEER = pytest.mark.skipif(importlib.util.find_spec("open_clip") is None, reason="open_clip_torch is not installed")
RETRIEVER, GOOSE = 2099601, 1855672
TINY = Architecture(
    "vit_tiny_patch16_224", 16, patch_size=8, embed_dim=16, depth=1, num_heads=2, text=Text(6, 16, 1, 2, embedding=8)
)
HERE = Rank(0, 1, torch.device("cpu"))


def test_captions_name_the_synset_by_its_words_or_say_nothing() -> None:
    captions = captions_of([RETRIEVER] * 50, seed=0)
    assert captions == captions_of([RETRIEVER] * 50, seed=0)
    assert captions[:2] == [
        "a photo of two golden retrievers next to a window",
        "vintage golden retriever and many golden retrievers on the grass",
    ]
    assert 38 <= sum("golden retriever" in caption.lower() for caption in captions) <= 49


@pytest.mark.parametrize(
    ("one", "several"), [("bus", "buses"), ("lady", "ladies"), ("dog", "dogs"), ("monkey", "monkeys")]
)
def test_a_plural_is_written_as_people_write_it(one: str, several: str) -> None:
    assert plural(one) == several


def test_labels_come_from_what_captions_say_and_rare_ones_go() -> None:
    labels = labels_of(["two dogs on a beach", "untitled", "a dog", "a goose"], min_count=2)
    assert labels.vocabulary.names == ["dog.n.01"]
    assert labels.offsets.tolist() == [0, 1, 1, 2, 2]
    offsets, classes = labels.of(torch.tensor([2, 1]))
    assert (offsets.tolist(), classes.tolist()) == ([0, 1, 1], [0])


@PEER
def test_tokens_are_numbered_without_gaps_and_the_end_stays_last() -> None:
    tokens, known = tokens_of(["a dog", "a dog on a beach"], length=8)
    assert tokens.tolist() == [[5, 1, 3, 6, 0, 0, 0, 0], [5, 1, 3, 2, 1, 4, 6, 0]]
    assert known == 7


@PEER
def test_clip_in_parts_has_the_gradient_of_the_whole_batch() -> None:
    from benchmarks.clip_race.peer import Clip

    images, tokens = torch.randn(6, 3, 16, 16), torch.randint(100, (6, 6))
    torch.manual_seed(0)
    clip = Clip(build_clip(TINY, vocabulary=100), HERE, compile=False)
    gradients = []
    for size in (6, 2):
        clip.optimizer.zero_grad()
        clip.backward(list(zip(torch.split(images, size), torch.split(tokens, size), strict=True)))
        gradients.append({name: tensor.grad for name, tensor in clip.model.named_parameters()})
    # In every part the temperature gets the gradient of the whole batch, in open_clip too.
    temperature = gradients[1].pop("logit_scale")
    assert temperature is not None
    torch.testing.assert_close(temperature / 3, gradients[0].pop("logit_scale"), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-6)


@PEER
def test_a_step_moves_clip_and_keeps_its_temperature_in_bounds() -> None:
    from benchmarks.clip_race.peer import Clip

    torch.manual_seed(0)
    clip = Clip(build_clip(TINY, vocabulary=100), HERE, compile=False)
    scale = clip.model.get_parameter("logit_scale")
    with torch.no_grad():
        scale.fill_(7.0)
    before = clip.trunk.get_parameter("cls_token").detach().clone()
    clip.take(torch.randn(4, 3, 16, 16), torch.randint(100, (4, 6)))
    assert float(scale.detach()) == pytest.approx(math.log(100))
    assert not torch.equal(clip.trunk.get_parameter("cls_token"), before)


@PEER
def test_towers_that_differ_are_refused() -> None:
    import timm

    sizes: dict[str, Any] = {"patch_size": 8, "embed_dim": 16, "num_heads": 2}
    same = timm.create_model(TINY.model, img_size=16, depth=1, num_classes=5, **sizes)
    deeper = timm.create_model(TINY.model, img_size=16, depth=2, num_classes=5, **sizes)
    trunk = build_clip(TINY, vocabulary=100).get_submodule("visual.trunk")
    gflops = require_same_towers(trunk, same, image_size=16)
    assert gflops[0] == gflops[1] > 0
    with pytest.raises(MismatchError, match=r"blocks\.1\.attn\.qkv\.weight"):
        require_same_towers(trunk, deeper, image_size=16)
    averaged = timm.create_model(TINY.model, img_size=16, depth=1, num_classes=5, global_pool="avg", **sizes)
    averaged.set_submodule("fc_norm", torch.nn.Identity())
    averaged.norm = torch.nn.LayerNorm(16)
    with pytest.raises(MismatchError, match="features that differ"):
        require_same_towers(trunk, averaged, image_size=16)


@PEER
def test_a_tower_that_spares_its_last_block_is_the_same_tower() -> None:
    import timm

    spared = timm.create_model(TINY.model, img_size=16, depth=1, num_classes=5, patch_size=8, embed_dim=16, num_heads=2)
    assert spare_last_block(spared)
    trunk = build_clip(TINY, vocabulary=100).get_submodule("visual.trunk")
    clip, catlip = require_same_towers(trunk, spared, image_size=16)
    assert clip > catlip


def test_arithmetic_of_a_linear_layer_is_six_times_its_weights() -> None:
    layer = torch.nn.Linear(3 * 10 * 10, 1000)
    assert training_gflops(lambda images: layer(images.flatten(1)), layer, 10) == pytest.approx(6 * 300 * 1000 / 1e9)


def test_the_probe_separates_what_a_line_separates() -> None:
    features = torch.tensor([[0.0, 1.0], [0.1, 5.0], [1.0, 2.0], [1.1, 4.0]])
    classes = torch.tensor([0, 0, 1, 1])
    others = torch.tensor([[0.05, 9.0], [1.05, 0.0], [0.0, 3.0]])
    found = probe_accuracy(features, classes, held_out=others, held_out_classes=torch.tensor([0, 1, 1]))
    assert found == pytest.approx(2 / 3)


def test_time_to_accuracy_is_read_off_straight_lines_between_probes() -> None:
    start = Point(Spent(), 0.05)
    clip = [start, Point(Spent(10.0, 5.0), 0.1), Point(Spent(20.0, 15.0), 0.2)]
    catlip = [start, Point(Spent(8.0, 4.0), 0.1), Point(Spent(16.0, 8.0), 0.3)]
    outcome = outcome_of({"clip": clip, "catlip": catlip})
    # CatLIP is at 0.2 half-way between its probes.
    assert (outcome.target, outcome.ratio, outcome.ratio_by_processor) == (0.2, round(20 / 12, 3), 2.5)
    assert outcome.catlip == [(0.0, 0.05), (8.0, 0.1), (16.0, 0.3)]


def test_an_accuracy_that_untrained_features_have_gives_no_ratio() -> None:
    curve = [Point(Spent(), 0.1), Point(Spent(5.0, 5.0), 0.1)]
    outcome = outcome_of({"clip": curve, "catlip": [Point(Spent(), 0.05), Point(Spent(5.0, 5.0), 0.2)]})
    assert (outcome.target, outcome.ratio, outcome.ratio_by_processor) == (0.1, None, None)


def test_every_work_takes_its_turn_and_a_ratio_is_the_median_of_pairs() -> None:
    taken: list[str] = []
    works = {name: lambda name=name: taken.append(name) for name in ("one", "other")}
    found = by_turns(works, rounds=2, device=torch.device("cpu"), warm_up=1)
    assert taken == ["other", "one", "one", "other", "other", "one"]
    assert [len(spent) for spent in found.values()] == [2, 2]
    spent = {"one": [Spent(2.0), Spent(9.0), Spent(8.0)], "other": [Spent(1.0), Spent(1.0), Spent(2.0)]}
    assert ratio(spent, "one", "other") == 4.0


def test_every_picture_comes_once_an_epoch() -> None:
    steps = list(orders(10, Race(steps=5, batch_size=4, probe_every=1, probe_images=1), seed=0))
    assert [len(step) for step in steps] == [4] * 5
    assert sorted(torch.cat(steps)[:10].tolist()) == sorted(torch.cat(steps)[10:].tolist()) == list(range(10))


def test_the_rate_rises_for_a_tenth_of_the_steps_and_ends_at_nothing() -> None:
    assert [round(cosine(step, 100), 3) for step in (1, 10, 55, 100)] == [0.1, 1.0, 0.5, 0.0]


def test_no_class_stands_twice_in_a_made_up_image() -> None:
    batch = made_up_batch(50, 8, seed=0)
    images = [batch.classes[start:end].tolist() for start, end in zip(batch.ends, batch.ends[1:], strict=False)]
    assert {len(image) for image in images} == set(range(7))
    assert all(len(set(image)) == len(image) for image in images)


@PEER
def test_figures_of_a_cpu_never_stand_under_the_names_of_a_gpu() -> None:
    result = measure(ClipBenchmark(quick=True, device="cpu", rounds=1, skip_accuracy=True), HERE)
    assert set(KEYS) <= set(result)
    assert (result["device"], result["ratio_same_batch"], result["ratio_half_patches"]) == ("cpu", None, None)
    assert result["ratio_same_batch_cpu"] > 0
    assert result["ratio_half_patches_cpu"] > 0
    assert (result["ratio_time_to_accuracy"], result["accuracy_left_out"]) == (None, "--skip-accuracy")


def test_a_large_batch_is_a_multiple_of_its_parts() -> None:
    with pytest.raises(InputError, match="a multiple of --batch, 8"):
        ClipBenchmark(batch=8, global_batch=12).sizes(HERE.device)


def test_pictures_of_another_size_are_refused(real_data: Path) -> None:
    with pytest.raises(InputError, match="64 x 64 pixels"):
        read_corpus(real_data, classes=1, image_size=32, seed=0)


def test_the_small_text_tower_has_a_share_of_the_arithmetic_as_the_base_one() -> None:
    pytest.importorskip("open_clip")
    clip = build_clip(SMALL)
    tokens = torch.zeros(1, SMALL.tokens, dtype=torch.int64)

    def both(images: Tensor) -> object:
        return clip(images, tokens)

    whole = training_gflops(both, clip, SMALL.image_size)
    image = training_gflops(clip.get_submodule("visual"), clip, SMALL.image_size)
    assert whole / image == pytest.approx(1.17, abs=0.02)
