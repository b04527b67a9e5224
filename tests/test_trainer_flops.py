"""Floating-point work and peaks: counted as by hand, and as others state it."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

from trainer.config import ModelConfig
from trainer.model.backbone import on_meta
from trainer.speed.flops import forward_flops, training_flops
from trainer.speed.peak import CARDS, card_of, measured_peak, stated_peak


def model(name: str, *, patch: int = 16, classes: int = 24_320, pool: Literal["token", "avg"] = "token") -> nn.Module:
    return on_meta(ModelConfig(model=name, patch_size=patch, global_pool=pool), classes=classes, image_size=224)


def by_hand(*, size: int, patch: int, share: float, width: int, depth: int, classes: int) -> int:
    """Forward and backward: patch embedding, blocks (four square matrices, an MLP of four widths, attention), head.

    The last block has keys and values of all tokens, and everything else of one.
    """
    patches = (size // patch) ** 2
    tokens = max(1, round(patches * share)) + 1
    products = tokens * 12 * width**2 + 2 * tokens**2 * width
    last = tokens * 2 * width**2 + 10 * width**2 + 2 * tokens * width
    return 3 * 2 * (patches * 3 * patch**2 * width + (depth - 1) * products + last + width * classes)


@pytest.mark.parametrize("size", [112, 224])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.25])
@pytest.mark.parametrize("patch", [16, 14])
def test_torch_counts_what_is_counted_by_hand(size: int, share: float, patch: int) -> None:
    expected = by_hand(size=size, patch=patch, share=share, width=192, depth=12, classes=24_320)
    assert training_flops(model("vit_tiny_patch16_224", patch=patch), size=size, share=share) == expected


@pytest.mark.parametrize(
    ("name", "giga"),
    [
        ("vit_small_patch16_224", 27.6),
        ("vit_base_patch16_224", 105.4),
        ("vit_large_patch16_224", 369.3),
        ("vit_huge_patch14_224", 763.9),
    ],
)
def test_trunks_cost_what_others_state(name: str, giga: float) -> None:
    # timm's tables have a third of it in multiply-adds: B/16 17.58, for 6 operations each.
    trunk = training_flops(model(name, classes=1, pool="avg"), size=224)
    assert trunk / 1e9 == pytest.approx(giga, abs=0.05)


@pytest.mark.parametrize(
    ("name", "giga"), [("resnet50", 4.1), ("convnext_tiny", 4.5), ("swin_tiny_patch4_window7_224", 4.5)]
)
def test_convolutions_and_windows_cost_what_others_state(name: str, giga: float) -> None:
    # Their papers have multiply-adds of one forward pass.
    found = on_meta(ModelConfig(model=name), classes=1, image_size=224, one_size=True)
    assert training_flops(found, size=224) / 6e9 == pytest.approx(giga, abs=0.05)


def test_training_is_three_forward_passes_and_evaluation_sees_all_patches() -> None:
    tiny = model("vit_tiny_patch16_224")
    assert training_flops(tiny, size=224) == 3 * forward_flops(tiny, size=224)
    halved = training_flops(tiny, size=224, share=0.5)
    assert halved < 3 * forward_flops(tiny.eval(), size=224)


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989),
        ("NVIDIA B200", 2250),
        ("NVIDIA L40S", 362),
        ("NVIDIA A10", 125),
        ("Tesla V100-SXM2-32GB", 125),
        ("Tesla T4", 65),
        ("h100", 989),
    ],
)
def test_the_makers_peaks_are_found_by_torch_s_names(name: str, tera: float) -> None:
    assert stated_peak(name) == tera * 1e12


@pytest.mark.parametrize("name", ["NVIDIA GeForce RTX 4090", "NVIDIA A10G", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", ""])
def test_a_device_that_is_not_in_the_table_has_no_stated_peak(name: str) -> None:
    assert stated_peak(name) is None


def test_every_row_of_the_table_is_reached() -> None:
    assert [card_of(" ".join(card.words)) for card in CARDS] == list(CARDS)


def test_the_peak_of_the_cpu_can_be_measured() -> None:
    assert 1e6 < measured_peak(torch.device("cpu"), torch.float32, side=64) < 1e15
