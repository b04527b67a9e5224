"""Masks in their four forms, and masks that are none: left out with a reason, or an error with the remedy."""

from __future__ import annotations

import io
import json
import re
import struct
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from tests.segmentation import NAMES, png, task_in, write_scenes
from trainer.dense.mask_forms import first_value
from trainer.dense.masks import MaskedImages, SegmentationData, open_masks
from trainer.distributed import Rank
from trainer.transfer.dense_config import MaskTask
from vocab.errors import CatlipError, InputError, MismatchError

RANK = Rank(0, 1, torch.device("cpu"))
LABELS = np.array([[0, 1, 1], [2, 1, 255]], np.uint8)
IMAGE = png(np.zeros((2, 3, 3), np.uint8))


def write_side(root: Path, masks: dict[str, bytes], *, images: dict[str, bytes] | None = None) -> str:
    """Write masks by name, and an image of 3 x 2 pixels for each, or these `images`."""
    pictures = images if images is not None else dict.fromkeys(masks, IMAGE)
    for folder, files in (("images", pictures), ("masks", masks)):
        for name, content in files.items():
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return f"{root / 'images'}::{root / 'masks'}"


def opened(tmp_path: Path, train: str, **options: Any) -> SegmentationData:
    """Open a task with this side to train on, and a plain one to test on."""
    test = write_side(tmp_path / "test", {"t.png": png(LABELS)})
    return open_masks(MaskTask(train, options.pop("test", test), **options), RANK)


def reasons(images: MaskedImages) -> list[tuple[str, str]]:
    return [(bad.name, bad.reason) for bad in images.images.skipped]


def test_folders_are_paired_by_the_names_of_their_files_at_any_depth(tmp_path: Path) -> None:
    masks = {"a/1.png": png(LABELS), "b/1.png": png(np.where(LABELS == 255, 0, LABELS))}
    data = opened(tmp_path, write_side(tmp_path / "train", masks))
    assert data.train.images.names == ("a/1.png", "b/1.png")
    assert data.train.label_map(0).tolist() == [[0, 1, 1], [2, 1, -1]]
    assert data.train.images.labels == ("0", "1", "2")
    assert data.train.pixels.tolist() == [3, 6, 2]
    assert data.train.ignored == 1
    assert data.task.class_names == ("cls0", "cls1", "cls2")
    assert "train: 8.3% of the pixels are ignored" in data.task.notes
    assert np.array_equal(data.train.images.offsets, [0, 3, 6])


def test_names_are_given_by_the_order_of_the_values(tmp_path: Path) -> None:
    data = open_masks(task_in(tmp_path, train=3, test=2), RANK)
    assert data.task.class_names == NAMES
    assert data.train.pixels.sum() == 3 * 24 * 32


def test_an_ade20k_folder_has_no_class_zero(tmp_path: Path) -> None:
    side = write_side(tmp_path / "ADEChallengeData2016", {"1.png": png(LABELS)})
    test = write_side(tmp_path / "ADEChallengeData2016" / "val", {"1.png": png(LABELS)})
    data = opened(tmp_path, side, test=test)
    assert data.train.label_map(0).tolist() == [[-1, 0, 0], [1, 0, -1]]
    assert data.test.pixels.tolist() == [3, 1]
    assert (
        "train: 0 is ignored and other values are one less, as in ADE20K; --task.zero class keeps it" in data.task.notes
    )
    kept = opened(tmp_path, side, zero="class")
    assert kept.train.label_map(0).tolist() == [[0, 1, 1], [2, 1, -1]]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("names.csv", "number,name\n0,other\n1,wall\n2,sky\n3,tree\n"),
        ("names.json", '{"1": "wall", "2": "sky", "3": "tree"}'),
        ("names.txt", "wall\nsky\ntree\n"),
    ],
)
def test_names_by_number_are_those_of_the_values_where_zero_is_ignored(tmp_path: Path, file: str, content: str) -> None:
    (tmp_path / file).write_text(content)
    mask = png(np.array([[1, 1, 1], [2, 2, 3]], np.uint8))
    sides = [write_side(tmp_path / name, {"1.png": mask}) for name in ("train", "val")]
    data = open_masks(MaskTask(*sides, class_names=tmp_path / file, zero="ignored"), RANK)
    assert data.train.images.labels == ("1", "2", "3")
    assert dict(zip(data.task.class_names, data.train.pixels.tolist(), strict=True)) == {"wall": 3, "sky": 2, "tree": 1}


