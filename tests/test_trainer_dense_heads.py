"""Heads of segmentation: many at once equal each alone; dropout by the image's seed; DeepLab's shapes; the loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trainer.dense.heads import (
    ChannelDropout,
    DeepLabHead,
    LinearHeads,
    LinearSetting,
    blocks_of_choice,
    side_by_side,
)
from trainer.dense.segmenter import pixel_loss
from trainer.probe.linear import Head

SEEDS = torch.tensor([5, 6])


def maps(*widths: int, rows: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, width, rows, rows, generator=generator) for width in widths]


@pytest.mark.parametrize(
    ("choice", "blocks"), [("last", (-1,)), ("-2", (-2,)), ("0", (0,)), ("last2", (-2, -1)), ("last9", (-3, -2, -1))]
)
def test_a_choice_of_blocks_is_counted_from_the_end(choice: str, blocks: tuple[int, ...]) -> None:
    assert blocks_of_choice(choice, 3) == blocks


def test_heads_trained_at_once_learn_what_each_learns_alone() -> None:
    settings = [LinearSetting(blocks, rate) for blocks in ("last", "-2") for rate in (1e-3, 1e-1)]
    widths = {"last": 6, "-2": 8}
    every = LinearHeads(settings, widths, classes=3, dropout=0.5, seed=0)
    scales = every.lr_scales()
    groups = [{"params": [parameter], "lr": 1e-1 * scales[name]} for name, parameter in every.named_parameters()]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.1)
    masks = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(1)).to(torch.int16)
    for _ in range(3):
        losses = [pixel_loss(each, masks, align_corners=False) for each in every(maps(6, 8), SEEDS)]
        torch.stack(losses).mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    for number, setting in enumerate(settings):
        own = LinearHeads([setting], {setting.blocks: widths[setting.blocks]}, classes=3, dropout=0.5, seed=0)
        alone = torch.optim.AdamW(own.parameters(), lr=setting.learning_rate, weight_decay=0.1)
        for _ in range(3):
            (logits,) = own([maps(6, 8)[list(widths).index(setting.blocks)]], SEEDS)
            (pixel_loss(logits, masks, align_corners=False) / len(settings)).backward()
            alone.step()
            alone.zero_grad()
        for name in ("weight", "bias"):
            ours = every.get_parameter(f"classifiers.{number}.{name}")
            torch.testing.assert_close(ours, own.get_parameter(f"classifiers.0.{name}"))


def test_transferred_heads_give_the_logits_of_the_features_as_they_are() -> None:
    features = 3 * maps(6)[0] + 2
    mean, deviation = features.mean((0, 2, 3)), features.std((0, 2, 3), unbiased=False)
    head = Head(torch.randn(3, 6), torch.randn(3))
    heads = LinearHeads([LinearSetting("last", 1e-3)], {"last": 6}, classes=3, dropout=0.0, seed=0)
    heads.begin_with(head, mean, deviation)
    wanted = F.conv2d(features, head.weight[:, :, None, None], head.bias)
    torch.testing.assert_close(heads.eval()([features])[0], wanted, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(heads.train()([features], SEEDS)[0], wanted, rtol=1e-3, atol=1e-3)


def test_dropout_depends_on_the_image_s_seed_alone() -> None:
    dropout = ChannelDropout(0.5)
    ones = torch.ones(2, 64, 3, 3)
    dropped = dropout(ones, SEEDS)
    assert torch.equal(dropout(ones.flip(0), SEEDS.flip(0)).flip(0), dropped)
    assert not torch.equal(dropped[0], dropped[1])
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(dropped[:, :, 0, 0], dropped[:, :, 2, 1])
    assert 0.3 < float((dropped > 0).float().mean()) < 0.7
    assert torch.equal(dropout.eval()(ones, None), ones)


@pytest.mark.parametrize(("stride", "dilations"), [(8, [12, 24, 36]), (16, [6, 12, 18]), (32, [3, 6, 9])])
def test_deeplab_covers_as_many_pixels_at_every_stride(stride: int, dilations: list[int]) -> None:
    head = DeepLabHead(8, stride=stride, classes=5, width=4, dropout=0.1, seed=0)
    found = [part.dilation[0] for part in head.branches.modules() if isinstance(part, nn.Conv2d)]
    assert found == [1, *dilations]
    (logits,) = head(maps(8), SEEDS)
    assert logits.shape == (2, 5, 4, 4)


def test_maps_are_joined_at_the_finest_stride() -> None:
    fine, coarse = maps(3, rows=8)[0], maps(5, rows=4)[0]
    joined = side_by_side([coarse, fine])
    assert joined.shape == (2, 8, 8, 8)
    assert torch.equal(joined[:, 5:], fine)


def test_the_loss_is_that_of_all_pixels_whatever_is_computed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = maps(5)[0].requires_grad_()
    masks = torch.randint(-1, 5, (2, 8, 8), generator=torch.Generator().manual_seed(2)).to(torch.int16)
    fitted = F.interpolate(logits, (8, 8), mode="bilinear", align_corners=False)
    wanted = F.cross_entropy(fitted, masks.long(), ignore_index=-1, reduction="sum") / masks.numel()
    (gradient,) = torch.autograd.grad(wanted, logits)
    monkeypatch.setattr("trainer.dense.segmenter.LOGITS_AT_ONCE", 1)
    loss = pixel_loss(logits, masks, align_corners=False)
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], gradient)


def test_a_batch_without_a_labelled_pixel_has_no_loss_and_no_gradient() -> None:
    logits = maps(5)[0].requires_grad_()
    loss = pixel_loss(logits, torch.full((2, 8, 8), -1, dtype=torch.int16), align_corners=False)
    assert loss.detach() == 0
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad.any()
