"""Pascal VOC's annotations: boxes that count from 1, difficult objects, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pictures import picture
from trainer.dense.annotated_images import AnnotatedImages
from trainer.dense.detect_task import open_side
from trainer.transfer.config import TransferConfig
from trainer.transfer.detect import open_task_of
from trainer.transfer.suite_plan import calls_of, detect_config, options
from trainer.transfer.tasks_file import read_tasks
from vocab.errors import InputError

BOX = (3, 4, 10, 9)


def thing(name: str = "dog", box: tuple[object, ...] = BOX, *, difficult: str = "0") -> str:
    edges = "".join(
        f"<{edge}>{value}</{edge}>" for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{edges}</bndbox></object>"


def document(filename: str, *things: str, size: tuple[object, object] = (24, 16)) -> str:
    return (
        f"<annotation><filename>{filename}</filename><size><width>{size[0]}</width><height>{size[1]}</height></size>"
        f"{''.join(things)}</annotation>"
    )


def opened(root: Path, *documents: str, bad: float = 0.5, listing: Path | None = None) -> AnnotatedImages:
    for folder in ("xml", "images"):
        (root / folder).mkdir()
    for number, content in enumerate(documents):
        (root / "xml" / f"{number}.xml").write_text(content)
        (root / "images" / f"{number}.png").write_bytes(picture())
    return open_side(f"{root / 'xml'}::{root / 'images'}", max_bad_share=bad, listing=listing)


def test_pixels_count_from_one_and_the_last_one_is_inside(tmp_path: Path) -> None:
    data = opened(
        tmp_path,
        document("0.png", thing("dog"), thing("cat", difficult="1")),
        document("1.png"),
    )
    assert data.images.names == ("0.png", "1.png")
    assert data.images.labels == ("cat", "dog")
    assert data.boxes.tolist() == [[2, 3, 10, 9], [2, 3, 10, 9]]
    assert (data.classes.tolist(), data.crowds.tolist(), data.areas.tolist()) == ([1, 0], [False, True], [48, 48])
    assert (data.ids, data.categories, data.offsets.tolist()) == ((1, 2), (1, 2), [0, 2, 2])
    assert not data.has_masks


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (thing(box=(3, 4, "x", 9)), "broken_box"),
        (thing(box=(3, 4, "", 9)), "broken_box"),
        (thing(box=(3, 4, "nan", 9)), "broken_box"),
        (thing(box=(10, 4, 3, 9)), "box_without_area"),
        (thing(box=(30, 4, 40, 9)), "box_outside"),
        (thing(""), "no_name"),
        (thing(difficult="perhaps"), "crowd_unclear"),
        ("<object><name>dog</name></object>", "broken_box"),
    ],
)
def test_an_object_that_cannot_be_used_is_left_out_and_counted(tmp_path: Path, bad: str, reason: str) -> None:
    data = opened(tmp_path, document("0.png", thing(), bad))
    assert (data.left_out, len(data.boxes)) == ({reason: 1}, 1)


@pytest.mark.parametrize(
    "content",
    [
        "no xml",
        "",
        document("1.png", size=("wide", 16)),
        document("1.png", size=(0, 16)),
        document("1.png", size=(1 << 20, 16)),
        document(""),
        '<!DOCTYPE a [<!ENTITY b "c">]>' + document("1.png", thing("&b;")),
        document("1.png")[:-4],
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + document("1.png", thing("&b;"))).encode("utf-16-le").decode(),
    ],
)
def test_a_file_that_is_no_annotation_is_a_bad_image(tmp_path: Path, content: str) -> None:
    data = opened(tmp_path, document("0.png", thing()), content)
    assert data.images.names == ("0.png",)
    assert [(bad.key, bad.reason) for bad in data.images.skipped] == [("1.xml", "broken_annotation")]


def test_a_list_chooses_the_images(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("2\n0 \n\n")
    documents = [document(f"{number}.png", thing(name)) for number, name in enumerate(("dog", "cat", "cow"))]
    data = opened(tmp_path, *documents, listing=tmp_path / "val.txt")
    assert data.images.names == ("0.png", "2.png")
    # Another list of the same folder may have other classes.
    assert (data.images.labels, data.classes.tolist(), data.images.skipped) == (("cow", "dog"), [1, 0], ())


def test_an_image_of_a_list_that_is_absent_is_a_bad_image(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("0\n7\n1\n")
    documents = [document("0.png", thing()), document("elsewhere.png", thing())]
    data = opened(tmp_path, *documents, bad=0.7, listing=tmp_path / "val.txt")
    assert data.images.names == ("0.png",)
    assert {(bad.key, bad.reason) for bad in data.images.skipped} == {
        ("7.xml", "missing"),
        ("elsewhere.png", "missing"),
    }
    with pytest.raises(InputError, match=r"found 1 of 3 images that can be used \(2 missing; for example 7.xml, else"):
        open_side(f"{tmp_path / 'xml'}::{tmp_path / 'images'}", max_bad_share=0.1, listing=tmp_path / "val.txt")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "found nothing"),
        (b"\n \n", "found nothing"),
        (b"0\n1\n0\n", "found '0' twice"),
        (b"0  1\n1 -1\n", "found the line '0 1'; .*lists of one class, such as dog_train.txt, have another"),
        (b"\xff\xd8\xff", "found 'utf-8' codec"),
        (None, "No such file"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, content: bytes | None, found: str) -> None:
    if content is not None:
        (tmp_path / "val.txt").write_bytes(content)
    with pytest.raises(InputError, match=rf"val.txt: {found}" if content is not None else found):
        opened(tmp_path, document("0.png", thing()), listing=tmp_path / "val.txt")


def test_a_tasks_file_names_the_lists_of_both_sides(tmp_path: Path) -> None:
    # Images of another size each: the same image on both sides would be refused.
    opened(tmp_path, *(document(f"{number}.png", thing(), size=(24, 16 + number)) for number in range(3)))
    for number in range(3):
        (tmp_path / "images" / f"{number}.png").write_bytes(picture(size=(24, 16 + number)))
    (tmp_path / "train.txt").write_text("0\n2\n")
    (tmp_path / "val.txt").write_text("1\n")
    side = f"{tmp_path / 'xml'}::{tmp_path / 'images'}"
    (tmp_path / "tasks.toml").write_text(
        f"""
[[task]]
name = "voc"
train = "{side}"
test = "{side}"
methods = ["detect"]
percents = [100]

[task.detect]
epochs = 3
train_list = "{tmp_path / "train.txt"}"
test_list = "{tmp_path / "val.txt"}"
"""
    )
    (task,) = read_tasks(tmp_path / "tasks.toml", options())
    suite = TransferConfig("model", tmp_path / "tasks.toml", tmp_path / "suite")
    config = detect_config(calls_of(task, frozenset())[0], suite)
    data = open_task_of(config)
    assert config.epochs == 3
    assert (data.train.images.names, data.test.images.names) == (("0.png", "2.png"), ("1.png",))


def test_coco_s_annotations_take_no_list(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(
        InputError, match=r"--task.train-list or --task.test-list: found .*; wanted a list of the images"
    ):
        open_side(f"{tmp_path / 'a.json'}::{tmp_path}", max_bad_share=0.1, listing=tmp_path / "val.txt")


def test_two_annotations_of_one_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"two annotations of '0.png'"):
        opened(tmp_path, document("0.png", thing()), document("0.png", thing()))


def test_no_image_lies_outside_of_its_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a name below the image folder"):
        opened(tmp_path, document("../0.png", thing()))


def test_a_folder_without_annotations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no .xml"):
        opened(tmp_path)
