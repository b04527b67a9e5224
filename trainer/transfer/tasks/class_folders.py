"""A folder with a folder of images for each class, as ImageNet is laid out.

train/n01440764/n01440764_18.JPEG      class 0, the first of the folders in ascending order, as in torchvision
train/n01443537/close/2.png            class 1; deeper folders change nothing
train/n01484850/                       class 2 keeps its number without an image
train/n01440764/boxes.txt              no image by its name: counted as other_file
train/n01440764/3.heic                 an image that nothing here decodes: unread_format
train/.cache/, train/__MACOSX/         left by a system (`vocab/store/file_names.py`), not seen at all
"""

from __future__ import annotations

import os

import numpy as np

from trainer.data.batch import Skipped
from trainer.data.labelled_images import LabelledImages
from trainer.data.tar_index import FAULTS, IMAGE_EXTENSIONS, OTHER_IMAGE_EXTENSIONS, UNREAD_FORMAT
from trainer.transfer.tasks.files import NO_TEXT, OTHER_FILE, open_files
from vocab.errors import InputError
from vocab.pages.text import counted, shown
from vocab.store.file_names import is_leftover
from vocab.store.files import leads_to_folder

_ENDINGS = tuple(f".{extension}" for extension in IMAGE_EXTENSIONS)


def open_class_folders(folder: str, *, max_bad_share: float) -> LabelledImages:
    """Open a folder of class folders. Links are followed.

    Left out and named in `skipped`: images beside the class folders (no_class), and what `files.look_up` refuses.

    Raises InputError for a folder that is not there or has no class folders, a class that is not UTF-8, a link to a
    folder that it lies in, and if more than `max_bad_share` of the images are bad or none is left.
    """
    labels, beside = _classes(folder)
    paths: list[str] = []
    classes: list[int] = []
    skipped: list[Skipped] = []
    for number, label in enumerate(labels):
        inside = files_below(folder, label)
        images = [path for path in inside if is_image_name(path)]
        paths += images
        classes += [number] * len(images)
        skipped += [Skipped("", shown(path), _no_image(path)) for path in inside if not is_image_name(path)]
    skipped += [Skipped("", shown(path), "no_class" if is_image_name(path) else _no_image(path)) for path in beside]
    return open_files(
        folder,
        paths,
        np.arange(len(paths) + 1),
        np.array(classes, np.int64),
        labels,
        what=folder,
        max_bad_share=max_bad_share,
        multi_label=False,
        skipped=skipped,
    )


def _classes(folder: str) -> tuple[list[str], list[str]]:
    """List the class folders, and the files beside them; both ascending."""
    labels: list[str] = []
    beside: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not is_leftover(entry.name):
                    (labels if leads_to_folder(entry) else beside).append(entry.name)
    except OSError as error:
        raise InputError(
            folder,
            found=f"{error.strerror}",
            wanted="a folder with a folder of images for each class",
            remedy="Check the path.",
        ) from error
    if not labels:
        raise InputError(
            folder,
            found=f"{counted(len(beside), 'file')} and no folder",
            wanted="a folder of images for each class",
            remedy="Images that lie side by side need a table of path and label: give a .csv (docs/transfer.md).",
        )
    for name in labels + beside:
        path = os.path.join(folder, name)  # noqa: PTH118 - beside the names that os.scandir gives
        # As a file it would be one image less, as a class folder a whole class.
        if not os.path.exists(path):  # noqa: PTH110
            raise _refused(path, "a link that leads nowhere", "a folder of images, or a file", "Fix or remove it.")
    for label in labels:
        if NO_TEXT.search(label):
            path = os.path.join(folder, label)  # noqa: PTH118
            found = "a class whose name is not UTF-8 or has control characters"
            raise _refused(path, found, "a name that tables can hold", "Rename the folder.")
    return sorted(labels), sorted(beside)


def files_below(root: str, folder: str = "") -> list[str]:
    """List the paths in `root` of all files below one of its folders, or below itself, ascending, without leftovers.

    Raises InputError for a link to a folder that it lies in, and for one that leads nowhere.
    """
    files: list[str] = []
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [(folder, ())]
    while waiting:
        inside, above = waiting.pop()
        path = os.path.join(root, inside)  # noqa: PTH118 - a million of them are walked
        found = os.stat(path)  # noqa: PTH116
        own = (found.st_dev, found.st_ino)
        if own in above:
            raise _refused(path, "a link to a folder that it lies in", "folders that end", "Remove the link.")
        with os.scandir(path) as entries:
            for entry in entries:
                if is_leftover(entry.name):
                    continue
                if leads_to_folder(entry):
                    waiting.append((os.path.join(inside, entry.name), (*above, own)))  # noqa: PTH118
                elif entry.is_symlink() and not is_image_name(entry.name) and not os.path.exists(entry.path):  # noqa: PTH110
                    # A missing image is counted; a missing folder could hold any number of them.
                    raise _refused(entry.path, "a link that leads nowhere", "a folder or a file", "Fix or remove it.")
                else:
                    files.append(os.path.join(inside, entry.name))  # noqa: PTH118
    return sorted(files)


def is_image_name(path: str) -> bool:
    """Tell whether a file is named as an image that can be decoded."""
    return path.lower().endswith(_ENDINGS)


def _no_image(path: str) -> str:
    """Return the reason for a file whose name is not that of an image."""
    return FAULTS[UNREAD_FORMAT] if path.rpartition(".")[2].lower() in OTHER_IMAGE_EXTENSIONS else OTHER_FILE


def _refused(path: str, found: str, wanted: str, remedy: str) -> InputError:
    return InputError(path, found=found, wanted=wanted, remedy=remedy)
