"""COCO's annotations: any number of classes for each image.

    {"images": [{"id": 139, "file_name": "000000000139.jpg"}, ...],
     "annotations": [{"id": 91, "image_id": 139, "category_id": 64, "iscrowd": 0}, ...],
     "categories": [{"id": 1, "name": "person"}, ...]}

Classes are the categories by ascending id, whatever gaps the ids have. A class is present in an image that has at least
one annotation of it, crowds (iscrowd) included, as in multi-label classification on COCO usually; an image without
annotations shows none of the classes, and counts as such. Boxes and masks are not read. Annotations of images that are
not listed, as a file has whose images alone were filtered, are left out and counted, as pycocotools leaves them out.

LVIS names an image by coco_url alone, and the synset of a category ("dog.n.01"), which is then the name of its class.

The file is untrusted: what it says is checked before it is used, and no file_name leaves the folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Int64

from trainer.data.labelled_images import MAX_CLASSES, LabelledImages
from trainer.transfer.tasks.files import NO_TEXT, open_files
from trainer.transfer.tasks.numbering import in_order
from vocab.class_names import SYNSET_NAME
from vocab.errors import InputError
from vocab.pages.text import counted, listed

MAX_BYTES = 2 << 30
"""COCO's training annotations are 0.45 GB, LVIS's 1.1"""
_UNREAD = ("segmentation", "bbox")
"""nearly all of the file, dropped while it is read"""

Id = int | str
Rows = Iterator[tuple[str, Mapping[str, Any]]]
"""entries of a list, each with its name in errors"""


def open_coco(annotations: Path, folder: str, *, max_bad_share: float) -> LabelledImages:
    """Open the images of an annotation file.

    Left out and named in `skipped`: what `files.look_up` refuses.

    Raises InputError for a file that is not such JSON, a repeated id or file_name, a reference to a missing category,
    annotations of missing images alone, a file_name that leaves the folder, and if more than `max_bad_share` of the
    images are bad or none is left.
    """
    content = _read(annotations)
    labels, numbers = _categories(annotations, content)
    paths, positions = _images(annotations, content, folder)
    images, classes, notes = _positives(annotations, content, positions, numbers)
    return open_files(
        folder,
        paths,
        np.searchsorted(images, np.arange(len(paths) + 1)).astype(np.int64),
        classes,
        labels,
        what=f"{annotations}::{folder}",
        max_bad_share=max_bad_share,
        multi_label=True,
        class_names=_synsets(content, labels),
        notes=notes,
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _refused(path, f"{size:,} bytes", f"at most {MAX_BYTES:,}", "Leave out what is no annotation.")
        content = json.loads(path.read_bytes(), object_hook=_without_shapes)
    except OSError as error:
        raise _refused(path, f"{error.strerror}", "COCO's annotations", "Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"no JSON ({error})", "COCO's annotations", "Download the file again.") from error
    if not isinstance(content, dict):
        raise _refused(
            path,
            f"a {type(content).__name__}",
            "an object with images, annotations, categories",
            "Give an instances file.",
        )
    return content


def _without_shapes(entry: dict[str, Any]) -> dict[str, Any]:
    for name in _UNREAD:
        entry.pop(name, None)
    return entry


def _categories(path: Path, content: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[Id, int]]:
    """Names by class number, and class number by id."""
    names: dict[Id, str] = {}
    for what, entry in _entries(path, content, "categories"):
        names[_new_id(path, what, entry, names)] = _text(path, what, entry, "name")
    if not 1 <= len(names) <= MAX_CLASSES:
        raise _refused(path, f"{len(names):,} categories", f"1 to {MAX_CLASSES:,}", "Give an instances file.")
    texts = in_order({each for each in names if isinstance(each, str)})
    ids: list[Id] = [*sorted(each for each in names if isinstance(each, int)), *texts]
    owners: dict[str, Id] = {}
    for each in ids:
        if (other := owners.setdefault(names[each], each)) != each:
            raise _refused(
                path,
                f"categories {other!r} and {each!r} of one name, {names[each]!r}",
                "a name for each category",
                "Rename one of them.",
            )
    return tuple(names[each] for each in ids), {each: number for number, each in enumerate(ids)}


def _synsets(content: Mapping[str, Any], labels: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the classes, by their synsets where the file has any; else none."""
    synsets = {
        str(entry["name"]).strip(): entry["synset"]
        for entry in content["categories"]
        if isinstance(entry.get("synset"), str) and SYNSET_NAME.fullmatch(entry["synset"])
    }
    return tuple(synsets.get(label, label) for label in labels) if synsets else ()


