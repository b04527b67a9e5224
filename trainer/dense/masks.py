"""Images with a label map each: both sides of a segmentation task, with one numbering of classes.

In: `MaskTask`, the options of the command line. Out: `SegmentationData`. `mask_forms.py` knows the forms of a side.

All label maps are read once before the first step: so a map that does not fit its image is found, and the number of
pixels of each class is known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Int64

from trainer.data.batch import Skipped
from trainer.data.crops import upright_size
from trainer.data.image_files import QUIET, BadImage, open_image, orientation_of
from trainer.data.labelled_images import LabelledImages
from trainer.dense.label_maps import IGNORED, LabelMap, LabelMaps, ValueMaps
from trainer.dense.mask_forms import IGNORED_VALUE, MaskSide, first_value, open_side
from trainer.distributed import Rank, gather
from trainer.transfer.dense_config import MaskTask
from trainer.transfer.tasks.class_names import Names, names_of_classes, read_name_file
from trainer.transfer.tasks.files import check_bad_share, fingerprint_of
from trainer.transfer.tasks.opening import TaskData, check_sides, notes_of, subset
from vocab.errors import MismatchError
from vocab.pages.text import counted, listed, shown, tell

ASSUMED_CLASSES = 150
"""classes of a task whose masks are not read and tell its classes alone: those of ADE20K"""
THREADS = 8
"""threads that read label maps before the first step"""


@dataclass(frozen=True, eq=False)
class MaskedImages:
    """Images with the class of each of their pixels."""

    images: LabelledImages
    """`classes` of an image: those of its pixels, each once"""
    maps: LabelMaps
    """by the number of an image in the store"""
    pixels: Int64[np.ndarray, " classes"]
    """pixels of each class, over all images of the data set"""
    ignored: int
    """pixels without a class"""
    fingerprint: str
    """checksum of all label maps"""

    def __len__(self) -> int:
        return len(self.images)

    def label_map(self, image: int) -> LabelMap:
        """Read the label map of an image. Raises BadImage where it has changed since the data was opened."""
        return self.maps.read(int(self.images.rows[image]))

    def select(self, images: Int64[np.ndarray, " some"]) -> MaskedImages:
        """Select some of the images, in the given order."""
        return replace(self, images=self.images.select(images))


@dataclass(frozen=True, eq=False)
class SegmentationData:
    """Images to train on and to test on."""

    train: MaskedImages
    test: MaskedImages
    task: TaskData
    """the same images as those of any other task, with names of classes and notes"""


def open_masks(
    config: MaskTask, rank: Rank, *, percent: float = 100.0, seed: int = 0, read: bool = True
) -> SegmentationData:
    """Open both sides of a task. All ranks must call; each reads its share of the label maps.

    `percent`: share of the training images, drawn by `seed`. Without `read` no label map is read: no image shows a
    class, and where the maps alone tell the classes, there are ASSUMED_CLASSES of them, which a note says.

    Raises InputError for a side that cannot be opened, and for more bad images or label maps than
    `config.max_bad_share`; MismatchError for sides of other classes, for an image on both, and for names that are not
    those of the classes.
    """
    given, first = _given_names(config), first_value(config, config.train, config.test)
    sides = [
        open_side(location, config, listing, given, first=first)
        for location, listing in ((config.train, config.train_list), (config.test, config.test_list))
    ]
    scanned = [_scan(side, config, rank) if read else [_UNREAD] * len(side.store.paths) for side in sides]
    train, test = _masked(sides, scanned, config)
    own = train.images.class_names
    named = names_of_classes(train.images.labels, given, source=config.class_names, own=own)
    if read:
        check_sides(train.images, test.images)
        notes = (*notes_of("train", train.images), *notes_of("test", test.images), *named.notes)
    else:
        assumed = f"{ASSUMED_CLASSES} classes assumed (as in ADE20K; --task.class-names gives yours)"
        notes = (*named.notes, *([assumed] if sides[0].labels is None else []))
    train = replace(train, images=subset(train.images, percent=percent, seed=seed))
    return SegmentationData(train, test, TaskData(train.images, test.images, named.names, notes))


def open_test_masks(config: MaskTask, rank: Rank) -> tuple[MaskedImages, tuple[str, ...], tuple[str, ...]]:
    """Open the images to test on alone, with the names of their classes and notes. All ranks must call.

    Raises as `open_masks`.
    """
    given = _given_names(config)
    side = open_side(config.test, config, config.test_list, given, first=first_value(config, config.test))
    scanned = _scan(side, config, rank)
    (test,) = _masked([side], [scanned], config)
    own = test.images.class_names
    named = names_of_classes(test.images.labels, given, source=config.class_names, own=own)
    return test, named.names, (*notes_of("test", test.images), *named.notes)


def _given_names(config: MaskTask) -> Names | None:
    return None if config.class_names is None else read_name_file(config.class_names)


@dataclass(frozen=True, eq=False)
class _Scan:
    """Labels that an image's map has, ascending, with their numbers of pixels; or the reason why it has none."""

    labels: Int64[np.ndarray, " present"]
    pixels: Int64[np.ndarray, " present"]
    reason: str | None = None
    sizes: str = ""
    """of a map of another size than its image: both sizes, to be read behind the name of the image"""
    checksum: bytes = b""
    """of the class of each pixel"""
    turned: bool = False
    """the image has an EXIF orientation other than upright"""


_UNREAD = _Scan(np.zeros(0, np.int64), np.zeros(0, np.int64))


