"""Pascal VOC's annotations: boxes that count from 1, difficult objects, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pictures import picture
from trainer.dense.annotated_images import AnnotatedImages
from trainer.dense.detect_task import open_side
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


def opened(root: Path, *documents: str, bad: float = 0.5) -> AnnotatedImages:
    for folder in ("xml", "images"):
        (root / folder).mkdir()
    for number, content in enumerate(documents):
        (root / "xml" / f"{number}.xml").write_text(content)
        (root / "images" / f"{number}.png").write_bytes(picture())
    return open_side(f"{root / 'xml'}::{root / 'images'}", max_bad_share=bad)


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


def test_two_annotations_of_one_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"two annotations of '0.png'"):
        opened(tmp_path, document("0.png", thing()), document("0.png", thing()))


def test_no_image_lies_outside_of_its_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a name below the image folder"):
        opened(tmp_path, document("../0.png", thing()))


def test_a_folder_without_annotations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no .xml"):
        opened(tmp_path)