def _images(path: Path, content: Mapping[str, Any], folder: str) -> tuple[list[str], dict[Id, int]]:
    """Path of each image in the folder, and its index by its id."""
    paths: dict[str, Id] = {}
    positions: dict[Id, int] = {}
    for what, entry in _entries(path, content, "images"):
        identity = _new_id(path, what, entry, positions)
        if "file_name" not in entry and "coco_url" in entry:
            entry = {**entry, "file_name": _of_address(path, what, entry, folder)}
        name = _text(path, what, entry, "file_name")
        plain = os.path.normpath(name)
        if plain.startswith(("/", "../")) or plain in (".", ".."):
            raise _refused(path, f"file_name {name!r} in {what}", "a name below the image folder", "Correct it.")
        if (other := paths.setdefault(plain, identity)) != identity:
            found = f"file_name {name!r} in images {other!r} and {identity!r}"
            raise _refused(path, found, "an image for each", "Leave one out, with its annotations moved to the other.")
        positions[identity] = len(positions)
    return list(paths), positions


def _of_address(path: Path, what: str, entry: Mapping[str, Any], folder: str) -> str:
    """Path of an image that LVIS names by its address alone: "http://images.cocodataset.org/val2017/9.jpg" is
    "val2017/9.jpg", as COCO's archives unpack; in a folder of the name val2017 it is "9.jpg"."""
    *_, above, name = ["", *urlsplit(_text(path, what, entry, "coco_url")).path.split("/")]
    return name if above == Path(folder).name else f"{above}/{name}"


def _positives(
    path: Path, content: Mapping[str, Any], positions: Mapping[Id, int], numbers: Mapping[Id, int]
) -> tuple[Int64[np.ndarray, " positives"], Int64[np.ndarray, " positives"], tuple[str, ...]]:
    """(image, class) of everything that is shown, each once, ascending; and a note on what is not of a listed image."""
    pairs: list[int] = []
    strangers: list[str] = []
    unlisted: dict[Id, int] = {}
    for what, entry in _entries(path, content, "annotations"):
        image, category = (_id(path, what, entry, name) for name in ("image_id", "category_id"))
        if category not in numbers:
            strangers.append(f"{category!r} in {what}")
        elif image in positions:
            pairs.append(positions[image] * len(numbers) + numbers[category])
        else:
            unlisted[image] = unlisted.get(image, 0) + 1
    if strangers:
        raise _refused(
            path,
            f"category_id of {counted(len(strangers), 'annotation')} that is not in the file: {listed(strangers)}",
            "references to categories of the same file",
            "Download the file again, or leave these annotations out.",
        )
    examples = f"of {counted(len(unlisted), 'image')} that the file does not list: {listed(list(map(repr, unlisted)))}"
    if unlisted and not pairs:
        found = f"all of {counted(sum(unlisted.values()), 'annotation')} {examples}"
        raise _refused(path, found, "annotations of its images", "Look at the ids: image_id is the id of an image.")
    left_out = f"{counted(sum(unlisted.values()), 'annotation')} left out, {examples}"
    flat = np.unique(np.array(pairs, np.int64))
    return flat // len(numbers), flat % len(numbers), (left_out,) if unlisted else ()


def _entries(path: Path, content: Mapping[str, Any], name: str) -> Rows:
    entries = content.get(name)
    if not isinstance(entries, list):
        found = f"no {name}" if entries is None else f"{name} that are a {type(entries).__name__}"
        raise _refused(path, found, f"a list of {name}", "Give an instances file, such as instances_val2017.json.")
    for position, entry in enumerate(entries):
        what = f"{name}[{position}]"
        if not isinstance(entry, dict):
            raise _refused(path, f"a {type(entry).__name__} as {what}", "an object", "Correct it.")
        yield what, entry


def _new_id(path: Path, what: str, entry: Mapping[str, Any], known: Mapping[Id, object]) -> Id:
    identity = _id(path, what, entry, "id")
    if identity in known:
        raise _refused(path, f"id {identity!r} for the second time in {what}", "each id once", "Leave one out.")
    return identity


def _id(path: Path, what: str, entry: Mapping[str, Any], name: str) -> Id:
    value = entry.get(name)
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        return value
    raise _refused(path, f"{value!r:.80} as {name} of {what}", "a whole number or a text", "Correct it.")


def _text(path: Path, what: str, entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    if isinstance(value, str) and value.strip() and not NO_TEXT.search(value):
        return value.strip() if name == "name" else value
    raise _refused(path, f"{value!r:.80} as {name} of {what}", "a text without control characters", "Correct it.")


def _refused(path: Path, found: str, wanted: str, remedy: str) -> InputError:
    return InputError(path, found=found, wanted=wanted, remedy=remedy)
