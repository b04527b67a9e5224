"""A task: images to train on and to test on, with one numbering of classes and a name for each.

In: `TaskConfig`, what the command line says. Out: `Task`.

    --task.train train/                            a folder of class folders         class_folders.py
    --task.train 'images/{000..146}.tar'           tars with a .cls in each sample   tars.py
    --task.train train.csv                         path and label in each row        csv_table.py
    --task.train instances.json::train2017/        COCO's annotations and images     coco.py
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from trainer.data.labelled_images import LabelledImages
from trainer.data.tar_cache import TarCache, default_cache
from trainer.data.tar_locations import PIPE, is_local, local_name
from trainer.transfer.config import TaskConfig
from trainer.transfer.tasks.class_folders import open_class_folders
from trainer.transfer.tasks.class_names import ClassNames, names_of_classes
from trainer.transfer.tasks.coco import open_coco
from trainer.transfer.tasks.csv_table import open_csv_table
from trainer.transfer.tasks.files import left_out_note
from trainer.transfer.tasks.name_files import Names, read_name_file
from trainer.transfer.tasks.numbering import check_sides, is_number, renumbered
from trainer.transfer.tasks.tars import open_tars, with_all_classes
from vocab.errors import InputError
from vocab.pages.text import counted, listed
from vocab.store.files import leads_to_folder
from vocab.store.leftovers import is_leftover

Kind = Literal["folders", "tars", "csv", "coco"]
BETWEEN = "::"
FORMS = "a folder of class folders, tars, a .csv or .tsv, or ANNOTATIONS.json::IMAGE_FOLDER"


@dataclass(frozen=True, eq=False)
class Task:
    """Images with one numbering of classes."""

    train: LabelledImages
    test: LabelledImages
    class_names: tuple[str, ...]
    """name of each class by its number, in words or as a wnid"""
    notes: tuple[str, ...] = ()
    """notes on the data for readers of results: classes without images, images left out"""


def open_task(config: TaskConfig) -> Task:
    """Both sides of a task; no image is read. Every rank opens them, and raises the same errors.

    Raises InputError for a side that cannot be opened, and for fewer than two classes with images (one, where an image
    has any number of them); MismatchError for test classes that are not trained on, an image that is on both sides, and
    names that are not those of the classes; and for options that cannot work.
    """
    train, test = _open(config.train, config), _open(config.test, config)
    given = _given_names(config)
    # A longer list is no list of these classes: `names_of_classes` says so. The last class may be on one side alone.
    if isinstance(given, list) and _is_tars(config.train, config):
        last = max(int(side.labels[-1]) for side in (train, test) if is_number(side.labels[-1]))
        if last == len(given) - 1:
            train = with_all_classes(train, len(given))
    test = renumbered(test, train.labels)
    check_sides(train, test)
    named = names_of_classes(train.labels, given, source=config.class_names, own=train.class_names)
    notes = (*notes_of("train", train), *notes_of("test", test), *named.notes)
    return Task(train, test, named.names, notes)


def open_images(place: str, config: TaskConfig) -> LabelledImages:
    """One side of a task alone, for what needs no training: its classes are all that there are.

    A list of names says how many classes tars have. Raises as `open_task`.
    """
    images = _open(place, config)
    given = _given_names(config)
    if isinstance(given, list) and _is_tars(place, config) and int(images.labels[-1]) < len(given):
        return with_all_classes(images, len(given))
    return images


def class_names_of(images: LabelledImages, config: TaskConfig) -> ClassNames:
    """The names of the classes of `open_images`. Raises MismatchError for names that are not those of the classes."""
    given = _given_names(config)
    return names_of_classes(images.labels, given, source=config.class_names, own=images.class_names)


def kind_of(place: str, config: TaskConfig) -> Kind:
    """Which form the images of a place have. Raises InputError for a place that has none."""
    if config.kind != "auto":
        return config.kind
    before = place.rpartition(BETWEEN)[0]
    suffix = Path(place).suffix.lower()
    if place.startswith(PIPE):
        return "tars"
    if before.lower().endswith(".json"):
        return "coco"
    if suffix in (".csv", ".tsv") and is_local(place):
        return "csv"
    if not is_local(place) or suffix == ".tar" or (re.search(r"[*?{\[]", place) and not os.path.exists(place)):  # noqa: PTH110
        return "tars"
    if Path(local_name(place)).is_dir():
        return _kind_of_folder(local_name(place))
    remedy = "Write ANNOTATIONS.json::IMAGE_FOLDER." if suffix == ".json" else "Check the place, or give --task.kind."
    raise InputError(
        place,
        found=f"a file that ends in {suffix!r}" if Path(place).exists() else "no such file",
        wanted=FORMS,
        remedy=remedy,
    )


def _kind_of_folder(folder: str) -> Kind:
    """Class folders or tars, by what lies in the folder itself."""
    with os.scandir(folder) as entries:
        seen = [(entry.name, leads_to_folder(entry)) for entry in entries if not is_leftover(entry.name)]
    tars = sum(name.endswith(".tar") and not is_folder for name, is_folder in seen)
    folders = sum(is_folder for _, is_folder in seen)
    if bool(tars) == bool(folders):
        raise InputError(
            folder,
            found=f"{counted(tars, 'tar')} and {counted(folders, 'folder')}",
            wanted="tars alone, or a folder of images for each class",
            remedy="Give --task.kind folders or --task.kind tars, or another folder.",
        )
    return "tars" if tars else "folders"


def _given_names(config: TaskConfig) -> Names | None:
    return None if config.class_names is None else read_name_file(config.class_names)


def _is_tars(place: str, config: TaskConfig) -> bool:
    return kind_of(place, config) == "tars"


def _open(place: str, config: TaskConfig) -> LabelledImages:
    if config.multi_label and (kind := kind_of(place, config)) not in ("csv", "coco"):
        raise InputError(
            "--task.multi-label",
            found=f"{place}, of kind {kind}, which has one class an image",
            wanted="a .csv or .tsv, or ANNOTATIONS.json::IMAGE_FOLDER",
            remedy="Leave it out, or write a table with a row for each image and class.",
        )
    if not place:
        raise InputError("--task.train or --task.test", found="an empty place", wanted=FORMS, remedy="Name the images.")
    kind = kind_of(place, config)
    if kind != "tars" and not all(map(is_local, place.split(BETWEEN))):
        raise InputError(
            place,
            found=f"a URI of {kind}",
            wanted="a path of this machine, or tars",
            remedy="Copy it to this machine first: of what a store holds only tars are read.",
        )
    match kind:
        case "folders":
            return open_class_folders(local_name(place), max_bad_share=config.max_bad_share)
        case "csv":
            table = Path(local_name(place))
            return open_csv_table(
                table,
                columns=config.csv_columns,
                multi_label=config.multi_label,
                max_bad_share=config.max_bad_share,
            )
        case "coco":
            annotations, between, folder = place.rpartition(BETWEEN)
            folder = local_name(folder)
            if not between or not folder or not Path(folder).is_dir():
                found = f"no image folder {folder!r}" if between else f"no {BETWEEN!r}"
                remedy = "Name the folder of the images after two colons."
                raise InputError(place, found=found, wanted="ANNOTATIONS.json::IMAGE_FOLDER", remedy=remedy)
            return open_coco(Path(local_name(annotations)), folder, max_bad_share=config.max_bad_share)
        case "tars":
            cache = TarCache(
                default_cache(config.cache) / "tars",
                max_bytes=int(config.cache_gb * 1e9),
                allow_pipe=config.allow_pipe,
                prefix="--task.",
            )
            return open_tars([place], cache=cache, max_bad_share=config.max_bad_share)


def notes_of(side: str, images: LabelledImages) -> list[str]:
    """Notes on one side of a task: classes without an image, and images that were left out."""
    empty = [images.labels[number] for number in np.flatnonzero(images.images_by_class == 0).tolist()]
    of = f"of {counted(len(images.labels), 'class', 'classes')}"
    missing = counted(len(empty), f"{of} has no image", f"{of} have no image")
    notes = [f"{side}: {missing}: {listed(empty)}"] if empty else []
    if images.skipped:
        notes.append(f"{side}: {left_out_note(images.skipped)}")
    return notes + [f"{side}: {note}" for note in images.notes]