def _scan(side: MaskSide, config: MaskTask, rank: Rank) -> list[_Scan]:
    """Read all label maps of a side, each with the header of its image. All ranks must call; each reads its share."""
    count = len(side.store.paths)
    if rank.is_main:
        tell(f"{side.what}: reading {counted(count, 'mask')}\n")
    own = range(rank.index, count, rank.world)
    with ThreadPoolExecutor(THREADS, "masks") as pool, QUIET:
        read = list(pool.map(partial(_scan_one, side, config.max_pixels), own))
    by_image = {image: scan for part in gather(list(zip(own, read, strict=True)), rank) for image, scan in part}
    return [by_image[image] for image in range(count)]


def _scan_one(side: MaskSide, max_pixels: int, image: int) -> _Scan:
    try:
        opened = open_image(side.store.read(image), max_pixels=max_pixels)
        orientation = orientation_of(opened)
        labels = side.maps.read(image, size=upright_size(opened.size, orientation))
    except BadImage as bad:
        sizes = "".join(f" ({note})" for note in getattr(bad, "__notes__", ()))
        return _Scan(np.zeros(0, np.int64), np.zeros(0, np.int64), str(bad), sizes)
    present, pixels = np.unique(labels, return_counts=True)
    checksum = hashlib.blake2b(labels.tobytes(), digest_size=16).digest()
    return _Scan(present.astype(np.int64), pixels.astype(np.int64), checksum=checksum, turned=orientation > 1)


def _masked(sides: Sequence[MaskSide], scans: Sequence[Sequence[_Scan]], config: MaskTask) -> list[MaskedImages]:
    """Put what was read of one side, or of both, together. Raises MismatchError for sides of other classes."""
    first, last = sides[0].labels, sides[-1].labels
    if first != last:
        differing = sorted(set(first or ()) ^ set(last or ()))
        other = f"other classes than the training images: {listed(differing)}"
        raise MismatchError(
            "the test images",
            found=other if differing else "the classes of the training images in another order",
            wanted="one list of classes in one order",
            remedy="Give both sides in one form, of one data set.",
        )
    unread = all(scan is _UNREAD for side in scans for scan in side)
    highest = max(
        (int(scan.labels[-1]) for side in scans for scan in side if len(scan.labels)),
        default=ASSUMED_CLASSES - 1 if unread else 0,
    )
    values = range(sides[0].first, sides[0].first + highest + 1)
    labels = first if first is not None else tuple(map(str, values))
    _check_ignored(sides[0], labels, config)
    return [_masked_side(side, own, labels, config) for side, own in zip(sides, scans, strict=True)]


def _check_ignored(side: MaskSide, labels: tuple[str, ...], config: MaskTask) -> None:
    """Raise MismatchError where the value that is ignored by default may be a class."""
    last = side.first + len(labels) - 1
    if config.ignore or last < IGNORED_VALUE or not isinstance(side.maps, ValueMaps):
        return
    raise MismatchError(
        side.what,
        found=f"classes whose values reach {last:,}",
        wanted=f"--task.ignore, for {IGNORED_VALUE}, which is ignored by default, may be one of them",
        remedy=f"Give --task.ignore {IGNORED_VALUE} if it is no class, else a value that no mask has, such as 65535.",
    )


def _masked_side(side: MaskSide, scans: Sequence[_Scan], labels: tuple[str, ...], config: MaskTask) -> MaskedImages:
    names = tuple(map(shown, side.store.paths))
    kept = [number for number, scan in enumerate(scans) if scan.reason is None]
    bad = [Skipped("", names[number], scan.reason) for number, scan in enumerate(scans) if scan.reason is not None]
    skipped = (*side.skipped, *bad)
    told = [Skipped("", names[number] + scan.sizes, scan.reason) for number, scan in enumerate(scans) if scan.reason]
    check_bad_share(side.what, len(kept), (*side.skipped, *told), config.max_bad_share)
    own = [scans[number].labels[scans[number].labels >= 0] for number in kept]
    pixels = np.zeros(len(labels) + 1, np.int64)  # the last one is IGNORED
    digest = hashlib.sha256()
    for number in kept:
        pixels[scans[number].labels] += scans[number].pixels
        digest.update(f"{names[number]}\0".encode() + scans[number].checksum)
    images = LabelledImages(
        store=side.store,
        rows=np.array(kept, np.int64),
        names=tuple(names[number] for number in kept),
        offsets=np.cumsum([0, *map(len, own)], dtype=np.int64),
        classes=np.concatenate(own) if own else np.zeros(0, np.int64),
        labels=labels,
        multi_label=True,
        fingerprint=fingerprint_of(side.store),
        skipped=skipped,
        class_names=side.class_names,
        notes=(*side.notes, *_ignored_note(pixels), *_turned_note([scans[number].turned for number in kept])),
    )
    assert IGNORED == -1
    return MaskedImages(images, side.maps, pixels[:-1], int(pixels[-1]), digest.hexdigest())


def _ignored_note(pixels: Int64[np.ndarray, " classes_plus_1"]) -> list[str]:
    """Say how many pixels have no class, if some have none."""
    share = pixels[-1] / max(1, pixels.sum())
    return [f"{share:.1%} of the pixels are ignored"] if pixels[-1] else []


def _turned_note(turned: Sequence[bool]) -> list[str]:
    """Say how many images are stored otherwise than upright, if some are."""
    stored = counted(sum(turned), "image is", "images are")
    return [f"{stored} turned upright by EXIF; the masks must show them upright"] if any(turned) else []
