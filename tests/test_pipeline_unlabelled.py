"""A job that labels nothing, or next to nothing, says so, shows why, and leaves room for the corrected command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Label
from pipeline.run import label_captions
from vocab.errors import InputError
from vocab.label_shards import LabelShards
from vocab.manifest import Manifest


def run(spark: Any, folder: Path, **options: Any) -> Manifest:
    return label_captions(spark, Label((str(folder / "in"),), str(folder / "labels"), **options))


def write(folder: Path, name: str, *captions: str) -> None:
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in" / name).write_text(
        "".join(f"{caption}\thttp://x.example/{i}\n" for i, caption in enumerate(captions))
    )


ADDRESSES = [f"http://x.example/img/{i}.jpg?s=1" for i in range(100)]


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        (
            ADDRESSES[:2],
            r"a\.tsv: found 0 of 2 rows with a label; web addresses.*: 'http://x.example/img/0.jpg.*--columns",
        ),
        (["www.x.org/b", "train/00017.JPG", "s3://b/c.png"], "3 rows with a label; web addresses or names of files"),
        (["狗在沙发上", "一只猫", "дом"], "captions are: '狗在沙发上', '一只猫', 'дом'; wanted English captions"),
        (["0", "\x1b[31m17"], r"captions are: '0', '\\x1b\[31m17'"),
        (["", " "], "2 rows with a label; the captions are: without a letter"),
        # On real web addresses one in some thousand gets a label.
        ([*ADDRESSES, "a dog"], "1 of 101 rows with a label; web addresses"),
    ],
)
def test_a_job_that_labels_nothing_is_an_error_that_shows_captions(
    spark: Any, tmp_path: Path, captions: list[str], message: str
) -> None:
    write(tmp_path, "a.tsv", *captions)
    with pytest.raises(InputError, match=message):
        run(spark, tmp_path, columns=("caption", "url"))
    assert not (tmp_path / "labels").exists()
    manifest = run(spark, tmp_path, columns=("caption", "url"), allow_unlabelled=True)
    assert manifest.rows == len(captions) == manifest.labelled + manifest.empty


def test_an_extension_that_labels_nothing_leaves_the_directory_as_it_was(spark: Any, tmp_path: Path) -> None:
    write(tmp_path, "a.tsv", "a dog")
    run(spark, tmp_path, columns=("caption", "url"))
    write(tmp_path, "b.tsv", *ADDRESSES[:2])
    before = {path.name for path in (tmp_path / "labels").iterdir()}
    with pytest.raises(InputError, match=r"b\.tsv: found 0 of 2 rows with a label; web addresses"):
        run(spark, tmp_path, columns=("caption", "url"), extend=True)
    assert {path.name for path in (tmp_path / "labels").iterdir()} == before
    write(tmp_path, "b.tsv", "a cat")
    assert run(spark, tmp_path, columns=("caption", "url"), extend=True).labelled == 2
    write(tmp_path, "c.tsv", *ADDRESSES[:2])
    assert run(spark, tmp_path, columns=("caption", "url"), extend=True, allow_unlabelled=True).empty == 2
    assert LabelShards.open(tmp_path / "labels").manifest.labelled == 2


def test_next_to_nothing_is_noted(spark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a.tsv", "a dog", *["一只猫"] * 100)
    (tmp_path / "in" / "._a.tsv").write_text("")
    assert run(spark, tmp_path, columns=("caption", "url")).labelled == 1
    said = capsys.readouterr().err
    assert "labels  1 of 101 rows with a label; the captions are: 'a dog', '一只猫'. Check --format" in said
    assert "labels  1 tsv file; keys: numbers of the rows\n" in said
    assert "labels  left out as hidden, unfinished or of an ending that is not read: 1, such as " in said
