"""A job that labels nothing, or next to nothing, says so, shows why, and leaves room for the corrected command."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import Label
from pipeline.reading import dialects, lookahead
from pipeline.run import label_captions, look_before
from tests.captions import read_captions
from vocab.errors import InputError
from vocab.store.label_shards import LabelShards
from vocab.store.manifest import Manifest


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
        (
            ["狗在沙发上", "一只猫", "дом"],
            "'狗在沙发上', '一只猫', 'дом'; left empty: 3 in another language; wanted English.*label a translation",
        ),
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


def test_rows_that_are_rejected_are_counted_by_reason_where_they_are_most(spark: Any, tmp_path: Path) -> None:
    write(tmp_path, "a.tsv", *["a dog"] * 3)
    with (tmp_path / "in" / "a.tsv").open("a") as file:
        file.write("的\tu\tx\n")
    message = r"3 of 4 rows rejected \(3 rows malformed_record\); of the others 0 of 1 rows with a label.*--columns"
    with pytest.raises(InputError, match=message):
        run(spark, tmp_path, columns=("caption", "url", "extra"))


def test_keys_that_are_all_empty_name_the_option_of_the_keys(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tsv").write_text("caption\tid\ta\na dog\t\t\na cat\t\t\n")
    with pytest.raises(InputError, match=r"found 2 rows null_key; .*--key-column"):
        run(spark, tmp_path, key_column="id")
    with pytest.raises(InputError, match=r"found 2 rows null_shard; .*--shard-column"):
        run(spark, tmp_path, shard_column="id")


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
    assert (
        "labels  1 of 101 rows with a label; the captions are: 'a dog', '一只猫'; left empty: 100 in another language. "
        in said
    )
    assert "labels  1 tsv file; keys: numbers of the rows\n" in said
    assert "labels  left out as hidden, unfinished or of an ending that is not read: 1, such as " in said


def files_of(kind: str, *captioned: bool) -> dict[str, bytes]:
    """Files of a format, in order, with captions or with other columns."""
    files: dict[str, bytes] = {}
    for number, has_captions in enumerate(captioned):
        name = "caption" if has_captions else "text"
        buffer = io.BytesIO()
        if kind == "parquet":
            pq.write_table(pa.table({name: ["a dog"], "url": ["u"]}), buffer)
        elif kind.startswith("tar"):
            with tarfile.open(fileobj=buffer, mode="w:gz" if kind == "tar.gz" else "w") as tar:
                for extension in ("jpg", "txt" if has_captions else "cls"):
                    info = tarfile.TarInfo(f"a.{extension}")
                    info.size = 5
                    tar.addfile(info, io.BytesIO(b"a dog"))
        else:
            text = {"tsv": f"{name}\turl\na dog\tu\n", "csv": f"{name},url\na dog,u\n"}
            text |= dict.fromkeys(("jsonl", "json"), f'{{"{name}": "a dog", "url": "u"}}\n')
            buffer.write(text[kind].encode())
        files[f"{number:03d}.{kind}"] = buffer.getvalue()
    return files


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("parquet", "columns text, url; wanted a column 'caption'"),
        ("tsv", "columns text, url; wanted a column 'caption'"),
        ("csv", "columns text, url; wanted a column 'caption'"),
        ("jsonl", "fields text, url; wanted captions in caption"),
        ("json", "fields text, url; wanted captions in caption"),
        ("tar", "members jpg, cls; wanted captions in txt"),
        ("tar.gz", "members jpg, cls; wanted captions in txt"),
    ],
)
def test_input_without_captions_of_the_names_is_refused_before_a_job_and_one_file_of_many_is_not(
    tmp_path: Path, kind: str, found: str
) -> None:
    for name, content in files_of(kind, False, False).items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"000\.{kind}: found {found}"):
        look_before(Label((str(tmp_path),), str(tmp_path / "labels")))
    for name, content in files_of(kind, False, False, True).items():
        (tmp_path / name).write_bytes(content)
    look_before(Label((str(tmp_path),), str(tmp_path / "labels")))
    captions = [(row["captions"], row["reason"]) for row in read_captions(tmp_path)]
    reason = None if "json" in kind else "no_caption"
    assert captions == [([], reason), ([], reason), ([b"a dog"], None)]


@pytest.mark.parametrize("kind", ["parquet", "tsv", "jsonl", "tar"])
def test_of_many_files_only_some_are_looked_at(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in files_of(kind, False, *[True] * 99).items():
        (tmp_path / name).write_bytes(content)
    opened: list[str] = []
    for module in (dialects, lookahead):
        for name in ("open_file", "open_stream"):
            real = getattr(module, name)
            monkeypatch.setattr(module, name, lambda place, real=real: opened.append(place) or real(place))
    look_before(Label((str(tmp_path),), str(tmp_path / "labels")))
    assert len({Path(place).name for place in opened}) == 2


@pytest.mark.parametrize(
    ("record", "names"),
    [
        ({"caption": None}, ()),
        ({"meta": {"caption": "a dog"}}, ("meta.caption",)),
        ({"sentences": [{}, {"raw": "a dog"}]}, ("sentences.raw",)),
        ({"alt": "a dog"}, ("caption", "alt")),
    ],
)
def test_a_field_that_any_record_has_is_enough(tmp_path: Path, record: dict[str, Any], names: tuple[str, ...]) -> None:
    (tmp_path / "a.jsonl").write_text('{"url": 1}\n' * 1000 + json.dumps(record))
    look_before(Label((str(tmp_path),), str(tmp_path / "labels"), caption_columns=names))
    with pytest.raises(InputError, match=r"a\.jsonl: found fields url, .*wanted captions in other"):
        look_before(Label((str(tmp_path),), str(tmp_path / "labels"), caption_columns=("other",)))


def test_a_json_document_is_no_json_lines(tmp_path: Path) -> None:
    for indent in (None, 1):
        (tmp_path / "a.jsonl").write_text(json.dumps([{"caption": "a dog"}, {"caption": "a cat"}], indent=indent))
        with pytest.raises(InputError, match=r"a\.jsonl: found one JSON document, not JSON lines.*jq -c"):
            look_before(Label((str(tmp_path),), str(tmp_path / "labels")))
