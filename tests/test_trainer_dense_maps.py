"""Feature maps: the whole last block, several blocks at once, strides, and models without blocks."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from trainer.dense.maps import FeatureMaps, MapSpec, read_own_values, require_pooled_map, set_stride
from trainer.model.backbone import features
from trainer.model.class_token import spare_last_block
from vocab.errors import InputError

SIZE = 64
IMAGES = torch.rand(2, 3, SIZE, SIZE)


def vit(**options: Any) -> Any:
    torch.manual_seed(0)
    given = {"img_size": SIZE, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 5, **options}
    return timm.create_model("vit_tiny_patch16_224", **given).eval()


@pytest.mark.parametrize("pool", ["token", "avg", "map"])
def test_the_last_map_is_what_the_whole_last_block_gives(pool: str) -> None:
    model = vit(global_pool=pool)
    patches = model.fc_norm(model.forward_features(IMAGES)[:, model.num_prefix_tokens :])
    assert spare_last_block(model) == (pool == "token")
    (last,) = FeatureMaps(model, size=SIZE)(IMAGES)
    assert last.shape == (2, 48, 4, 4)
    assert torch.equal(last.flatten(2).transpose(1, 2), patches)


def test_several_blocks_give_maps_in_the_order_asked_for() -> None:
    model = vit()
    _, found = model.forward_intermediates(IMAGES, norm=True)
    maps = FeatureMaps(model, size=SIZE, blocks=(-1, 0))
    assert maps.specs == (MapSpec(2, 48, 16), MapSpec(0, 48, 16))
    last, first = maps(IMAGES)
    assert torch.equal(last, found[2])
    assert torch.equal(first, found[0])


@pytest.mark.parametrize(
    ("name", "last", "before"),
    [
        ("convnext_atto", MapSpec(3, 320, 32), MapSpec(2, 160, 16)),
        ("resnet18", MapSpec(4, 512, 32), MapSpec(3, 256, 16)),
    ],
)
def test_a_convolutional_network_has_a_map_after_each_stage(name: str, last: MapSpec, before: MapSpec) -> None:
    maps = FeatureMaps(timm.create_model(name, num_classes=5).eval(), size=SIZE, blocks=(-2, -1))
    assert maps.specs == (before, last)
    assert [tuple(each.shape) for each in maps(IMAGES)] == [
        (2, spec.channels, SIZE // spec.stride, SIZE // spec.stride) for spec in maps.specs
    ]


@pytest.mark.parametrize("name", ["test_byobnet", "test_nfnet", "test_resnet"])
def test_the_mean_of_a_convolutional_network_s_last_map_is_what_its_classifier_reads(name: str) -> None:
    network: Any = timm.create_model(name, num_classes=2).eval()
    pixels = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = features(network, pixels)
    maps = FeatureMaps(network, size=96)
    with torch.no_grad():
        (last,) = maps(pixels)
    assert torch.allclose(last.mean((2, 3)), wanted, atol=1e-5)


def test_parameters_that_no_map_depends_on_take_no_gradient() -> None:
    maps = FeatureMaps(vit(global_pool="map"), size=SIZE, blocks=(1,))
    maps(IMAGES)[0].sum().backward()
    learning = {name for name, parameter in maps.model.named_parameters() if parameter.requires_grad}
    assert learning == {name for name, parameter in maps.model.named_parameters() if parameter.grad is not None}
    frozen = {name.split(".")[0] for name, _ in maps.model.named_parameters()} - {
        name.split(".")[0] for name in learning
    }
    assert frozen == {"attn_pool"}
    assert not any(name.startswith("blocks.2.") for name in learning)


def test_a_finer_stride_gives_a_map_of_twice_the_rows() -> None:
    model = vit()
    embeddings = model.pos_embed.detach().clone()
    set_stride(model, 8, size=SIZE)
    maps = FeatureMaps(model, size=SIZE)
    assert maps.specs == (MapSpec(2, 48, 8),)
    assert maps(IMAGES)[0].shape == (2, 48, 8, 8)
    assert torch.equal(model.pos_embed[:, 0], embeddings[:, 0])
    assert model.pos_embed.shape == (1, 65, 48)


@pytest.mark.parametrize(("model", "stride"), [("vit", 5), ("resnet18", 8)])
def test_a_stride_that_a_model_cannot_have_is_refused(model: str, stride: int) -> None:
    made: nn.Module = vit() if model == "vit" else timm.create_model(model)
    with pytest.raises(InputError, match=r"--stride: found .*; wanted a plain vision transformer"):
        set_stride(made, stride, size=SIZE)


def test_a_block_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(InputError, match="the blocks: found block 3 of vit_tiny_patch16_224, which has maps of 3; "):
        FeatureMaps(vit(), size=SIZE, blocks=(3,))


def test_a_classifier_of_other_features_than_the_last_map_has_is_refused() -> None:
    maps = FeatureMaps(timm.create_model("mobilenetv3_small_050", num_classes=2), size=64)
    require_pooled_map(maps, 288, remedy="Use --init random.")
    with pytest.raises(InputError, match=r"a last map of 288 channels below a classifier of 1024 features"):
        require_pooled_map(maps, 1024, remedy="Use --init random.")


def test_a_size_that_the_model_cannot_see_is_refused() -> None:
    with pytest.raises(InputError, match="--image-size: found 96 for vit_tiny_patch16_224"):
        FeatureMaps(vit(), size=96)


def test_own_values_are_the_attention_of_a_token_that_sees_itself_alone() -> None:
    model = vit()
    tokens = torch.rand(2, 5, 48)
    attention = model.blocks[-1].attn
    (alone,) = {attention(tokens[:, 2:3])}
    spare_last_block(model)
    assert read_own_values(model)
    torch.testing.assert_close(model.blocks[-1].attn(tokens)[:, 2:3], alone)
    assert FeatureMaps(model, size=SIZE)(IMAGES)[0].shape == (2, 48, 4, 4)
    assert not read_own_values(vit(global_pool="avg"))
    assert not read_own_values(timm.create_model("resnet18"))
