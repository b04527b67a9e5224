"""COCO's instance annotations: the objects of an image, and what an untrusted file must not say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pictures import picture
from trainer.dense import coco_tools
from trainer.dense.annotated_images import AnnotatedImages, content_of_objects
from trainer.dense.annotations import open_instances
from trainer.dense.detect_task import renumbered
from trainer.dense.shapes import (
    BadShape,
    Polygons,
    RunLengths,
    common,
    decompressed,
    extent_of,
    mask_of,
    shape_of,
)
from vocab.errors import InputError, MissingRequirementError

SQUARE = [[2.0, 3.0, 10.0, 3.0, 10.0, 9.0, 2.0, 9.0]]


def instance(image: int, category: int, **entry: object) -> dict[str, object]:
    """An annotation; `entry` has the fields that are not as usual."""
    own = {"image_id": image, "category_id": category, "iscrowd": 0, "bbox": [2, 3, 8, 6], "area": 48.0}
    return {**own, "segmentation": SQUARE, **entry}


def content(*annotations: dict[str, object]) -> dict[str, Any]:
    """Two images of 24 x 16 pixels; ids with gaps, out of order."""
    return {
        "images": [
            {"id": 9, "file_name": "b.png", "width": 24, "height": 16},
            {"id": 4, "file_name": "a.png", "width": 24, "height": 16},
        ],
        "annotations": list(annotations),
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}],
    }


def opened(folder: Path, of: object, *, bad: float = 0.5) -> AnnotatedImages:
    (folder / "images").mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        (folder / "images" / name).write_bytes(picture())
    (folder / "a.json").write_text(json.dumps(of))
    return open_instances(folder / "a.json", str(folder / "images"), max_bad_share=bad)


def test_objects_stand_with_their_image_and_classes_go_by_ascending_id(tmp_path: Path) -> None:
    data = opened(
        tmp_path,
        content(instance(4, 90), instance(9, 1, iscrowd=1), instance(4, 1, bbox=[1.5, 1, 4, 4]), instance(4, 90)),
    )
    assert data.images.names == ("b.png", "a.png")
    assert data.images.labels == ("person", "toothbrush")
    assert (data.ids, data.categories) == ((9, 4), (1, 90))
    assert data.sizes.tolist() == [[24, 16], [24, 16]]
    assert data.offsets.tolist() == [0, 1, 4]
    assert data.classes.tolist() == [0, 1, 0, 1]
    assert data.crowds.tolist() == [True, False, False, False]
    assert data.boxes.tolist() == [[2, 3, 10, 9], [2, 3, 10, 9], [1.5, 1, 5.5, 5], [2, 3, 10, 9]]
    assert [data.images.classes[a:b].tolist() for a, b in [(0, 1), (1, 3)]] == [[0], [0, 1]]


def test_a_selection_takes_the_objects_of_its_images_along(tmp_path: Path) -> None:
    data = opened(tmp_path, content(instance(4, 90), instance(9, 1), instance(4, 1)))
    one = data.select(np.array([1]))
    assert (one.images.names, one.ids, one.offsets.tolist(), one.classes.tolist()) == (("a.png",), (4,), [0, 2], [1, 0])
    assert len(one.shapes) == 2


def test_a_missing_image_takes_its_objects_along(tmp_path: Path) -> None:
    of = content(instance(8, 1), instance(4, 90))
    of["images"].insert(0, {"id": 8, "file_name": "gone.png", "width": 24, "height": 16})
    data = opened(tmp_path, of)
    assert [bad.reason for bad in data.images.skipped] == ["missing"]
    assert (data.ids, data.offsets.tolist(), data.classes.tolist()) == ((9, 4), [0, 0, 1], [1])


def test_objects_of_images_that_are_not_listed_are_left_out_and_counted(tmp_path: Path) -> None:
    data = opened(tmp_path, content(instance(4, 1), instance(5, 1)))
    assert len(data.boxes) == 1
    assert data.images.notes == ("1 annotation left out, of 1 image that the file does not list: 5",)


def test_a_box_is_cut_at_the_edges_of_its_image(tmp_path: Path) -> None:
    data = opened(tmp_path, content(instance(4, 1, bbox=[-1, 10, 8, 7], segmentation=None)))
    assert data.boxes.tolist() == [[0, 10, 7, 16]]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"bbox": [2, 3, 8]}, "broken_box"),
        ({"bbox": None}, "broken_box"),
        ({"bbox": [2, 3, float("nan"), 6]}, "broken_box"),
        ({"bbox": ["2", 3, 8, 6]}, "broken_box"),
        ({"bbox": [True, True, True, True]}, "broken_box"),
        ({"bbox": [10**400, 0, 1, 1]}, "broken_box"),
        ({"bbox": [2, 3, 0, 6]}, "box_without_area"),
        ({"bbox": [2, 3, 8, -6]}, "box_without_area"),
        ({"bbox": [24, 3, 8, 6]}, "box_outside"),
        ({"bbox": [2, 3, 1e30, 6]}, "box_outside"),
        ({"bbox": [20, 3, 20, 6]}, "box_outside"),
        ({"iscrowd": 2}, "crowd_unclear"),
        ({"segmentation": [[2, 3, 10, 3, 10]]}, "broken_polygon"),
        ({"segmentation": [[2, 3, 10, 3]]}, "broken_polygon"),
        ({"segmentation": [[2, 3, 10, 3, 10, float("inf")]]}, "broken_polygon"),
        ({"segmentation": [[2, 3, 10, "nine", 10, 9]]}, "broken_polygon"),
        ({"segmentation": [["2", "3", "10", "3", "10", "9"]]}, "broken_polygon"),
        ({"segmentation": [[10**400, 3, 10, 3, 10, 9]]}, "broken_polygon"),
        ({"segmentation": [2, 3, 10, 3, 10, 9]}, "broken_polygon"),
        ({"segmentation": "all"}, "broken_polygon"),
        ({"segmentation": [[0, 0, 24, 16] * 2000]}, "broken_polygon"),
        ({"segmentation": [[2, 3, 1e9, 3, 10, 9]]}, "polygon_outside"),
        ({"segmentation": [[2, 3, 5, 6, 8, 9]]}, "mask_without_area"),
        ({"segmentation": {"size": [24, 16], "counts": [100, 284]}}, "rle_of_another_size"),
        ({"segmentation": {"counts": [100, 284]}}, "rle_of_another_size"),
        ({"segmentation": {"size": [16, 24], "counts": [100, 283]}}, "broken_rle"),
        ({"segmentation": {"size": [16, 24], "counts": [500, -116]}}, "broken_rle"),
        ({"segmentation": {"size": [16, 24], "counts": [100.0, 284.0]}}, "broken_rle"),
        ({"segmentation": {"size": [16, 24], "counts": [384]}}, "mask_without_area"),
        ({"segmentation": {"size": [16, 24]}}, "broken_rle"),
        ({"segmentation": {"size": [16, 24], "counts": ""}}, "broken_rle"),
        ({"segmentation": {"size": [16, 24], "counts": "d3"}}, "broken_rle"),
        ({"segmentation": {"size": [16, 24], "counts": "oooooooooooooooo0"}}, "broken_rle"),
        ({"segmentation": {"size": [16, 24], "counts": "ü!"}}, "broken_rle"),
        ({"segmentation": {"size": [16, 24], "counts": "\ud800"}}, "broken_rle"),
        ({"segmentation": [[12, 3, 20, 3, 20, 9]]}, "mask_outside_box"),
        ({"segmentation": {"size": [16, 24], "counts": [12, 4, 368]}}, "mask_outside_box"),
        ({"id": 7}, "repeated_id"),
    ],
)
def test_an_object_that_cannot_be_used_is_left_out_and_counted(
    tmp_path: Path, entry: dict[str, object], reason: str
) -> None:
    data = opened(tmp_path, content(instance(4, 1, id=7), instance(4, 90, **entry)))
    assert (data.left_out, data.classes.tolist()) == ({reason: 1}, [0])
    assert data.images.notes == (f"1 object left out: 1 {reason}",)


def test_too_many_objects_that_cannot_be_used_end_the_reading(tmp_path: Path) -> None:
    of = content(instance(4, 1), instance(4, 1, bbox=[0, 0, 0, 0]), instance(4, 1, bbox=None))
    with pytest.raises(InputError, match=r"2 of 3 objects that cannot be used \(1 box_without_area, 1 broken_box\)"):
        opened(tmp_path, of)


def test_an_image_needs_its_size_and_a_plausible_one(tmp_path: Path) -> None:
    for width in (None, 0, "24", 1 << 20):
        of = content(instance(4, 1))
        of["images"][1]["width"] = width
        with pytest.raises(InputError, match=r"as width and height of images\[1\]"):
            opened(tmp_path, of)


def test_objects_may_have_no_masks_and_images_no_objects(tmp_path: Path) -> None:
    data = opened(tmp_path, content(instance(4, 1, segmentation=[]), instance(4, 1, segmentation=None)))
    assert (data.has_masks, data.shapes) == (False, (None, None))
    assert len(opened(tmp_path, content())) == 2


def test_every_change_of_an_object_changes_the_content(tmp_path: Path) -> None:
    entries: list[dict[str, object]] = [
        {},
        {"bbox": [2, 3, 8, 5]},
        {"iscrowd": 1},
        {"area": 12.0},
        {"segmentation": None},
        {"segmentation": [[2, 3, 10, 3, 10, 9]]},
        {"segmentation": [SQUARE[0], SQUARE[0]]},
        {"segmentation": {"size": [16, 24], "counts": [100, 284]}},
    ]
    assert len({content_of_objects(opened(tmp_path, content(instance(4, 1, **each)))) for each in entries}) == 8


def test_an_area_that_is_true_is_none(tmp_path: Path) -> None:
    assert opened(tmp_path, content(instance(4, 1, area=True))).areas.tolist() == [48.0]


def test_the_extent_of_a_shape_is_that_of_its_mask() -> None:
    draws = np.random.default_rng(0)
    for _ in range(100):
        width, height = draws.integers(2, 9, 2).tolist()
        flat = draws.random(width * height) < 0.2
        flat[draws.integers(flat.size)] = True
        edges = np.flatnonzero(np.diff(flat, prepend=False))
        shape = RunLengths(np.diff(np.concatenate([[0], edges, [flat.size]])))
        rows, columns = np.nonzero(mask_of(shape, width=width, height=height))
        wanted = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        found = extent_of(shape, height=height)
        # A run that goes on in the next column fills both to the edges of the image.
        assert common(found, wanted) == wanted
        assert (found[0], found[2]) == (wanted[0], wanted[2])
    ring = Polygons((np.array(SQUARE[0]), np.array([1.0, 4, 3, 4, 3, 12])))
    assert extent_of(ring, height=16) == (1, 3, 10, 12)


def test_a_test_class_keeps_its_id_and_no_other_class_has_it(tmp_path: Path) -> None:
    sides = []
    for name, categories in (("train", {1: "a", 2: "b", 3: "c"}), ("test", {1: "b"})):
        (tmp_path / name).mkdir()
        own = content(instance(4, 1))
        own["categories"] = [{"id": number, "name": label} for number, label in categories.items()]
        sides.append(opened(tmp_path / name, own))
    data = renumbered(sides[1], sides[0], location="test")
    assert (data.images.labels, data.categories, data.classes.tolist()) == (("a", "b", "c"), (4, 1, 3), [1])


def test_run_lengths_go_down_the_columns() -> None:
    shape = shape_of({"size": [3, 2], "counts": [1, 3, 2]}, width=2, height=3)
    assert shape is not None
    assert mask_of(shape, width=2, height=3).tolist() == [[0, 1], [1, 0], [1, 0]]


# pycocotools 2.0.11 hands arrays to numpy 2 in a way that numpy warns about.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_equal_those_of_pycocotools() -> None:
    reference = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    draws = np.random.default_rng(0)
    for _ in range(200):
        width, height = draws.integers(1, 40, 2).tolist()
        mask = (draws.random((height, width)) < draws.choice([0.1, 0.5, 0.99])).astype(np.uint8)
        runs = decompressed(reference.encode(np.asfortranarray(mask))["counts"].decode())
        assert np.array_equal(mask_of(RunLengths(runs), width=width, height=height), mask)
        rings = [draws.uniform(-2, 42, 2 * draws.integers(3, 8)) for _ in range(draws.integers(1, 3))]
        filled = reference.frPyObjects([each.tolist() for each in rings], height, width)
        wanted = reference.decode(reference.merge(filled))
        assert np.array_equal(mask_of(Polygons(tuple(rings)), width=width, height=height), wanted)


def test_compressed_counts_from_the_fourth_on_are_differences() -> None:
    assert decompressed("S16:0m6").tolist() == [35, 6, 10, 6, 231]


def test_a_text_that_ends_within_a_number_is_refused() -> None:
    with pytest.raises(BadShape, match="broken_rle"):
        decompressed("o")


def test_polygons_without_the_extra_end_in_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_tools, "PACKAGE", "no_such_package")
    monkeypatch.setattr(coco_tools, "_loaded", coco_tools._loaded.__wrapped__)
    with pytest.raises(MissingRequirementError, match=r"pip install -e '.\[dense\]'"):
        mask_of(Polygons((np.array(SQUARE[0]),)), width=24, height=16)