@pytest.mark.parametrize(
    ("masks", "first"),
    [
        ("ade20k/train", 1),
        ("ADEChallengeData2016/annotations/training", 1),
        ("facade20k/train", 0),
        ("ade20k-runs/cityscapes", 0),
        ("ade20k/a/b/training", 0),
        ("ade20k/../voc", 0),
        ("ade20k/SegmentationClass", 0),
    ],
)
def test_ade20k_is_known_by_a_whole_name_near_the_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, masks: str, first: int
) -> None:
    (tmp_path / "ade20k").mkdir()
    path = tmp_path / masks
    path.mkdir(parents=True, exist_ok=True)
    assert first_value(MaskTask(), f"{tmp_path}::{path}") == first
    monkeypatch.chdir(path)
    assert first_value(MaskTask(), "images::.") == first


def test_sides_of_which_one_is_called_ade20k_need_a_word_on_zero(tmp_path: Path) -> None:
    side = write_side(tmp_path / "ade20k", {"1.png": png(LABELS)})
    with pytest.raises(MismatchError, match=r"Give --task\.zero ignored or --task\.zero class"):
        opened(tmp_path, side)


def test_classes_beyond_the_ignored_value_need_a_word_on_it(tmp_path: Path) -> None:
    mask = png(np.array([[255, 255, 300], [0, 1, 2]], np.uint16))
    sides = [write_side(tmp_path / name, {"1.png": mask}) for name in ("train", "val")]
    with pytest.raises(MismatchError, match="found classes whose values reach 300"):
        open_masks(MaskTask(*sides), RANK)
    kept, left_out = (open_masks(MaskTask(*sides, ignore=(value,)), RANK).train for value in (65_535, 255))
    assert (kept.pixels[255], kept.ignored, left_out.pixels[255], left_out.ignored) == (2, 0, 0, 2)


