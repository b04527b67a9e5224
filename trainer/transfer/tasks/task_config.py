"""What the command line says of a task: its images, and what their classes are called.

In: `--task.*` of every verb that measures on other tasks. Out: `TaskConfig`; nothing is imported that --help would wait
for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vocab.store.locations import Location


@dataclass(frozen=True)
class TaskConfig:
    """The images of a task and what their classes are called."""

    train: str
    """images to train on: a folder with a folder for each class; tars with a .cls in each sample, named by a folder, a
    glob, braces or URLs; a .csv or .tsv of path and label; or ANNOTATIONS.json::IMAGE_FOLDER, as COCO has them"""
    test: str
    """images to test on, in any of these forms"""
    kind: Literal["auto", "folders", "tars", "csv", "coco"] = "auto"
    """which of these forms both have; auto looks at names, and into folders"""
    class_names: Location | None = None
    """names of the classes, as wnids or in words, where the labels are neither: a .txt or .json list in the order of
    the classes, or a .json, .csv or .tsv of label and name"""
    cache: Path | None = None
    """folder on a local disk for copies of remote tars; unset: open-catlip in the user's cache folder"""
    cache_gb: float = 200.0
    """what the copies of remote tars may take, GB (10^9 bytes)"""
    max_bad_share: float = 0.1
    """share of the images of either side that may be missing or broken"""
    max_pixels: int = 89_478_485
    """images with more pixels than this are refused before they are decoded; the default is PIL's"""
    multi_label: bool = False
    """the rows of a .csv are an image and one of its classes each, and an image may have several, or one row without a
    label, which shows none; COCO's annotations are so without it"""
    truncated_images: Literal["refuse", "take"] = "refuse"
    """images that break off behind their header: left out; or taken as far as they go, and counted (JPEG, PNG, GIF, BMP
    and uncompressed TIFF; of other formats nothing can be decoded)"""
    allow_pipe: bool = False
    """let `pipe:COMMAND` in place of tars run a shell command with your rights"""
    csv_columns: tuple[str, str] = ("path", "label")
    """names of the columns of a .csv with the path of an image and with its label"""

    @property
    def take_truncated(self) -> bool:
        """True if images that break off are taken."""
        return self.truncated_images == "take"
