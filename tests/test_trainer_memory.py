"""Memory: what is reckoned without data is what torch really saves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from trainer.config import ModelConfig
from trainer.model.backbone import architecture, checkpoint_activations, classifier_of, features, on_meta
from trainer.model.objective import prepare
from trainer.model.per_image import seeds_of
from trainer.model.range_augment import DRAWS, RangeAugment, psnr_loss
from trainer.speed.memory import RESERVED_BYTES, Memory, activations, augment_bytes, count_saved, memory

SMALL = ModelConfig(model="vit_tiny_patch16_224", patch_size=8, embed_dim=32, depth=3, num_heads=2)


def step_memory(model: nn.Module, *, world: int = 1, **options: Any) -> Memory:
    """Memory of a step on images of 32 pixels, of whose logits 100 exist at a time."""
    return memory(model, classifier_of(model), size=32, share=1.0, world=world, head_chunk=100, **options)


def really_saved(config: ModelConfig, count: int, *, bfloat16: bool, checkpointing: bool) -> int:
    """Bytes that autograd saves of real tensors."""
    model = architecture(config, classes=10, image_size=32, one_size=False).train()
    if checkpointing:
        checkpoint_activations(model)
    seeds_of(model).set(torch.arange(count))
    images = prepare(torch.zeros(count, 32, 32, 3, dtype=torch.uint8), None)
    return count_saved(lambda: features(model, images), model.parameters(), bfloat16=bfloat16)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_activations_are_those_that_torch_saves(bfloat16: bool, checkpointing: bool, keep: float) -> None:
    config = replace(SMALL, patch_keep=keep, drop_path=0.1)
    model = on_meta(config, classes=10, image_size=32)
    found = activations(model, size=32, share=keep, bfloat16=bfloat16, checkpointing=checkpointing)
    two, eight = (really_saved(config, count, bfloat16=bfloat16, checkpointing=checkpointing) for count in (2, 8))
    assert found.image == pytest.approx((eight - two) / 6, rel=0.01)
    if not checkpointing:
        assert found.shared == pytest.approx(two - 2 * found.image, abs=0.01 * two)


def test_checkpointed_blocks_and_the_rest_make_the_whole() -> None:
    model = on_meta(SMALL, classes=10, image_size=32)
    plain, again = (activations(model, size=32, checkpointing=checkpointing) for checkpointing in (False, True))
    assert plain.block == again.block
    assert plain.image == pytest.approx(again.image + 3 * again.block, abs=3)


def test_a_copy_of_an_image_is_counted_once() -> None:
    weight, images = torch.ones(4, requires_grad=True), torch.ones(2, 4)
    # The product saves both factors, each time the same two; its view adds nothing, its square does.
    assert count_saved(lambda: (images * weight + images.view(2, 4) * weight).square(), [weight]) == 32 + 32


def test_what_augmentation_keeps_is_what_torch_saves() -> None:
    augment, plain = RangeAugment(), torch.zeros(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    draws, seeds = torch.zeros(2, DRAWS), torch.arange(2)
    real = count_saved(
        lambda: psnr_loss(plain, augment(plain, draws=draws, seeds=seeds), progress=0.5), augment.parameters()
    )
    assert augment_bytes(2, size=32) == pytest.approx(real, rel=0.01)


def test_a_process_keeps_four_numbers_a_weight_and_its_average() -> None:
    model = on_meta(SMALL, classes=10, image_size=32)
    count = sum(weight.numel() for weight in model.parameters())
    fixed = step_memory(model).fixed
    assert {name: fixed[name] for name in ("weights", "gradients", "optimiser", "average", "exchange")} == {
        "weights": 4 * count,
        "gradients": 4 * count,
        "optimiser": 8 * count,
        "average": 4 * count,
        "exchange": 0,
    }
    assert fixed["logits"] == 100 * 10 * 6
    assert fixed["classifier's gradient"] == 4 * 10 * 32
    assert fixed["reserved"] == RESERVED_BYTES


def test_fsdp_divides_what_belongs_to_weights_by_the_processes() -> None:
    model = on_meta(SMALL, classes=10, image_size=32)
    alone = step_memory(model, world=4).fixed
    among = step_memory(model, world=4, parallel="fsdp").fixed
    for name in ("weights", "gradients", "optimiser", "average"):
        assert among[name] == alone[name] // 4
    block = sum(weight.numel() for weight in model.get_submodule("blocks.0").parameters())
    rest = sum(weight.numel() for weight in model.parameters()) - 3 * block
    assert among["exchange"] == 8 * (2 * block + rest)
    # Gradients of all blocks are kept whole until the last part of a step.
    in_parts = step_memory(model, world=4, parallel="fsdp", accumulate=2).fixed
    assert in_parts["exchange"] == 4 * (2 * block + rest) + 4 * (3 * block + rest)
    assert step_memory(model, world=4, accumulate=2).fixed == alone
    assert alone["exchange"] == 0


def test_muon_keeps_one_moment_of_the_blocks_matrices() -> None:
    model = on_meta(SMALL, classes=10, image_size=32)
    adamw = step_memory(model).fixed
    fixed = step_memory(model, optimiser="muon").fixed
    assert adamw["optimiser"] - fixed["optimiser"] == 4 * 3 * 12 * 32**2
    assert (adamw["optimiser's work"], fixed["optimiser's work"]) == (0, 4 * 2 * 4 * 32**2)


def test_most_images_are_those_that_fit() -> None:
    found = step_memory(on_meta(SMALL, classes=10, image_size=32))
    most = found.most_images(3_000_000_000)
    assert found.total(most) <= 3_000_000_000 < found.total(most + 1)
    assert found.most_images(RESERVED_BYTES) == 0
