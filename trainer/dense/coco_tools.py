"""faster-coco-eval, which fills COCO's polygons and computes its average precision: the extra `dense`, loaded late."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from vocab.errors import MissingRequirementError

PACKAGE = "faster_coco_eval"


def mask_tools() -> Any:
    """Load the functions on masks: frPyObjects, merge, encode, decode. Raises as `evaluator`."""
    return _loaded("mask")


def evaluator() -> Any:
    """Load the package itself: COCO and COCOeval_faster. Raises MissingRequirementError if it is not installed."""
    return _loaded("")


@cache
def _loaded(part: str) -> Any:
    try:
        package = importlib.import_module(PACKAGE)
    except ImportError as error:
        raise MissingRequirementError(
            "boxes and masks of objects",
            found=f"no package {PACKAGE} ({error})",
            wanted="faster-coco-eval 1.8 or later, which reads COCO's masks and computes their average precision",
            remedy="Install it: pip install -e '.[dense]'",
        ) from error
    return getattr(package, part) if part else package
