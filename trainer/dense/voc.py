"""Images with the objects of Pascal VOC's annotations: a folder of XML files, one for each image, and boxes alone.

    <annotation>
      <filename>2007_000027.jpg</filename>
      <size><width>486</width><height>500</height></size>
      <object><name>person</name><difficult>0</difficult>
        <bndbox><xmin>174</xmin><ymin>101</ymin><xmax>349</xmax><ymax>351</ymax></bndbox></object>
    </annotation>

Pixels are counted from 1, and the last one belongs to the box: this one is 176 pixels wide. Classes are the names in
ascending order. An object marked as difficult is neither trained on nor scored, like a crowd of COCO's.

A list of images, of `ImageSets`, has one name without suffix a line:

    2007_000027
    2007_000032

The files are untrusted: one with a document type, which may define entities, is not parsed. A file that cannot be read
is a bad image, and counts as such.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from trainer.data.batch import Skipped
from trainer.dense.annotated_images import MOST_SIDE, AnnotatedImages, AnnotatedObject, assembled, box_inside
from trainer.dense.shapes import BadShape
from trainer.transfer.tasks.files import NO_TEXT
from vocab.errors import InputError
from vocab.pages.text import shown

SUFFIX = ".xml"
MAX_BYTES = 4 << 20
BROKEN, MISSING = "broken_annotation", "missing"
"""reasons why an image is bad"""


class BadAnnotationError(Exception):
    """A file that is no annotation of an image."""


def open_voc(annotations: Path, folder: str, *, max_bad_share: float, listing: Path | None = None) -> AnnotatedImages:
    """Open the images that a folder of annotations describes, in ascending order of the files' names.

    `listing`: list of the images to take; those without a file are bad images.

    Raises InputError for a folder without annotations, for names that leave the folder of images, for two files of one
    image, and as `read_list` and `assembled`.
    """
    files = sorted(path.name for path in annotations.iterdir() if path.name.endswith(SUFFIX))
    if not files:
        raise InputError(
            annotations, found="no .xml", wanted="Pascal VOC's annotations", remedy="Name VOC's folder Annotations."
        )
    described: list[tuple[str, tuple[int, int], ElementTree.Element]] = []
    skipped: list[Skipped] = []
    if listing is not None:
        there, wanted = set(files), [f"{name}{SUFFIX}" for name in sorted(read_list(listing))]
        files = [name for name in wanted if name in there]
        skipped = [Skipped("", shown(name), MISSING) for name in wanted if name not in there]
    for name in files:
        try:
            described.append(read_annotation(annotations / name))
        except BadAnnotationError:
            skipped.append(Skipped("", shown(name), BROKEN))
    paths = [path for path, _, _ in described]
    repeated = [path for path, count in Counter(paths).items() if count > 1]
    if repeated:
        raise InputError(
            annotations,
            found=f"two annotations of {repeated[0]!r}",
            wanted="one for each image",
            remedy="Remove one of them.",
        )
    objects, labels, left_out = _objects(described)
    return assembled(
        folder,
        paths,
        np.array([size for _, size, _ in described], np.int64).reshape(-1, 2),
        objects,
        left_out,
        ids=tuple(range(1, len(paths) + 1)),
        labels=labels,
        categories=tuple(range(1, len(labels) + 1)),
        what=f"{annotations}::{folder}",
        max_bad_share=max_bad_share,
        skipped=skipped,
    )


def read_list(path: Path) -> list[str]:
    """Read the names of a list. Raises InputError for a file that is none, for an empty one, and for a name twice."""
    try:
        lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, found=f"{error}", wanted="a text file of names", remedy="Check the path.") from error
    names = [line[0] for line in lines]
    longer = next((line for line in lines if len(line) > 1), None)
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if longer is None and twice is None and names:
        return names
    found = (
        f"the line {shown(' '.join(longer))!r}" if longer else f"{shown(str(twice))!r} twice" if twice else "nothing"
    )
    raise InputError(
        path,
        found=found,
        wanted="one name without suffix a line, each once",
        remedy="Correct the list. Of Pascal VOC's ImageSets, lists such as train.txt have this form, and lists of one "
        "class, such as dog_train.txt, have another.",
    )


def refuse_list(listing: Path | None, annotations: Path | str) -> None:
    """Raise InputError for a list of images beside COCO's annotations."""
    if listing is not None:
        raise InputError(
            "--task.train-list or --task.test-list",
            found=f"{listing} for {annotations}",
            wanted="a list of the images in two folders",
            remedy="Leave it out: annotations list their images.",
        )


def read_annotation(path: Path) -> tuple[str, tuple[int, int], ElementTree.Element]:
    """Read a file: path of its image, width and height, and the document.

    Raises BadAnnotationError for a file that is none, and InputError for an image outside of the folder.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadAnnotationError from error
    # NUL bytes are UTF-16, in which a document type would not be found.
    if len(content) > MAX_BYTES or b"\0" in content or b"<!" in content.replace(b"<!--", b""):
        raise BadAnnotationError
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise BadAnnotationError from error
    name = (root.findtext("filename") or "").strip()
    size = (_whole(root.findtext("size/width")), _whole(root.findtext("size/height")))
    if not name or NO_TEXT.search(name) or not all(0 < side < MOST_SIDE for side in size):
        raise BadAnnotationError
    plain = os.path.normpath(name)
    if plain.startswith(("/", "../")) or plain in (".", ".."):
        raise InputError(
            path, found=f"the filename {name!r}", wanted="a name below the image folder", remedy="Correct it."
        )
    return plain, size, root


def _whole(text: str | None) -> int:
    """Read a whole number; 0 for anything else."""
    return int(text) if text is not None and text.strip().isdecimal() and len(text) < 10 else 0


def _objects(
    described: Sequence[tuple[str, tuple[int, int], ElementTree.Element]],
) -> tuple[list[AnnotatedObject], tuple[str, ...], Counter[str]]:
    """The objects of all images with the names of their classes, and a count of those that cannot be used."""
    names = sorted(
        {name for _, _, root in described for each in root.iter("object") if (name := _name(each)) is not None}
    )
    numbers = {name: number for number, name in enumerate(names)}
    objects: list[AnnotatedObject] = []
    left_out: Counter[str] = Counter()
    for image, (_, (width, height), root) in enumerate(described):
        for each in root.iter("object"):
            try:
                objects.append(_object(each, image, numbers, width=width, height=height))
            except BadShape as bad:
                left_out[str(bad)] += 1
    return objects, tuple(names), left_out


def _name(element: ElementTree.Element) -> str | None:
    name = (element.findtext("name") or "").strip()
    return name if name and not NO_TEXT.search(name) else None


def _object(
    element: ElementTree.Element, image: int, numbers: dict[str, int], *, width: int, height: int
) -> AnnotatedObject:
    """Check an object. Raises BadShape: no_name, crowd_unclear, and as `box_inside`."""
    name = _name(element)
    if name is None:
        raise BadShape("no_name")
    difficult = (element.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        raise BadShape("crowd_unclear")
    try:
        left, top, right, bottom = (
            float(element.findtext(f"bndbox/{edge}") or "") for edge in ("xmin", "ymin", "xmax", "ymax")
        )
    except ValueError as error:
        raise BadShape("broken_box") from error
    box = box_inside([left - 1, top - 1, right - left + 1, bottom - top + 1], width=width, height=height)
    area = (box[2] - box[0]) * (box[3] - box[1])
    return AnnotatedObject(image, numbers[name], box, area, crowd=difficult == "1")
