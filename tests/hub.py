"""Models in a cache of the Hugging Face Hub, from which names of timm are read without a network."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
from torch import nn


def cached(hub: Path, monkeypatch: pytest.MonkeyPatch, model: nn.Module, repository: str) -> None:
    """Lay a model into a cache, as a download leaves it, and let nothing be downloaded."""
    place = hub / f"models--{repository.replace('/', '--')}"
    timm.models.save_for_hf(model, place / "snapshots" / "abc", safe_serialization=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
