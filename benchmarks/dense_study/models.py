"""Small models with random weights, as folders that the verbs read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch

from trainer.weights.folder import ModelSpec, Preprocessing, new_folder, timm_fields, write_model


def random_transformer(out: Path, *, size: int, seed: int = 0, **arguments: Any) -> Path:
    """Write a vision transformer of timm with random weights. `arguments`: of timm.create_model."""
    torch.manual_seed(seed)
    given = {"img_size": size, **arguments}
    model: Any = timm.create_model("vit_tiny_patch16_224", num_classes=2, **given)
    seen = Preprocessing(size, 0.5, 0.5, 1.0)
    spec = ModelSpec(
        "vit_tiny_patch16_224", given, seen, model.num_features, given.get("global_pool", "token"), "patch_embed.proj"
    )
    with new_folder(out) as work:
        write_model(work, model.state_dict(), timm_fields(spec, classes=2))
    return out
