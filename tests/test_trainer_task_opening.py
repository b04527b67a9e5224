"""Tasks: which form the images have, one numbering for both sides, no image on both."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.pictures import classed, folders, picture
from trainer.transfer.config import TaskConfig
from trainer.transfer.tasks.opening import class_names_of, kind_of, open_images, open_task
from vocab.errors import InputError, MismatchError


def config(folder: Path, train: Any, test: Any, **changes: Any) -> TaskConfig:
    return TaskConfig(train=str(train), test=str(test), cache=folder / "cache", **changes)


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("folders", "folders"),
        ("tars", "tars"),
        ("tars/0.tar", "tars"),
        ("tars/*.tar", "tars"),
        ("tars/{0..9}.tar", "tars"),
        ("gone.tar", "tars"),
        ("s3://bucket/{00..99}.tar", "tars"),
        ("https://host/a.csv.tar", "tars"),
        ("pipe:cat a.json::b", "tars"),
        ("t.csv", "csv"),
        ("t.TSV", "csv"),
        ("a.json::folders", "coco"),
        ("odd[1]", "folders"),
    ],
)
def test_a_place_tells_its_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    folders(tmp_path / "folders", a=[])
    folders(tmp_path / "odd[1]", a=[])
    classed(tmp_path / "tars" / "0.tar", {"0": b"0"})
    assert kind_of(place, config(tmp_path, place, place)) == kind
    assert kind_of(place, config(tmp_path, place, place, kind="csv")) == "csv"


def test_a_place_without_a_form_is_an_error(tmp_path: Path) -> None:
    folders(tmp_path / "both", a=[])
    classed(tmp_path / "both" / "0.tar", {"0": b"0"})
    (tmp_path / "none").mkdir()
    (tmp_path / "a.json").write_text("{}")
    for place, message in (
        ("both", r"found 1 tar and 1 folder.*Give --task.kind"),
        ("none", "found 0 tars and 0 folders"),
        ("a.json", "found a file that ends in '.json'.*Write ANNOTATIONS.json::IMAGE_FOLDER"),
        ("gone", "found no such file"),
        ("a.json::gone", "found no image folder '.*gone'"),
    ):
        with pytest.raises(InputError, match=message):
            open_images(f"{tmp_path}/{place}".replace("::", f"::{tmp_path}/"), config(tmp_path, place, place))
    with pytest.raises(InputError, match="found an empty location"):
        open_images("", config(tmp_path, "", ""))
    with pytest.raises(InputError, match="found no '::'"):
        open_images("a.json", config(tmp_path, "a", "a", kind="coco"))


def test_both_sides_have_the_numbers_of_the_training_classes(tmp_path: Path) -> None:
    train = folders(tmp_path / "train", a=["0.png"], b=["0.png"], c=[], d=["0.png", "x.txt"])
    test = folders(tmp_path / "test", d=["0.png"], a=["0.png"])
    task = open_task(config(tmp_path, train, test))
    assert task.train.labels == task.test.labels == ("a", "b", "c", "d")
    assert task.train.one_class.tolist() == [0, 1, 3]
    assert task.test.one_class.tolist() == [0, 3]
    assert task.class_names == ("a", "b", "c", "d")
    assert task.notes == (
        "train: 1 of 4 classes has no image: c",
        "train: 1 file or sample left out: 1 other_file",
        "test: 2 of 4 classes have no image: b, c",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_bad_share": math.nan}, "--task.max-bad-share: found nan; wanted 0 or more, and at most 1"),
        ({"max_bad_share": 2.0}, "--task.max-bad-share: found 2.0"),
        ({"max_pixels": 0}, "--task.max-pixels: found 0; wanted more than 0"),
        ({"cache_gb": -1.0}, "--task.cache-gb: found -1.0"),
    ],
)
def test_options_that_cannot_work_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_task(config(tmp_path, "nowhere", "nowhere", **changes))


def test_a_test_class_that_is_not_trained_on_is_an_error(tmp_path: Path) -> None:
    train = folders(tmp_path / "train", a=["0.png"], b=["0.png"])
    test = folders(tmp_path / "test", b=["0.png"], c=["0.png"], d=[])
    with pytest.raises(MismatchError, match="found 2 classes that the training images do not have: c, d"):
        open_task(config(tmp_path, train, test))


def test_folders_and_tables_of_the_same_labels_make_a_task(tmp_path: Path) -> None:
    train = folders(tmp_path / "train", a=["0.png"], b=["0.png"])
    (tmp_path / "1.png").write_bytes(picture())
    (tmp_path / "test.csv").write_text("path,label\n1.png,b\n")
    assert open_task(config(tmp_path, train, tmp_path / "test.csv")).test.one_class.tolist() == [1]


def test_an_image_on_both_sides_is_an_error(tmp_path: Path) -> None:
    train = folders(tmp_path / "train", a=["0.png"], b=["0.png", "1.png"])
    test = folders(tmp_path / "test", a=["0.png"], b=[])
    (test / "b" / "same.png").symlink_to(train / "b" / "1.png")
    with pytest.raises(MismatchError, match=f"1 image that is both trained on and tested on: {train}/b/1.png;"):
        open_task(config(tmp_path, train, test))
    with pytest.raises(MismatchError, match="3 images that are both"):
        open_task(config(tmp_path, train, train))
    (tmp_path / "test.csv").write_text("path,label\ntrain/a/0.png,b\n")
    with pytest.raises(MismatchError, match="1 image that is both"):
        open_task(config(tmp_path, train, tmp_path / "test.csv"))


def test_a_tar_on_both_sides_is_an_error(tmp_path: Path) -> None:
    first = classed(tmp_path / "t" / "0.tar", {"0": b"0", "1": b"1"})
    classed(tmp_path / "t" / "1.tar", {"0": b"0"})
    (tmp_path / "link.tar").symlink_to(first)
    with pytest.raises(MismatchError, match=f"1 tar that is both trained on and tested on: {first};"):
        open_task(config(tmp_path, tmp_path / "t", tmp_path / "link.tar"))


def test_errors_about_tars_name_the_options_of_a_task(tmp_path: Path) -> None:
    train = classed(tmp_path / "train.tar", {"0": b"0", "1": b"one", "2": b"2"})
    test = classed(tmp_path / "test.tar", {"0": b"0", "2": b"2"})
    with pytest.raises(InputError, match=r"1 broken_class.* or raise --task\.max-bad-share\.$"):
        open_task(config(tmp_path, train, test))
    with pytest.raises(
        InputError, match=r"found no such file; wanted a WebDataset tar\. Check this location, or leave it out"
    ):
        open_task(config(tmp_path, tmp_path / "gone.tar", test))
    with pytest.raises(InputError, match=r"Pass --task\.allow-pipe if you trust"):
        open_task(config(tmp_path, "pipe:cat 0.tar", test))
    remote = config(tmp_path, "memory://tars/0.tar", test, cache_gb=1e-6)
    fsspec.filesystem("memory").pipe("/tars/0.tar", train.read_bytes())
    with pytest.raises(InputError, match=r"wanted at most the cache's 1,000 bytes.* hold more: --task\.cache-gb\.$"):
        open_task(remote)


def test_one_class_is_no_task(tmp_path: Path) -> None:
    train = folders(tmp_path / "train", a=["0.png"], b=[])
    test = folders(tmp_path / "test", a=["0.png"])
    with pytest.raises(InputError, match="found 1 class with images, of 2; wanted 2 to 65,536"):
        open_task(config(tmp_path, train, test))


def coco(folder: Path, name: str, images: dict[str, list[int]], categories: dict[int, str]) -> str:
    (folder / name).mkdir()
    for image in images:
        (folder / name / image).write_bytes(picture())
    of = {
        "images": [{"id": image, "file_name": image} for image in images],
        "annotations": [{"image_id": image, "category_id": each} for image, own in images.items() for each in own],
        "categories": [{"id": each, "name": category} for each, category in categories.items()],
    }
    (folder / f"{name}.json").write_text(json.dumps(of))
    return f"{folder}/{name}.json::{folder}/{name}"


def test_categories_of_both_sides_are_matched_by_name(tmp_path: Path) -> None:
    train = coco(tmp_path, "train", {"0.png": [1, 5], "1.png": []}, {1: "cat", 5: "ant"})
    test = coco(tmp_path, "test", {"2.png": [2, 1], "3.png": [1]}, {1: "ant", 2: "cat"})
    task = open_task(config(tmp_path, train, test))
    assert task.class_names == task.test.labels == ("cat", "ant")
    assert task.test.offsets.tolist() == [0, 2, 3]
    assert task.test.classes.tolist() == [0, 1, 1]


def test_one_class_an_image_and_any_number_do_not_go_together(tmp_path: Path) -> None:
    train = folders(tmp_path / "train", a=["0.png"], b=["0.png"])
    test = coco(tmp_path, "test", {"2.png": [1]}, {1: "a"})
    with pytest.raises(MismatchError, match="found any number of classes for each image; wanted one class"):
        open_task(config(tmp_path, train, test))


def tars(folder: Path) -> tuple[Path, Path]:
    return (
        classed(folder / "train.tar", {"0": b"0", "1": b"2"}),
        classed(folder / "test.tar", {"0": b"0"}),
    )


def test_names_of_tars_are_places_in_a_list(tmp_path: Path) -> None:
    train, test = tars(tmp_path)
    (tmp_path / "names.txt").write_text("n01440764 tench\nshark\ncat\n")
    task = open_task(config(tmp_path, train, test, class_names=tmp_path / "names.txt"))
    assert task.class_names == ("n01440764", "shark", "cat")
    assert task.train.one_class.tolist() == [0, 2]
    assert task.notes == (
        "train: 1 of 3 classes has no image: 1",
        "test: 2 of 3 classes have no image: 1, 2",
    )
    (tmp_path / "names.txt").write_text("tench\nshark\ncat\ndog\n")
    with pytest.raises(MismatchError, match=r"names.txt: found a list of 4 names for 2 classes: 0, 2"):
        open_task(config(tmp_path, train, test, class_names=tmp_path / "names.txt"))


def test_the_last_class_of_a_list_may_have_no_image_to_train_on(tmp_path: Path) -> None:
    train = classed(tmp_path / "train.tar", {"0": b"0", "1": b"1"})
    test = classed(tmp_path / "test.tar", {"0": b"0", "1": b"2"})
    (tmp_path / "names.txt").write_text("tench\nshark\ncat\n")
    task = open_task(config(tmp_path, train, test, class_names=tmp_path / "names.txt"))
    assert (task.class_names, task.test.one_class.tolist()) == (("tench", "shark", "cat"), [0, 2])
    assert task.notes == ("train: 1 of 3 classes has no image: 2", "test: 1 of 3 classes has no image: 1")
    # Without a list nobody says that there is such a class.
    with pytest.raises(MismatchError, match="found 1 class that the training images do not have: 2"):
        open_task(config(tmp_path, train, test))


def test_tars_without_names_have_classes_that_are_no_nouns(tmp_path: Path) -> None:
    task = open_task(config(tmp_path, *tars(tmp_path)))
    assert task.train.labels == ("0", "2")
    assert task.class_names == ("cls0", "cls2")
    assert "--task.class-names gives names" in task.notes[-1]


def test_images_to_test_on_alone_have_the_classes_that_a_list_names(tmp_path: Path) -> None:
    _, test = tars(tmp_path)
    (tmp_path / "names.json").write_text('["tench", "shark", "cat", "dog"]')
    with_names = config(tmp_path, "", test, class_names=tmp_path / "names.json")
    images = open_images(str(test), with_names)
    named = class_names_of(images, with_names)
    assert images.labels == ("0", "1", "2", "3")
    assert named.names == ("tench", "shark", "cat", "dog")
    (tmp_path / "names.json").write_text('{"0": "tench", "1": "shark"}')
    named = class_names_of(open_images(str(test), with_names), with_names)
    assert named.names == ("tench",)


def test_real_images_get_their_wnids_from_a_list(real_data: Path, tmp_path: Path) -> None:
    place = real_data / "images" / "tiny_imagenet"
    if not place.is_dir():
        pytest.skip(f"no {place}")
    wanted = config(
        tmp_path, place / "train-{00000..00003}.tar", place / "val-00000.tar", class_names=place / "wnids.txt"
    )
    task = open_task(wanted)
    assert (len(task.train), len(task.test), len(task.class_names)) == (20_000, 5_000, 200)
    assert task.class_names[:2] == ("n01443537", "n01629819")
    assert set(task.train.images_by_class.tolist()) == {100}
    assert task.notes == ()
    with task.test.store.open() as read:
        assert read(0)[:2] == b"\xff\xd8"


@pytest.mark.parametrize("form", ["folders", "csv", "coco", "coco with ids as text"])
def test_names_in_the_order_of_numbers_go_to_their_classes_in_every_form(tmp_path: Path, form: str) -> None:
    labels = [f"class_{number}" for number in range(12)]
    root = folders(tmp_path / "in", **{label: ["0.png"] for label in labels})
    place = root
    if form == "csv":
        place = tmp_path / "t.csv"
        place.write_text("path,label\n" + "".join(f"in/{label}/0.png,{label}\n" for label in labels))
    elif form != "folders":
        ids = [str(number) if "text" in form else number for number in range(12)]
        categories = [{"id": each, "name": label} for each, label in zip(ids, labels, strict=True)]
        images = [{"id": number, "file_name": f"{label}/0.png"} for number, label in enumerate(labels)]
        shown = [{"image_id": number, "category_id": each} for number, each in enumerate(ids)]
        content = {"images": images, "annotations": shown, "categories": categories}
        (tmp_path / "a.json").write_text(json.dumps(content))
        place = Path(f"{tmp_path}/a.json::{root}")
    (tmp_path / "names.txt").write_text("\n".join(f"name {number}" for number in range(12)))
    task = config(tmp_path, "", place, class_names=tmp_path / "names.txt")
    images = open_images(str(place), task)
    named = class_names_of(images, task)
    assert dict(zip(images.labels, named.names, strict=True)) == {f"class_{n}": f"name {n}" for n in range(12)}


def test_test_images_that_show_no_class_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    folders(tmp_path / "in", a=["0.png", "1.png"])
    for side, shown in (("train", [{"image_id": 0, "category_id": 1}]), ("test", [])):
        name = f"a/{int(side == 'test')}.png"
        content = {
            "images": [{"id": 0, "file_name": name}],
            "annotations": shown,
            "categories": [{"id": 1, "name": "a"}],
        }
        (tmp_path / f"{side}.json").write_text(json.dumps(content))
    train, test = (f"{tmp_path}/{side}.json::{tmp_path}/in" for side in ("train", "test"))
    with pytest.raises(InputError, match="the test images: found 1 image, none of which shows a class"):
        open_task(config(tmp_path, train, test))


def test_names_follow_the_ids_of_categories_as_numbers_even_where_they_are_texts(tmp_path: Path) -> None:
    root = folders(tmp_path / "in", a=["0.png"])
    words = ["cat", "dog", "cow", "pig", "hen", "fox", "owl", "ape", "bee", "ant", "emu"]
    content = {
        "images": [{"id": 1, "file_name": "a/0.png"}],
        "annotations": [{"image_id": 1, "category_id": "10"}],
        "categories": [{"id": str(number), "name": word} for number, word in enumerate(words)],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    place = f"{tmp_path}/a.json::{root}"
    images = open_images(place, config(tmp_path, "", place))
    assert (images.labels, images.classes.tolist()) == (tuple(words), [10])
