"""A detection task of coloured rectangles in COCO's form, and small runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.segmentation import COLOURS, png
from trainer.transfer.detect_config import DetectConfig, DetectTask

CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 44, "name": "car"}]
SIZE = (48, 64)
"""rows and columns of an image"""


def scene(number: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Draw an image with one or two rectangles, and describe them as annotations."""
    generator = np.random.default_rng(number)
    rows, columns = SIZE
    pixels = np.full((rows, columns, 3), COLOURS[0])
    annotations = []
    for side in range(1 + number % 2):
        kind = int(generator.integers(0, 3))
        left, top = 32 * side + int(generator.integers(0, 8)), int(generator.integers(0, 20))
        width, height = int(generator.integers(16, 24)), int(generator.integers(16, 28))
        pixels[top : top + height, left : left + width] = COLOURS[1 + kind]
        annotations.append(
            {
                "image_id": number,
                "category_id": CATEGORIES[kind]["id"],
                "bbox": [left, top, width, height],
                "area": width * height,
                "iscrowd": 0,
                "segmentation": [
                    [left, top, left + width, top, left + width, top + height, left, top + height],
                ],
            }
        )
    noise = generator.integers(-20, 20, pixels.shape)
    return (pixels + noise).clip(0, 255).astype(np.uint8), annotations


def write_scenes(root: Path, numbers: Sequence[int]) -> str:
    """Write images and their annotations; return them as one side of a task."""
    (root / "images").mkdir(parents=True)
    made: dict[str, Any] = {"images": [], "annotations": [], "categories": CATEGORIES}
    for number in numbers:
        pixels, annotations = scene(number)
        (root / "images" / f"{number}.png").write_bytes(png(pixels))
        made["images"].append({"id": number, "file_name": f"{number}.png", "width": SIZE[1], "height": SIZE[0]})
        made["annotations"] += annotations
    (root / "instances.json").write_text(json.dumps(made))
    return f"{root / 'instances.json'}::{root / 'images'}"


def rewritten(side: str, root: Path, **changes: Any) -> str:
    """Write a side's annotations with other lists, for the same images."""
    annotations, folder = side.split("::")
    content = {**json.loads(Path(annotations).read_text()), **changes}
    root.mkdir(exist_ok=True)
    (root / "instances.json").write_text(json.dumps(content))
    return f"{root / 'instances.json'}::{folder}"


def annotations_of(side: str) -> list[dict[str, Any]]:
    """Return a side's annotations."""
    found: list[dict[str, Any]] = json.loads(Path(side.split("::")[0]).read_text())["annotations"]
    return found


def task_in(root: Path, *, train: int = 16, test: int = 4) -> DetectTask:
    """Write a task of rectangles in three classes. Not to be written to."""
    return DetectTask(write_scenes(root / "train", range(train)), write_scenes(root / "test", range(100, 100 + test)))


def config(model: Path, task: DetectTask, out: Path, **changes: Any) -> DetectConfig:
    """A run of four steps."""
    plain = DetectConfig(
        model=model,
        task=task,
        out=out,
        image_size=64,
        epochs=1,
        batch=4,
        head_width=16,
        head_convolutions=1,
        proposals=40,
        boxes=32,
        peak_lr=3e-3,
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
