"""A task: images to train on and to test on, with one numbering of classes and a name for each; and shares of images.

In: `TaskConfig`, the options of the command line. Out: `TaskData`; with `subset`, a percentage of its training images.

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
from jaxtyping import Int64

from trainer.data.draws import draws, shard_hash
from trainer.data.labelled_images import MAX_CLASSES, LabelledImages, TarStore
from trainer.data.tar_cache import cache_of
from trainer.data.tar_locations import PIPE, is_local, local_name, shown_tar
from trainer.transfer.config import TaskConfig
from trainer.transfer.tasks.class_folders import open_class_folders
from trainer.transfer.tasks.class_names import ClassNames, Names, names_of_classes, read_name_file
from trainer.transfer.tasks.coco import open_coco
from trainer.transfer.tasks.csv_table import open_csv_table
from trainer.transfer.tasks.files import FileStore, left_out_note, shared_files
from trainer.transfer.tasks.numbering import is_number, renumbered
from trainer.transfer.tasks.tars import open_tars, with_all_classes
from vocab.errors import InputError, MismatchError
from vocab.pages.text import counted, listed
from vocab.store.file_names import is_leftover
from vocab.store.files import leads_to_folder

Kind = Literal["folders", "tars", "csv", "coco"]
BETWEEN = "::"
FORMS = "a folder of class folders, tars, a .csv or .tsv, or ANNOTATIONS.json::IMAGE_FOLDER"


@dataclass(frozen=True, eq=False)
class TaskData:
    """Images with one numbering of classes."""

    train: LabelledImages
    test: LabelledImages
    class_names: tuple[str, ...]
    """name of each class by its number, in words or as a wnid"""
    notes: tuple[str, ...] = ()
    """notes on the data for readers of results: classes without images, images left out"""

    def without_images(self, images: LabelledImages) -> list[str]:
        """Names of the classes that none of some images shows."""
        return [self.class_names[number] for number in np.flatnonzero(images.images_by_class == 0).tolist()]

    def lacking(self, images: LabelledImages) -> list[str]:
        """Write a note on the classes without a training image; none where each has one."""
        names = self.without_images(images)
        empty = counted(len(names), "class has no training image", "classes have no training image")
        return [f"{empty}: {listed(names)}"] if names else []


def open_task(config: TaskConfig) -> TaskData:
    """Open both sides of a task; no image is read. Every rank opens them, and raises the same errors.

    Raises InputError for a side that cannot be opened, and for fewer than two classes with images (one, where an image
    has any number of them); MismatchError for test classes that are not trained on, an image that is on both sides, and
    names that are not those of the classes; and for options that cannot work.
    """
    train, test = _open(config.train, config), _open(config.test, config)
    given = _given_names(config)
    # `names_of_classes` refuses a longer list. The last class may be on one side alone.
    if isinstance(given, list) and _is_tars(config.train, config):
        last = max(int(side.labels[-1]) for side in (train, test) if is_number(side.labels[-1]))
        if last == len(given) - 1:
            train = with_all_classes(train, len(given))
    test = renumbered(test, train.labels)
    check_sides(train, test)
    named = names_of_classes(train.labels, given, source=config.class_names, own=train.class_names)
    notes = (*notes_of("train", train), *notes_of("test", test), *named.notes)
    return TaskData(train, test, named.names, notes)


def open_images(location: str, config: TaskConfig) -> LabelledImages:
    """Open one side of a task alone, for methods that train nothing: its classes are all there are.

    A list of names says how many classes tars have. Raises as `open_task`.
    """
    images, given = _open(location, config), _given_names(config)
    if isinstance(given, list) and _is_tars(location, config) and int(images.labels[-1]) < len(given):
        images = with_all_classes(images, len(given))
    return images


def class_names_of(images: LabelledImages, config: TaskConfig) -> ClassNames:
    """Name the classes of `open_images`. Raises MismatchError for names that are not those of the classes."""
    return names_of_classes(images.labels, _given_names(config), source=config.class_names, own=images.class_names)


def check_sides(train: LabelledImages, test: LabelledImages) -> None:
    """Raise an error if nothing can be trained on one and measured on the other.

    InputError for too few classes or more than MAX_CLASSES, and for test images that show none; MismatchError for one
    class an image on one side and any number on the other, and for an image that is on both sides.
    """
    if train.multi_label != test.multi_label:
        kinds = ("one class for each image", "any number of classes for each image")
        raise MismatchError(
            "the test images",
            found=kinds[test.multi_label],
            wanted=f"{kinds[train.multi_label]}, as the training images have it",
            remedy="Give training and test images of one data set.",
        )
    fewest = 1 if train.multi_label else 2
    shown = int(np.count_nonzero(train.images_by_class))
    if shown < fewest or len(train.labels) > MAX_CLASSES:
        raise InputError(
            "the training images",
            found=f"{counted(shown, 'class', 'classes')} with images, of {len(train.labels):,}",
            wanted=f"{fewest} to {MAX_CLASSES:,}",
            remedy="Look at the labels: they are names or numbers of classes, not of images.",
        )
    if not len(test.classes):
        raise InputError(
            "the test images",
            found=f"{counted(len(test), 'image')}, none of which shows a class",
            wanted="at least one image of a class",
            remedy="Look at the annotations: a mean average precision of no class says nothing.",
        )
    shared = _shared(train, test)
    if shared:
        what = "tar" if isinstance(train.store, TarStore) else "image"
        both = counted(len(shared), f"{what} that is", f"{what}s that are")
        raise MismatchError(
            "the task",
            found=f"{both} both trained on and tested on: {listed(shared)}",
            wanted="none",
            remedy="Leave them out of one side.",
        )


def kind_of(location: str, config: TaskConfig) -> Kind:
    """Tell which form a data set has. Raises InputError for a location that has none."""
    if config.kind != "auto":
        return config.kind
    before = location.rpartition(BETWEEN)[0]
    suffix = Path(location).suffix.lower()
    if location.startswith(PIPE):
        return "tars"
    if before.lower().endswith(".json"):
        return "coco"
    if suffix in (".csv", ".tsv") and is_local(location):
        return "csv"
    if not is_local(location) or suffix == ".tar" or (re.search(r"[*?{\[]", location) and not os.path.exists(location)):  # noqa: PTH110
        return "tars"
    if Path(local_name(location)).is_dir():
        return _kind_of_folder(local_name(location))
    remedy = (
        "Write ANNOTATIONS.json::IMAGE_FOLDER." if suffix == ".json" else "Check the location, or give --task.kind."
    )
    raise InputError(
        location,
        found=f"a file that ends in {suffix!r}" if Path(location).exists() else "no such file",
        wanted=FORMS,
        remedy=remedy,
    )


def _kind_of_folder(folder: str) -> Kind:
    """Tell class folders from tars, by the entries of the folder."""
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


def _is_tars(location: str, config: TaskConfig) -> bool:
    return kind_of(location, config) == "tars"


def _open(location: str, config: TaskConfig) -> LabelledImages:
    if config.multi_label and (kind := kind_of(location, config)) not in ("csv", "coco"):
        raise InputError(
            "--task.multi-label",
            found=f"{location}, of kind {kind}, which has one class an image",
            wanted="a .csv or .tsv, or ANNOTATIONS.json::IMAGE_FOLDER",
            remedy="Leave it out, or write a table with a row for each image and class.",
        )
    if not location:
        raise InputError(
            "--task.train or --task.test", found="an empty location", wanted=FORMS, remedy="Name the images."
        )
    kind = kind_of(location, config)
    if kind != "tars" and not all(map(is_local, location.split(BETWEEN))):
        raise InputError(
            location,
            found=f"a URI of {kind}",
            wanted="a path of this machine, or tars",
            remedy="Copy it to this machine first: of what a store holds only tars are read.",
        )
    match kind:
        case "folders":
            return open_class_folders(local_name(location), max_bad_share=config.max_bad_share)
        case "csv":
            table = Path(local_name(location))
            return open_csv_table(
                table,
                columns=config.csv_columns,
                multi_label=config.multi_label,
                max_bad_share=config.max_bad_share,
            )
        case "coco":
            return _open_annotations(location, max_bad_share=config.max_bad_share)
        case "tars":
            return open_tars([location], cache=cache_of(config), max_bad_share=config.max_bad_share)


def _open_annotations(location: str, *, max_bad_share: float) -> LabelledImages:
    """Open ANNOTATIONS.json::IMAGE_FOLDER. Raises InputError for a folder that is missing."""
    annotations, between, folder = location.rpartition(BETWEEN)
    folder = local_name(folder)
    if not between or not folder or not Path(folder).is_dir():
        found = f"no image folder {folder!r}" if between else f"no {BETWEEN!r}"
        remedy = "Name the folder of the images after two colons."
        raise InputError(location, found=found, wanted="ANNOTATIONS.json::IMAGE_FOLDER", remedy=remedy)
    return open_coco(Path(local_name(annotations)), folder, max_bad_share=max_bad_share)


def notes_of(side: str, images: LabelledImages) -> list[str]:
    """Write notes on one side of a task: classes without an image, and images that were left out."""
    empty = [images.labels[number] for number in np.flatnonzero(images.images_by_class == 0).tolist()]
    of = f"of {counted(len(images.labels), 'class', 'classes')}"
    missing = counted(len(empty), f"{of} has no image", f"{of} have no image")
    notes = [f"{side}: {missing}: {listed(empty)}"] if empty else []
    if images.skipped:
        notes.append(f"{side}: {left_out_note(images.skipped)}")
    return notes + [f"{side}: {note}" for note in images.notes]


def _shared(train: LabelledImages, test: LabelledImages) -> list[str]:
    """List images, or tars, that are on both sides."""
    one, other = train.store, test.store
    if isinstance(one, FileStore) and isinstance(other, FileStore):
        return shared_files(one, other)
    if isinstance(one, TarStore) and isinstance(other, TarStore):
        return sorted(map(shown_tar, set(map(_whole, one.locations)) & set(map(_whole, other.locations))))
    return []


def _whole(location: str) -> str:
    return os.path.realpath(local_name(location)) if is_local(location) else location


def subset(images: LabelledImages, *, percent: float, seed: int) -> LabelledImages:
    """Draw `percent`, in (0, 100], of each class's images, to the nearest image, and at least one where it has any.

    Where images have any number of classes, draw `percent` of all images, and at least one. Images stay in their order.
    Of one seed, a smaller share lies inside a larger one. The draw of an image depends on the seed and on its row in
    the store alone, so that leaving out broken images changes no other draw. 100 gives all images.
    """
    if percent == 100 or len(images) == 0:
        return images
    shards = np.full(len(images), shard_hash("subset"), np.uint64)
    luck = draws(seed=seed, epoch=0, shards=shards, indices=images.rows, count=1)[:, 0]
    strata = np.zeros(len(images), np.int64) if images.multi_label else images.one_class
    order = np.lexsort((luck, strata))
    counts = np.bincount(strata)
    rank = np.arange(len(images)) - np.repeat(np.cumsum(counts) - counts, counts)
    # Rounding half up, which is monotonic: round() would take 0.5 down and 1.5 up.
    wanted = np.maximum(1, np.floor(counts * (percent / 100) + 0.5).astype(np.int64))
    chosen: Int64[np.ndarray, " some"] = np.sort(order[rank < wanted[strata[order]]])
    return images.select(chosen)
