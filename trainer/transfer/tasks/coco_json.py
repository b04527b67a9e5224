"""COCO's annotation files as JSON: categories, images and annotations, each checked before it is used.

    {"images": [{"id": 139, "file_name": "000000000139.jpg"}, ...],
     "annotations": [{"id": 91, "image_id": 139, "category_id": 64, "iscrowd": 0}, ...],
     "categories": [{"id": 1, "name": "person"}, ...]}

Classes are the categories by ascending id, whatever gaps the ids have. Annotations of images that are not listed, as a
file has whose images alone were filtered, are left out and counted, as pycocotools leaves them out. The file is
untrusted, and no file_name leaves the folder. LVIS names an image by coco_url alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trainer.data.labelled_images import MAX_CLASSES
from trainer.transfer.tasks.files import NO_TEXT
from trainer.transfer.tasks.numbering import in_order
from vocab.errors import InputError
from vocab.pages.text import counted, listed

MAX_BYTES = 2 << 30
"""COCO's training annotations are 0.45 GB, LVIS's 1.1"""

Id = int | str
Rows = Iterator[tuple[str, Mapping[str, Any]]]
"""entries of a list, each with its name in errors"""


@dataclass(frozen=True)
class Annotation:
    """An annotation of a listed image."""

    what: str
    """its name in errors"""
    image: int
    """index of its image"""
    category: int
    """number of its class"""
    entry: Mapping[str, Any]


def read_annotations(path: Path, *, shorten: Callable[[dict[str, Any]], dict[str, Any]]) -> Mapping[str, Any]:
    """Read an annotation file. `shorten`: what becomes of an object of the file while the rest is read.

    Raises InputError for a file that cannot be read, is too long, or is not the JSON of an object.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise refused(path, f"{size:,} bytes", f"at most {MAX_BYTES:,}", "Leave out what is no annotation.")
        content = json.loads(path.read_bytes(), object_hook=shorten)
    except OSError as error:
        raise refused(path, f"{error.strerror}", "COCO's annotations", "Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise refused(path, f"no JSON ({error})", "COCO's annotations", "Download the file again.") from error
    if not isinstance(content, dict):
        raise refused(
            path,
            f"a {type(content).__name__}",
            "an object with images, annotations, categories",
            "Give an instances file.",
        )
    return content


def categories_of(path: Path, content: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[Id, int]]:
    """Read the categories: names by class number, and class number by id, ascending.

    Raises InputError for a repeated id or name, and for none or too many.
    """
    names: dict[Id, str] = {}
    for what, entry in entries_of(path, content, "categories"):
        names[_new_id(path, what, entry, names)] = _text(path, what, entry, "name")
    if not 1 <= len(names) <= MAX_CLASSES:
        raise refused(path, f"{len(names):,} categories", f"1 to {MAX_CLASSES:,}", "Give an instances file.")
    texts = in_order({each for each in names if isinstance(each, str)})
    ids: list[Id] = [*sorted(each for each in names if isinstance(each, int)), *texts]
    owners: dict[str, Id] = {}
    for each in ids:
        if (other := owners.setdefault(names[each], each)) != each:
            raise refused(
                path,
                f"categories {other!r} and {each!r} of one name, {names[each]!r}",
                "a name for each category",
                "Rename one of them.",
            )
    return tuple(names[each] for each in ids), {each: number for number, each in enumerate(ids)}


def images_of(path: Path, content: Mapping[str, Any], folder: str) -> tuple[list[str], dict[Id, int]]:
    """Read the images: path of each in the folder, and its index by its id.

    Raises InputError for a repeated id or file_name, and a file_name that leaves the folder.
    """
    paths: dict[str, Id] = {}
    positions: dict[Id, int] = {}
    for what, entry in entries_of(path, content, "images"):
        identity = _new_id(path, what, entry, positions)
        if "file_name" not in entry and "coco_url" in entry:
            entry = {**entry, "file_name": _of_address(path, what, entry, folder)}
        name = file_name_of(path, what, entry, "the image folder")
        if (other := paths.setdefault(name, identity)) != identity:
            found = f"file_name {name!r} in images {other!r} and {identity!r}"
            raise refused(path, found, "an image for each", "Leave one out, with its annotations moved to the other.")
        positions[identity] = len(positions)
    return list(paths), positions


def file_name_of(path: Path, what: str, entry: Mapping[str, Any], folder: str) -> str:
    """Read the file_name of an entry, in its plain form. Raises InputError for one that leaves its folder."""
    name = _text(path, what, entry, "file_name")
    plain = os.path.normpath(name)
    if plain.startswith(("/", "../")) or plain in (".", ".."):
        raise refused(path, f"file_name {name!r} in {what}", f"a name below {folder}", "Correct it.")
    return plain


def _of_address(path: Path, what: str, entry: Mapping[str, Any], folder: str) -> str:
    """Path of an image that LVIS names by its address alone: "http://images.cocodataset.org/val2017/9.jpg" is
    "val2017/9.jpg", as COCO's archives unpack; in a folder of the name val2017 it is "9.jpg"."""
    *_, above, name = ["", *urlsplit(_text(path, what, entry, "coco_url")).path.split("/")]
    return name if above == Path(folder).name else f"{above}/{name}"


def annotations_of(
    path: Path, content: Mapping[str, Any], positions: Mapping[Id, int], numbers: Mapping[Id, int]
) -> tuple[list[Annotation], tuple[str, ...]]:
    """Read the annotations of listed images, and a note on those of others.

    Raises InputError for a category that is not in the file, and for annotations of images that are not listed alone.
    """
    listed_ones: list[Annotation] = []
    strangers: list[str] = []
    unlisted: dict[Id, int] = {}
    for what, entry in entries_of(path, content, "annotations"):
        image, category = (id_of(path, what, entry, name) for name in ("image_id", "category_id"))
        if category not in numbers:
            strangers.append(f"{category!r} in {what}")
        elif image in positions:
            listed_ones.append(Annotation(what, positions[image], numbers[category], entry))
        else:
            unlisted[image] = unlisted.get(image, 0) + 1
    if strangers:
        raise refused(
            path,
            f"category_id of {counted(len(strangers), 'annotation')} that is not in the file: {listed(strangers)}",
            "references to categories of the same file",
            "Download the file again, or leave these annotations out.",
        )
    examples = f"of {counted(len(unlisted), 'image')} that the file does not list: {listed(list(map(repr, unlisted)))}"
    if unlisted and not listed_ones:
        found = f"all of {counted(sum(unlisted.values()), 'annotation')} {examples}"
        raise refused(path, found, "annotations of its images", "Look at the ids: image_id is the id of an image.")
    left_out = f"{counted(sum(unlisted.values()), 'annotation')} left out, {examples}"
    return listed_ones, (left_out,) if unlisted else ()


def entries_of(path: Path, content: Mapping[str, Any], name: str) -> Rows:
    """Yield the objects of a list, each with its name in errors. Raises InputError for anything else."""
    entries = content.get(name)
    if not isinstance(entries, list):
        found = f"no {name}" if entries is None else f"{name} that are a {type(entries).__name__}"
        raise refused(path, found, f"a list of {name}", "Give an instances file, such as instances_val2017.json.")
    for position, entry in enumerate(entries):
        what = f"{name}[{position}]"
        if not isinstance(entry, dict):
            raise refused(path, f"a {type(entry).__name__} as {what}", "an object", "Correct it.")
        yield what, entry


def _new_id(path: Path, what: str, entry: Mapping[str, Any], known: Mapping[Id, object]) -> Id:
    identity = id_of(path, what, entry, "id")
    if identity in known:
        raise refused(path, f"id {identity!r} for the second time in {what}", "each id once", "Leave one out.")
    return identity


def id_of(path: Path, what: str, entry: Mapping[str, Any], name: str) -> Id:
    """Read an id of an entry. Raises InputError for anything but a whole number or a text."""
    value = entry.get(name)
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        return value
    raise refused(path, f"{value!r:.80} as {name} of {what}", "a whole number or a text", "Correct it.")


def _text(path: Path, what: str, entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    if isinstance(value, str) and value.strip() and not NO_TEXT.search(value):
        return value.strip() if name == "name" else value
    raise refused(path, f"{value!r:.80} as {name} of {what}", "a text without control characters", "Correct it.")


def refused(path: Path, found: str, wanted: str, remedy: str) -> InputError:
    """Make the error of an annotation file."""
    return InputError(path, found=found, wanted=wanted, remedy=remedy)
