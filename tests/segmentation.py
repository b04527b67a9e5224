"""A segmentation task of coloured rectangles, a backbone to segment with, and small runs."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainer.transfer.dense_config import MaskTask, SegmentConfig

COLOURS = ((40, 40, 40), (200, 40, 40), (40, 200, 40), (40, 40, 200))
"""colours of the background and of three classes"""
NAMES = ("background", "dog", "cat", "car")
DEEPLAB: dict[str, Any] = {"head": "deeplab", "blocks": (), "learning_rates": (), "head_width": 16, "layer_decay": 0.8}
"""options of a small DeepLabv3"""


def png(pixels: Any, *, mode: str | None = None) -> bytes:
    """Encode an array; `mode`: PIL's, of the file."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.asarray(pixels))
    (image if mode is None else image.convert(mode)).save(buffer, "PNG")
    return buffer.getvalue()


def scene(number: int, *, size: tuple[int, int] = (24, 32)) -> tuple[np.ndarray, np.ndarray]:
    """Draw an image of noisy rectangles, with the class of each pixel."""
    generator = np.random.default_rng(number)
    rows, columns = size
    labels = np.zeros(size, np.uint8)
    for label in generator.permutation([1, 2, 3]).tolist():
        top, left = int(generator.integers(0, rows - 8)), int(generator.integers(0, columns - 8))
        labels[top : top + 8, left : left + 8] = label
    noise = generator.integers(-25, 25, (rows, columns, 3))
    return (np.array(COLOURS)[labels] + noise).clip(0, 255).astype(np.uint8), labels


def write_scenes(root: Path, numbers: Sequence[int]) -> str:
    """Write images and masks in two folders; return them as one side of a task."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in numbers:
        image, labels = scene(number)
        (root / "images" / f"{number}.png").write_bytes(png(image))
        (root / "masks" / f"{number}.png").write_bytes(png(labels))
    return f"{root / 'images'}::{root / 'masks'}"


def task_in(root: Path, *, train: int = 24, test: int = 6) -> MaskTask:
    """Write a task of rectangles in four classes. Not to be written to."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "names.json").write_text(json.dumps(NAMES))
    sides = (write_scenes(root / "train", range(train)), write_scenes(root / "test", range(100, 100 + test)))
    return MaskTask(*sides, class_names=root / "names.json")


def config(model: Path, task: MaskTask, out: Path, **changes: Any) -> SegmentConfig:
    """A run of linear heads of six steps."""
    plain = SegmentConfig(
        model=model,
        task=task,
        out=out,
        image_size=16,
        epochs=2,
        batch=8,
        learning_rates=(1e-2, 1e-1),
        blocks=("last", "-2"),
        workers=0,
        device="cpu",
        log_every=1,
        checkpoint_every=2,
    )
    return replace(plain, **changes)


def results(run: Path) -> dict[str, Any]:
    """Everything that results.json says of its one record."""
    found: dict[str, Any] = json.loads((run / "results.json").read_text())
    (record,) = found["records"]
    return {**found, **record, **record["extra"], **found["data"], **found["details"]}
