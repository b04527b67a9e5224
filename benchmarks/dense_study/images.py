"""COCO's panoptic images for the benchmark of dense tasks: both sides as they lie, and a few of them on both sides."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from trainer.transfer.dense_config import MaskTask
from vocab.errors import InputError


@dataclass(frozen=True)
class PanopticImages:
    """A folder laid out as images/coco_dense/coco_panoptic of the real data."""

    folder: Path

    def require(self) -> None:
        """Raise InputError where the folder is missing."""
        if not self.side("train").exists():
            raise InputError(
                self.folder,
                found="no panoptic images of COCO",
                wanted="images/coco_dense/coco_panoptic of the real data",
                remedy="Name the folder with real data by --data.",
            )

    def side(self, name: str) -> Path:
        """Annotations of a side, train or val."""
        return self.folder / f"panoptic_{name}2017.json"

    def location(self, name: str) -> str:
        """Location of a side for --task.train and --task.test."""
        inside = f"{name}2017"
        return f"{self.side(name)}::{self.folder / 'images' / inside}::{self.folder / 'panoptic' / inside}"

    def task(self) -> MaskTask:
        """Both sides, things and stuff."""
        return MaskTask(self.location("train"), self.location("val"))

    def first_on_both_sides(self, count: int, out: Path) -> MaskTask:
        """Copy the first training images into two folders, to test a model on the images that it was trained on.

        The classes are those that the images show.
        """
        content = json.loads(self.side("train").read_text())
        images = sorted(content["images"], key=lambda image: image["id"])[:count]
        names = {image["id"]: image["file_name"] for image in images}
        annotations = [each for each in content["annotations"] if each["image_id"] in names]
        used = {segment["category_id"] for each in annotations for segment in each["segments_info"]}
        categories = [category for category in content["categories"] if category["id"] in used]
        sides = []
        for name in ("train", "test"):
            root = out / name
            for folder, files in (("images", names.values()), ("panoptic", [a["file_name"] for a in annotations])):
                (root / folder).mkdir(parents=True)
                for file in files:
                    shutil.copy(self.folder / folder / "train2017" / file, root / folder / file)
            some = {"images": images, "annotations": annotations, "categories": categories}
            (root / "panoptic.json").write_text(json.dumps(some))
            sides.append(f"{root / 'panoptic.json'}::{root / 'images'}::{root / 'panoptic'}")
        return MaskTask(*sides)
