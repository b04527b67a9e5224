"""COCO's annotations: which classes an image shows, and what an untrusted file must not say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.pictures import picture
from trainer.data.labelled_images import LabelledImages
from trainer.transfer.tasks import coco_json
from trainer.transfer.tasks.class_names import names_of_classes
from trainer.transfer.tasks.coco import open_coco
from vocab.errors import InputError


def content() -> dict[str, Any]:
    """Three images of four; ids with gaps, out of order."""
    return {
        "info": {"year": 2017},
        "images": [
            {"id": 9, "file_name": "b.png"},
            {"id": 4, "file_name": "sub/a.png", "width": 24},
            {"id": 7, "file_name": "none.png"},
        ],
        "annotations": [
            {"id": 1, "image_id": 4, "category_id": 90, "bbox": [0, 0, 1, 1], "iscrowd": 0},
            {"id": 2, "image_id": 9, "category_id": 3, "segmentation": [[1, 2]], "iscrowd": 1},
            {"id": 3, "image_id": 4, "category_id": 1},
            {"id": 4, "image_id": 4, "category_id": 90},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 3, "name": "hot dog"}],
    }


def opened(folder: Path, of: object, *, bad: float = 0.1) -> LabelledImages:
    (folder / "images" / "sub").mkdir(parents=True, exist_ok=True)
    for name in ("b.png", "sub/a.png", "none.png"):
        (folder / "images" / name).write_bytes(picture())
    (folder / "a.json").write_text(of if isinstance(of, str) else json.dumps(of))
    return open_coco(folder / "a.json", str(folder / "images"), max_bad_share=bad)


def shown(images: LabelledImages) -> list[list[int]]:
    return [images.classes[a:b].tolist() for a, b in zip(images.offsets[:-1], images.offsets[1:], strict=True)]


def test_an_image_shows_each_of_its_categories_once_crowds_included(tmp_path: Path) -> None:
    images = opened(tmp_path, content())
    assert images.multi_label
    assert images.labels == ("person", "hot dog", "toothbrush")
    assert images.names == ("b.png", "sub/a.png", "none.png")
    assert shown(images) == [[1], [0, 2], []]
    with images.store.open() as read:
        assert read(1) == picture()


def test_a_missing_image_takes_its_classes_with_it(tmp_path: Path) -> None:
    of = content()
    of["images"].insert(0, {"id": 8, "file_name": "gone.png"})
    of["annotations"].append({"image_id": 8, "category_id": 90})
    with pytest.raises(InputError, match=r"found 3 of 4 images that can be used \(1 missing; for example gone.png\)"):
        opened(tmp_path, of)
    images = opened(tmp_path, of, bad=0.25)
    assert images.names == ("b.png", "sub/a.png", "none.png")
    assert shown(images) == [[1], [0, 2], []]
    assert images.rows.tolist() == [0, 1, 2]
    assert [bad.key for bad in images.skipped] == ["gone.png"]


def test_an_image_named_by_its_address_alone_lies_below_the_folder(tmp_path: Path) -> None:
    of = content()
    of["images"][1] = {"id": 4, "coco_url": "http://images.example/coco/sub/a.png"}
    assert opened(tmp_path, of).names == ("b.png", "sub/a.png", "none.png")


def test_a_class_of_lvis_is_named_by_its_synset(tmp_path: Path) -> None:
    of = content()
    synsets = {90: "toothbrush.n.01", 1: "person.n.01", 3: "hot_dog.n.99"}
    of["categories"] = [{**each, "synset": synsets[each["id"]], "synonyms": ["x"]} for each in of["categories"]]
    of["images"] = [
        {"id": each["id"], "coco_url": f"http://host/{Path('images', each['file_name']).as_posix()}"}
        for each in of["images"]
        if "/" not in each["file_name"]
    ]
    images = opened(tmp_path, of)
    assert images.names == ("b.png", "none.png")
    assert images.labels == ("person", "hot dog", "toothbrush")
    assert names_of_classes(images.labels, None, source=None, own=images.class_names).names == images.class_names
    assert images.class_names == ("person.n.01", "hot_dog.n.99", "toothbrush.n.01")
    assert images.notes == ("3 annotations left out, of 1 image that the file does not list: 4",)
    # Images that were filtered alone: what is left of the file counts.
    assert shown(images) == [[1], []]


def changed(**lists: Any) -> dict[str, Any]:
    """The content with entries put before those of some lists."""
    return {name: lists.get(name, []) + entries for name, entries in content().items() if isinstance(entries, list)}


@pytest.mark.parametrize(
    ("of", "message"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "found a list; wanted an object with images"),
        ('{"images": 1}', "found no categories"),
        ({**content(), "annotations": None}, "found no annotations; wanted a list of annotations"),
        ({**content(), "images": {}}, "images that are a dict"),
        ({**content(), "categories": []}, "found 0 categories"),
        (changed(images=[7]), r"found a int as images\[0\]"),
        (changed(images=[{"id": 9, "file_name": "c.png"}]), r"id 9 for the second time in images\[1\]"),
        (changed(images=[{"id": 1, "file_name": "sub/../b.png"}]), "file_name 'b.png' in images 1 and 9"),
        (changed(images=[{"id": 1, "file_name": "../b.png"}]), r"'../b.png' in images\[0\]; wanted a name below"),
        (changed(images=[{"id": 1, "file_name": "/etc/passwd"}]), "file_name '/etc/passwd'"),
        (changed(images=[{"id": 1, "file_name": "sub/.."}]), "file_name 'sub/..'"),
        (changed(images=[{"id": 1, "coco_url": "http://host/x/../.."}]), "file_name '../..'"),
        (changed(images=[{"id": 1, "coco_url": 7}]), "found 7 as coco_url"),
        (changed(images=[{"id": 1, "file_name": "a\0.png"}]), "as file_name of"),
        (changed(images=[{"id": 1, "file_name": "\ud800.png"}]), "as file_name of"),
        (changed(images=[{"id": 1, "file_name": 5}]), r"found 5 as file_name of images\[0\]"),
        (changed(images=[{"id": True, "file_name": "c.png"}]), r"found True as id of images\[0\]"),
        (changed(images=[{"id": [1], "file_name": "c.png"}]), r"found \[1\] as id"),
        (changed(categories=[{"id": 3, "name": "cat"}]), r"id 3 for the second time in categories\[3\]"),
        (changed(categories=[{"id": 2, "name": "person"}]), "categories 1 and 2 of one name, 'person'"),
        (changed(categories=[{"id": 2, "name": " "}]), r"found ' ' as name of categories\[0\]"),
        ({**content(), "annotations": [{"image_id": 5, "category_id": 1}]}, "all of 1 annotation of 1 image .* 5;"),
        (changed(annotations=[{"image_id": 9, "category_id": 2}]), r"category_id of 1 annotation .*: 2 in"),
        (changed(annotations=[{"image_id": 9}]), r"found None as category_id of annotations\[0\]"),
        (changed(annotations=[{"image_id": 9, "category_id": float("nan")}]), "found nan as category_id"),
    ],
)  # fmt: skip
def test_what_annotations_must_not_say(tmp_path: Path, of: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(tmp_path, of)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_json, "MAX_BYTES", 100)
    with pytest.raises(InputError, match="bytes; wanted at most 100"):
        opened(tmp_path, content())
    with pytest.raises(InputError, match="No such file"):
        open_coco(tmp_path / "none.json", str(tmp_path), max_bad_share=0.1)
