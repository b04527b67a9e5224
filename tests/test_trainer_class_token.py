"""The last block for the class token alone: the same features and gradients as timm's whole block, to rounding."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.forks import Forks
from trainer.config import ModelConfig
from trainer.model.backbone import architecture, checkpoint_activations, features
from trainer.model.class_token import ClassTokenBlock, spare_last_block
from trainer.model.per_image import install, seeds_of

pytestmark = pytest.mark.arithmetic

SIZES: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
SEEDS = torch.tensor([0, 1, -1, 2**62])


def pair(name: str = "vit_tiny_patch16_224", *, patch_keep: float = 1.0, **options: Any) -> tuple[nn.Module, nn.Module]:
    """timm's model, and the same with its last block spared; float64, in training."""
    torch.manual_seed(0)
    whole = timm.create_model(name, num_classes=5, **SIZES, **options).double().train()
    for parameter in whole.parameters():
        # Biases and scales too: those of a new model are zero or alike.
        nn.init.normal_(parameter, std=0.3)
    spared = copy.deepcopy(whole)
    assert spare_last_block(spared)
    for model in (whole, spared):
        install(model, patch_keep=patch_keep)
    return whole, spared


def outcome(model: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    """Features of four images, and the gradients of the sum of their squares."""
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    seeds_of(model).set(SEEDS)
    found = features(model, images)
    found.square().sum().backward()
    return found.detach(), {name: own.grad for name, own in model.named_parameters() if own.grad is not None}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patch_keep": 0.5, "drop_path_rate": 0.5},
        {"init_values": 0.1, "qk_norm": True, "scale_attn_norm": True, "scale_mlp_norm": True},
        {"qkv_bias": False},
        {"reg_tokens": 4, "pre_norm": True},
        {"no_embed_class": True},
    ],
)
def test_features_and_gradients_are_those_of_the_whole_block(options: dict[str, Any]) -> None:
    whole, spared = pair(**options)
    assert isinstance(spared.get_submodule("blocks.2"), ClassTokenBlock)
    wanted, found = outcome(whole), outcome(spared)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(outcome(spared.eval())[0], outcome(whole.eval())[0], rtol=1e-10, atol=1e-10)


def test_computed_again_it_gives_the_same_gradients() -> None:
    whole, spared = pair(patch_keep=0.5, drop_path_rate=0.5)
    checkpoint_activations(spared)
    torch.testing.assert_close(outcome(spared), outcome(whole), rtol=1e-10, atol=1e-10)


def test_weights_keep_timm_s_names_and_order() -> None:
    whole, spared = pair(init_values=0.1)
    assert list(spared.state_dict()) == list(whole.state_dict())


@pytest.mark.parametrize("pool", ["avg", "map"])
def test_pooling_that_reads_patches_keeps_the_whole_block(pool: str) -> None:
    model = timm.create_model("vit_tiny_patch16_224", global_pool=pool, class_token=pool != "map", **SIZES)
    assert not spare_last_block(model)
    assert not isinstance(model.blocks[-1], ClassTokenBlock)


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "vit_small_patch16_18x2_224", "resnet18"])
def test_other_kinds_of_models_stay_as_they_are(name: str) -> None:
    model = timm.create_model(name)
    kinds = [type(module) for module in model.modules()]
    assert not spare_last_block(model)
    assert [type(module) for module in model.modules()] == kinds


def test_the_trainer_s_models_have_it_with_a_class_token() -> None:
    sizes: dict[str, Any] = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    token = architecture(ModelConfig(**sizes), classes=5, image_size=32)
    assert isinstance(token.get_submodule("blocks.1"), ClassTokenBlock)
    assert not isinstance(token.get_submodule("blocks.0"), ClassTokenBlock)
    average = architecture(ModelConfig(**sizes, global_pool="avg"), classes=5, image_size=32)
    assert not isinstance(average.get_submodule("blocks.1"), ClassTokenBlock)


def offered() -> dict[str, bool]:
    """Which attentions torch may take on a GPU, as the flags are now."""
    cuda = torch.backends.cuda
    return {
        "flash": cuda.flash_sdp_enabled(),
        "efficient": cuda.mem_efficient_sdp_enabled(),
        "math": cuda.math_sdp_enabled(),
        "cudnn": cuda.cudnn_sdp_enabled(),
    }


@pytest.mark.parametrize("pool", ["token", "map"])
def test_one_query_is_never_offered_to_cudnn_and_the_other_blocks_are(
    monkeypatch: pytest.MonkeyPatch, pool: Literal["token", "map"]
) -> None:
    sizes: dict[str, Any] = {"patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
    config = ModelConfig(model="vit_tiny_patch16_224", global_pool=pool, **sizes)
    model = architecture(config, classes=5, image_size=32).double().train()
    attend, seen = functional.scaled_dot_product_attention, []

    def watched(query: Tensor, *given: Any, **options: Any) -> Tensor:
        seen.append((query.shape[2], offered()))
        return attend(query, *given, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    outcome(model)
    every = {"flash": True, "efficient": True, "math": True, "cudnn": True}
    # The last block has one query for the class token; attention pooling has it behind the blocks.
    whole = {"token": 2, "map": 3}[pool]
    assert seen == [(17, every)] * whole + [(1, {**every, "cudnn": False})]
    assert offered() == every


# In a fork, for the tests' type checks are no code to compile.
COMPILED = """
import timm, torch
from torch.nn.functional import scaled_dot_product_attention
from trainer.model.class_token import ClassTokenBlock

def watching(graph, _):
    class Watch(torch.fx.Interpreter):
        def call_function(self, target, args, kwargs):
            if target is scaled_dot_product_attention:
                print("cudnn", torch.backends.cuda.cudnn_sdp_enabled())
            return super().call_function(target, args, kwargs)
    return Watch(graph).run

block = timm.create_model("vit_tiny_patch16_224", depth=1, embed_dim=16, num_heads=2).blocks[0]
compiled = torch.compile(ClassTokenBlock(block), fullgraph=True, backend=watching)
compiled(torch.randn(2, 5, 16))
print("after", torch.backends.cuda.cudnn_sdp_enabled())
"""


def test_compiled_in_one_graph_it_is_not_offered_to_cudnn_either(forks: Forks, tmp_path: Path) -> None:
    group = forks.start(1, tmp_path / "log", exec, COMPILED, {})
    assert group.wait() == [0], group.said()
    assert group.said().splitlines()[-2:] == ["cudnn False", "after True"]
