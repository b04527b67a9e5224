"""Options of runs of timm's smallest models that are no plain transformers.

resnet: convolutions and batch norms. maxvit: stages of windows, with batch norms too. convnext: stages, layer norms.
"""

from __future__ import annotations

from typing import Any

SMALL = {"test_resnet": 32, "test_maxvit": 64, "test_convnext": 32}
"""sizes of images that they take"""


def backbone(name: str, **changes: Any) -> dict[str, Any]:
    """Options of a run of one of SMALL."""
    sizes = dict.fromkeys(("patch_size", "embed_dim", "depth", "num_heads", "global_pool"))
    return {"model": name, "image_size": SMALL[name], **sizes, **changes}
