"""Random weights in the names and shapes of the released CatLIP checkpoints, and files that come with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.synsets import CAR, CAT, DOG

WIDTH, HIDDEN, STEM, BLOCKS, HEADS = 128, 256, 32, 2, 2
COUNTS = {f"n{DOG}": 90, f"n{CAT}": 90, f"n{CAR}": 7, "n928077": 3}
CLASSES = 3


def released(*, attention: str = "out_proj_attn", seed: int = 0) -> dict[str, Tensor]:
    """Draw random weights under CoreNet's names and in its shapes."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.2

    tensors = {"cls_token": noise(1, 1, WIDTH), "pos_embed.pos_embed.pos_embed": noise(1, 1, 196, WIDTH)}
    for place, (out, into, kernel) in enumerate([(STEM, 3, 4), (STEM, STEM, 2), (WIDTH, STEM, 2)]):
        tensors[f"patch_emb.{place}.block.conv.weight"] = noise(out, into, kernel, kernel)
        if place == 2:
            tensors[f"patch_emb.{place}.block.conv.bias"] = noise(out)
            break
        norm = f"patch_emb.{place}.block.norm"
        tensors |= {f"{norm}.weight": 1 + noise(out), f"{norm}.bias": noise(out), f"{norm}.running_mean": noise(out)}
        tensors |= {f"{norm}.running_var": 1 + noise(out).abs(), f"{norm}.num_batches_tracked": torch.tensor(9)}
    layers = {
        "pre_norm_mha.1.qkv_proj": (3 * WIDTH, WIDTH),
        f"pre_norm_mha.1.{attention}": (WIDTH, WIDTH),
        "pre_norm_ffn.1": (HIDDEN, WIDTH),
        "pre_norm_ffn.4": (WIDTH, HIDDEN),
    }
    for block in range(BLOCKS):
        for name, (out, into) in layers.items():
            tensors[f"transformer.{block}.{name}.weight"] = noise(out, into)
            tensors[f"transformer.{block}.{name}.bias"] = noise(out)
        for name in ("pre_norm_mha.0", "pre_norm_ffn.0"):
            tensors[f"transformer.{block}.{name}.weight"] = 1 + noise(WIDTH)
            tensors[f"transformer.{block}.{name}.bias"] = noise(WIDTH)
    tensors |= {"post_transformer_norm.weight": 1 + noise(WIDTH), "post_transformer_norm.bias": noise(WIDTH)}
    tensors |= {"classifier.weight": noise(CLASSES, WIDTH), "classifier.bias": noise(CLASSES)}
    tensors["neural_augmentor.brightness._low"] = torch.tensor(0.5)
    return tensors


class Code:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)
