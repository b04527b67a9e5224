"""Tables of path and label: what they may say, and which line is at fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pictures import picture
from trainer.data.labelled_images import LabelledImages
from trainer.transfer.tasks.csv_table import open_csv_table
from vocab.errors import InputError


def opened(
    folder: Path,
    text: str | bytes,
    *,
    name: str = "t.csv",
    columns: tuple[str, str] = ("path", "label"),
    bad: float = 0.1,
    multi_label: bool = False,
) -> LabelledImages:
    """A table beside images 0.png to 3.png and in/4.png."""
    (folder / "in").mkdir(exist_ok=True)
    for image in ("0.png", "1.png", "2.png", "3.png", "in/4.png"):
        (folder / image).write_bytes(picture())
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_csv_table(folder / name, columns=columns, multi_label=multi_label, max_bad_share=bad)


def test_rows_are_images_in_their_order_and_classes_ascend_by_label(tmp_path: Path) -> None:
    images = opened(tmp_path, 'path,label\n1.png,dog\n\nin/4.png,"cat, tabby"\n./0.png, dog \n')
    assert images.names == ("1.png", "in/4.png", "0.png")
    assert images.labels == ("cat, tabby", "dog")
    assert images.one_class.tolist() == [1, 0, 1]
    with images.store.open() as read:
        assert read(1) == picture()


def test_numbers_ascend_as_numbers_and_words_as_words(tmp_path: Path) -> None:
    assert opened(tmp_path, "path,label\n0.png,10\n1.png,9\n").labels == ("9", "10")
    assert opened(tmp_path, "path,label\n0.png,10\n1.png,9\n2.png,x\n").labels == ("10", "9", "x")


def test_tabs_other_columns_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    text = "\ufefffile\tsource\tclass\n0.png\tme, you\tdog\n1.png\tme\tcat\n"
    images = opened(tmp_path, text, name="t.TSV", columns=("file", "class"))
    assert (images.names, images.labels) == (("0.png", "1.png"), ("cat", "dog"))


def test_absolute_paths_may_lie_anywhere(tmp_path: Path) -> None:
    (tmp_path / "far.png").write_bytes(picture())
    (tmp_path / "here").mkdir()
    images = opened(tmp_path / "here", f"path,label\n{tmp_path}/far.png,a\n{tmp_path}/here/0.png,b\n")
    assert images.names == (f"{tmp_path}/far.png", "0.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found no line; wanted a header with one column 'path'"),
        ("0.png,dog\n", "found no column 'path' in the first line, whose columns are '0.png', 'dog'; wanted"),
        ("path,class\n0.png,dog\n", "found no column 'label' in the first line, whose columns are 'path', 'class'"),
        ("path,label,label\n0.png,dog,cat\n", "found 2 columns 'label'"),
        ("path,label\n0.png,dog\n1.png\n", "line 3: found 1 fields; wanted 2"),
        ("path,label\n0.png,hot, dog\n", "line 2: found 3 fields"),
        ("path,label\n0.png,dog\n1.png, \n", "line 3: found '' as label"),
        ("path,label\n,dog\n", "line 2: found '' as path"),
        ('path,label\n0.png,"a\nb"\n', r"line 3: found 'a\\nb' as label"),
        ("path,label\n0.png\0,dog\n", r"line 2: found '0.png\\x00' as path"),
        ("path,label\n0.png,a\n1.png,b\n./in/../0.png,b\n", "line 4: found './in/../0.png' for the second time"),
        ("path,label\n../0.png,dog\n", "line 2: found '../0.png', which leaves the table's folder"),
        ("path,label\nin/../../0.png,dog\n", "leaves the table's folder"),
        ('path,label\n0.png,"dog\n', "line .: found no CSV"),
        ("path,label\n" + "x" * (1 << 17) + ",dog\n", r"found no CSV \(field larger than field limit"),
        (b"path,label\n0.png,caf\xe9\n", "bytes that are not UTF-8"),
        ("path,label\n", "found 0 of 0 images"),
    ],
)  # fmt: skip
def test_what_a_table_must_not_say(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(tmp_path, text)


def test_one_image_in_two_spellings_is_there_twice(tmp_path: Path) -> None:
    text = f"path,label\n0.png,a\n{tmp_path}/0.png,b\n"
    message = r"0.png' for the second time, as 'b', after line 2, as 'a'; .* several classes, give --task.multi-label"
    with pytest.raises(InputError, match=message):
        opened(tmp_path, text)
    assert opened(tmp_path, text, multi_label=True).names == ("0.png",)


def test_rows_of_an_image_are_joined_where_images_have_several_classes(tmp_path: Path) -> None:
    text = "path,label\n0.png,dog\n1.png,\n2.png,cat\n0.png,cat\ngone.png,cow\n2.png,cat\n0.png,\n"
    images = opened(tmp_path, text, multi_label=True, bad=0.3)
    assert images.multi_label
    assert (images.names, images.labels) == (("0.png", "1.png", "2.png"), ("cat", "cow", "dog"))
    assert (images.offsets.tolist(), images.classes.tolist()) == ([0, 2, 2, 3], [0, 2, 0])
    assert images.rows.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="line 2: found '' as path"):
        opened(tmp_path, "path,label\n,\n", multi_label=True)


def test_missing_files_are_counted_and_bounded(tmp_path: Path) -> None:
    text = "path,label\n0.png,a\ngone.png,b\n1.png,c\n"
    with pytest.raises(InputError, match=r"found 2 of 3 images that can be used \(1 missing; for example gone.png\)"):
        opened(tmp_path, text)
    images = opened(tmp_path, text, bad=0.4)
    assert images.labels == ("a", "b", "c")
    assert images.one_class.tolist() == [0, 2]
    assert [(bad.key, bad.reason) for bad in images.skipped] == [("gone.png", "missing")]


def test_a_table_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        open_csv_table(tmp_path / "none.csv", columns=("path", "label"), max_bad_share=0.1)
