"""The captions, the peer's parts, the probe and the arithmetic of the CLIP benchmark; no speed is tested."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.clip_captions import captions_of, plural
from benchmarks.clip_corpus import labels_of, read_corpus, tokens_of
from benchmarks.clip_probe import probe_accuracy
from benchmarks.clip_towers import SMALL, Architecture, Text, build_clip, require_same_towers, training_gflops
from trainer.distributed import Place
from vocab.errors import InputError, MismatchError

PEER = pytest.mark.skipif(importlib.util.find_spec("open_clip") is None, reason="open_clip_torch is not installed")
RETRIEVER, GOOSE = 2099601, 1855672
TINY = Architecture(
    "vit_tiny_patch16_224", 16, patch_size=8, embed_dim=16, depth=1, num_heads=2, text=Text(6, 16, 1, 2, embedding=8)
)
HERE = Place(0, 1, torch.device("cpu"))


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
    from benchmarks.clip_peer import Clip

    images, tokens = torch.randn(6, 3, 16, 16), torch.randint(100, (6, 6))
    torch.manual_seed(0)
    clip = Clip(build_clip(TINY, vocabulary=100), HERE, compile=False)
    gradients = []
    for size in (6, 2):
        clip.optimizer.zero_grad()
        clip.backward(list(zip(images.split(size), tokens.split(size), strict=True)))
        gradients.append({name: tensor.grad for name, tensor in clip.model.named_parameters()})
    # In every part the temperature gets the gradient of the whole batch, in open_clip too.
    temperature = gradients[1].pop("logit_scale")
    assert temperature is not None
    torch.testing.assert_close(temperature / 3, gradients[0].pop("logit_scale"), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-6)


@PEER
def test_a_step_moves_clip_and_keeps_its_temperature_in_bounds() -> None:
    from benchmarks.clip_peer import Clip

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

    sizes = {"patch_size": 8, "embed_dim": 16, "num_heads": 2}
    same = timm.create_model(TINY.model, img_size=16, depth=1, num_classes=5, **sizes)
    deeper = timm.create_model(TINY.model, img_size=16, depth=2, num_classes=5, **sizes)
    trunk = build_clip(TINY, vocabulary=100).get_submodule("visual.trunk")
    assert require_same_towers(trunk, same, image_size=16) > 0
    with pytest.raises(MismatchError, match=r"blocks\.1\.attn\.qkv\.weight"):
        require_same_towers(trunk, deeper, image_size=16)


def test_arithmetic_of_a_linear_layer_is_six_times_its_weights() -> None:
    layer = torch.nn.Linear(3 * 10 * 10, 1000)
    assert training_gflops(lambda images: layer(images.flatten(1)), layer, 10) == pytest.approx(6 * 300 * 1000 / 1e9)


def test_the_probe_separates_what_a_line_separates() -> None:
    features = torch.tensor([[0.0, 1.0], [0.1, 5.0], [1.0, 2.0], [1.1, 4.0]])
    classes = torch.tensor([0, 0, 1, 1])
    others = torch.tensor([[0.05, 9.0], [1.05, 0.0], [0.0, 3.0]])
    found = probe_accuracy(features, classes, held_out=others, held_out_classes=torch.tensor([0, 1, 1]))
    assert found == pytest.approx(2 / 3)


def test_pictures_of_another_size_are_refused(real_data: Path) -> None:
    with pytest.raises(InputError, match="64 x 64 pixels"):
        read_corpus(real_data, image_size=32, seed=0, limit=1)


def test_the_small_text_tower_has_a_share_of_the_arithmetic_as_the_base_one() -> None:
    pytest.importorskip("open_clip")
    clip = build_clip(SMALL)
    tokens = torch.zeros(1, SMALL.tokens, dtype=torch.int64)

    def both(images: Tensor) -> object:
        return clip(images, tokens)

    whole = training_gflops(both, clip, SMALL.image_size)
    image = training_gflops(clip.get_submodule("visual"), clip, SMALL.image_size)
    assert whole / image == pytest.approx(1.17, abs=0.01)