def grey(bits: int, *rows: int) -> bytes:
    """Write a grey PNG of four pixels a row, each row's bits as a number."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = struct.pack(">IIBBBBB", 4, len(rows), bits, 0, 0, 0, 0)
    pixels = b"".join(b"\0" + row.to_bytes(bits // 2, "big") for row in rows)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("mask", [grey(2, 0b00011011), grey(4, 0x0123)], ids=["2 bits", "4 bits"])
def test_grey_masks_of_few_bits_have_their_own_values(tmp_path: Path, mask: bytes) -> None:
    images = {"1.png": png(np.zeros((1, 4, 3), np.uint8))}
    data = opened(tmp_path, write_side(tmp_path / "train", {"1.png": mask}, images=images))
    assert data.train.label_map(0).tolist() == [[0, 1, 2, 3]]


def test_pascal_voc_has_palettes_lists_and_names(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 15, 15], [20, 255, 0]], np.uint8), mode="P")
    image.putpalette([number % 256 for number in range(768)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    for folder, content in (("JPEGImages", IMAGE), ("SegmentationClass", buffer.getvalue())):
        (tmp_path / folder).mkdir()
        for number in (1, 2, 3):
            (tmp_path / folder / f"2007_{number}.png").write_bytes(content)
    (tmp_path / "train.txt").write_text("2007_1\n2007_3\n")
    (tmp_path / "val.txt").write_text("2007_2\n")
    side = f"{tmp_path / 'JPEGImages'}::{tmp_path / 'SegmentationClass'}"
    lists = {"train_list": tmp_path / "train.txt", "test_list": tmp_path / "val.txt"}
    data = opened(tmp_path, side, test=side, **lists)
    assert data.train.images.names == ("2007_1.png", "2007_3.png")
    assert data.test.images.names == ("2007_2.png",)
    assert data.train.label_map(1).tolist() == [[0, 15, 15], [20, -1, 0]]
    assert (data.task.class_names[15], data.task.class_names[20], len(data.task.class_names)) == (
        "person",
        "tvmonitor",
        21,
    )


def write_panoptic(root: Path, *, segments: list[dict[str, Any]], **changes: Any) -> str:
    """Write an image whose PNG has the segments 7 and 66,000, and nothing in one pixel."""
    ids = np.array([[7, 7, 66_000], [66_000, 66_000, 0]])
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65_536], axis=2).astype(np.uint8)
    for folder, content in (("images", IMAGE), ("panoptic", png(colours))):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "1.png").write_bytes(content)
    categories = [{"id": 3, "name": "dog", "isthing": 1}, {"id": 90, "name": "grass", "isthing": 0}]
    annotation = {"image_id": 1, "file_name": "1.png", "segments_info": segments, **changes}
    images = [{"id": 1, "file_name": "1.png", "width": 3, "height": 2}]
    content = {"images": images, "annotations": [annotation], "categories": categories}
    (root / "panoptic.json").write_text(json.dumps(content))
    return f"{root / 'panoptic.json'}::{root / 'images'}"


SEGMENTS = [{"id": 7, "category_id": 90}, {"id": 66_000, "category_id": 3}]


def test_an_image_annotated_twice_is_refused(tmp_path: Path) -> None:
    side = write_panoptic(tmp_path / "train", segments=SEGMENTS)
    path = tmp_path / "train" / "panoptic.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "annotations": content["annotations"] * 2}))
    with pytest.raises(InputError, match=r"found image_id 1 for the second time in annotations\[1\]"):
        opened(tmp_path, side)


def test_panoptic_annotations_of_no_image_leave_their_images_without_masks(tmp_path: Path) -> None:
    side = write_panoptic(tmp_path / "train", segments=SEGMENTS)
    path = tmp_path / "train" / "panoptic.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    with pytest.raises(InputError, match=r"found 0 of 1 images that can be used.*1 no_mask"):
        opened(tmp_path, side, test=side)


def test_the_same_classes_in_another_order_are_refused(tmp_path: Path) -> None:
    sides = [write_panoptic(tmp_path / name, segments=SEGMENTS) for name in ("train", "val")]
    path = tmp_path / "val" / "panoptic.json"
    path.write_text(path.read_text().replace('"id": 3', '"id": 99').replace('"category_id": 3', '"category_id": 99'))
    with pytest.raises(MismatchError, match="found the classes of the training images in another order"):
        open_masks(MaskTask(*sides), RANK)


def test_panoptic_segments_are_things_and_stuff(tmp_path: Path) -> None:
    sides = [write_panoptic(tmp_path / name, segments=SEGMENTS) for name in ("train", "val")]
    data = open_masks(MaskTask(*sides), RANK)
    assert data.task.class_names == ("dog", "grass")
    assert data.train.label_map(0).tolist() == [[1, 1, 0], [0, 0, -1]]
    (tmp_path / "train" / "panoptic").rename(tmp_path / "pngs")
    with pytest.raises(InputError, match=r"train/panoptic: found no such folder; .*PNGs.*panoptic\.json::\S+::PNGS\."):
        open_masks(MaskTask(*sides), RANK)
    assert len(open_masks(MaskTask(f"{sides[0]}::{tmp_path / 'pngs'}", sides[1]), RANK).train) == 1


def test_a_segment_that_the_file_does_not_list_is_a_bad_mask(tmp_path: Path) -> None:
    sides = [write_panoptic(tmp_path / name, segments=SEGMENTS[:1]) for name in ("train", "val")]
    with pytest.raises(InputError, match=r"found 0 of 1 images that can.*1 segment_unknown.* Check the data set\.$"):
        open_masks(MaskTask(*sides), RANK)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"image_id": 2}, r"found image_id 2 in annotations\[0\]"),
        ({"file_name": "../1.png"}, r"found file_name '../1.png' in annotations\[0\]"),
        (
            {"segments_info": [{"id": 7, "category_id": 4}]},
            r"found category_id 4 in annotations\[0\] segments_info\[0\]",
        ),
        ({"file_name": "a\0b"}, r"found 'a\\x00b' as file_name of annotations\[0\]"),
        ({"file_name": "a\ud800b"}, r"found 'a\\ud800b' as file_name of annotations\[0\]"),
        ({"segments_info": [{"id": "x", "category_id": 3}]}, r"found 'x' as id of annotations\[0\] segments_info\[0\]"),
        ({"segments_info": SEGMENTS[:1] * 2}, r"found 7 as id of annotations\[0\] segments_info\[1\]"),
    ],
)
def test_panoptic_annotations_of_something_else_are_refused(
    tmp_path: Path, changes: dict[str, Any], found: str
) -> None:
    side = write_panoptic(tmp_path / "train", segments=SEGMENTS, **changes)
    with pytest.raises(InputError, match=found):
        opened(tmp_path, side)


def test_objects_are_painted_over_a_background_small_ones_last_and_crowds_are_ignored(tmp_path: Path) -> None:
    def square(left: int, side: int, category: int, **more: Any) -> dict[str, Any]:
        right = left + side
        polygon = [left, 0, right, 0, right, side, left, side]
        return {
            "bbox": [left, 0, side, side],
            "segmentation": [polygon],
            "category_id": category,
            "area": side**2,
            **more,
        }

    annotations = [
        square(0, 2, 5),
        square(0, 6, 3),
        {**square(6, 2, 3), "iscrowd": 1, "segmentation": {"size": [6, 8], "counts": [36, 2, 4, 2, 4]}},
    ]
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 8, "height": 6}],
        "annotations": [{"id": number, "image_id": 1, "iscrowd": 0, **each} for number, each in enumerate(annotations)],
        "categories": [{"id": 3, "name": "dog"}, {"id": 5, "name": "cat"}],
    }
    sides = []
    for name in ("train", "val"):
        (tmp_path / name / "images").mkdir(parents=True)
        (tmp_path / name / "images" / "1.png").write_bytes(png(np.zeros((6, 8, 3), np.uint8)))
        (tmp_path / name / "instances.json").write_text(json.dumps(content))
        sides.append(f"{tmp_path / name / 'instances.json'}::{tmp_path / name / 'images'}")
    data = open_masks(MaskTask(*sides), RANK)
    assert data.task.class_names == ("background", "dog", "cat")
    assert data.train.label_map(0).tolist() == [
        [2, 2, 1, 1, 1, 1, -1, -1],
        [2, 2, 1, 1, 1, 1, -1, -1],
        *[[1, 1, 1, 1, 1, 1, 0, 0]] * 4,
    ]


def test_a_map_of_another_size_is_refused_before_memory_is_taken_for_it(tmp_path: Path) -> None:
    side = write_scenes(tmp_path / "boxes", [1])
    images = [{"id": 1, "file_name": "1.png", "width": 65_000, "height": 65_000}]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "dog"}]}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    large = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(large, "PNG")
    masks = write_side(tmp_path / "masks", {"1.png": large.getvalue()})
    for train in (f"{tmp_path / 'instances.json'}::{side.partition('::')[0]}", masks):
        tracemalloc.start()
        with pytest.raises(InputError, match="1 mask_of_another_size"):
            opened(tmp_path, train, test=train)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
        tracemalloc.stop()


def test_images_that_exif_turns_are_counted(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    turned = io.BytesIO()
    Image.new("RGB", (3, 2)).save(turned, "JPEG", exif=exif)
    side = write_side(tmp_path / "train", {"1.png": png(LABELS)}, images={"1.jpg": turned.getvalue()})
    note = "train: 1 image is turned upright by EXIF; the masks must show them upright"
    assert note in opened(tmp_path, side).task.notes


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


BAD = {
    "mask_of_another_size": png(np.zeros((3, 2), np.uint8)),
    "mask_is_jpeg": jpeg(np.zeros((2, 3), np.uint8)),
    "mask_is_rgb": png(np.zeros((2, 3, 3), np.uint8)),
    "mask_broken": png(LABELS)[:40],
    "mask_of_other_values": png(np.full((2, 3), 9, np.uint8)),
    "empty_image": b"",
}


@pytest.mark.parametrize("reason", BAD)
def test_a_mask_that_is_none_is_left_out_and_named(tmp_path: Path, reason: str) -> None:
    (tmp_path / "names.json").write_text('["a", "b", "c"]')
    masks = {"bad.png": BAD[reason], **{f"{number}.png": png(LABELS) for number in range(9)}}
    side = write_side(tmp_path / "train", masks)
    data = opened(tmp_path, side, class_names=tmp_path / "names.json")
    assert reasons(data.train) == [("bad.png", reason)]
    assert len(data.train) == 9
    assert f"1 file or sample left out: 1 {reason} (bad.png)" in " ".join(data.task.notes)
    sizes = " (mask 2 x 3 pixels, image 3 x 2)" if reason == "mask_of_another_size" else ""
    found = f"found 9 of 10 images that can be used (1 {reason}; for example bad.png{sizes})"
    with pytest.raises(InputError, match=re.escape(found) + r".*, or raise --task\.max-bad-share\."):
        opened(tmp_path, side, class_names=tmp_path / "names.json", max_bad_share=0.05)


def test_an_image_that_is_none_is_left_out_with_its_mask(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(10)]
    images = {**dict.fromkeys(names, IMAGE), "0.png": b"no image"}
    data = opened(tmp_path, write_side(tmp_path / "train", dict.fromkeys(names, png(LABELS)), images=images))
    assert reasons(data.train) == [("0.png", "not_an_image")]


def test_an_image_without_a_mask_is_left_out(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(10)]
    side = write_side(tmp_path / "train", dict.fromkeys(names[:9], png(LABELS)), images=dict.fromkeys(names, IMAGE))
    assert reasons(opened(tmp_path, side).train) == [("9.png", "no_mask")]


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("", "no two colons"),
        ("images", "no two colons"),
        ("{root}::{root}/none", "no such folder"),
        ("a.json::{root}", "No such file"),
    ],
)
def test_a_side_that_is_none_is_an_error(tmp_path: Path, location: str, found: str) -> None:
    with pytest.raises(InputError, match=found):
        opened(tmp_path, location.format(root=tmp_path))


def test_an_image_on_both_sides_is_refused(tmp_path: Path) -> None:
    side = write_scenes(tmp_path / "train", range(3))
    with pytest.raises(MismatchError, match="found 3 images that are both trained on and tested on"):
        open_masks(MaskTask(side, side), RANK)


def test_sides_of_other_classes_are_refused(tmp_path: Path) -> None:
    panoptic = write_panoptic(tmp_path / "panoptic", segments=SEGMENTS)
    with pytest.raises(MismatchError, match="found other classes than the training images: dog, grass"):
        opened(tmp_path, panoptic)


def test_two_images_of_one_stem_are_refused(tmp_path: Path) -> None:
    side = write_side(tmp_path / "train", {"1.png": png(LABELS)}, images={"1.png": IMAGE, "1.jpg": IMAGE})
    with pytest.raises(InputError, match=r"found 1\.(png and 1\.jpg|jpg and 1\.png)"):
        opened(tmp_path, side)


@pytest.mark.parametrize("text", ["", "1\n1"])
def test_a_list_without_images_or_with_one_twice_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    side = write_side(tmp_path / "train", {"1.png": png(LABELS)})
    with pytest.raises(InputError, match="one name without suffix a line, each once"):
        opened(tmp_path, side, train_list=tmp_path / "list.txt")


def test_a_share_of_the_training_images_lies_inside_a_larger_one(tmp_path: Path) -> None:
    task = task_in(tmp_path, train=10, test=2)
    names = [set(open_masks(task, RANK, percent=share, seed=1).train.images.names) for share in (20, 50, 100)]
    assert list(map(len, names)) == [2, 5, 10]
    assert names[0] < names[1] < names[2]


def test_a_mask_that_changed_after_it_was_opened_is_an_error(tmp_path: Path) -> None:
    task = task_in(tmp_path, train=3, test=2)
    data = open_masks(task, RANK)
    path = tmp_path / "train" / "masks" / "1.png"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(CatlipError, match=r"a file of .* bytes that was changed"):
        data.train.label_map(1)


def test_masks_have_a_fingerprint_of_their_own(tmp_path: Path) -> None:
    one, other = (
        opened(tmp_path / name, write_side(tmp_path / name / "train", {"1.png": png(labels)}))
        for name, labels in (("a", LABELS), ("b", LABELS[:, ::-1].copy()))  # the same classes and numbers of pixels
    )
    assert one.train.fingerprint != other.train.fingerprint
    assert replace(one.train).fingerprint == one.train.fingerprint
