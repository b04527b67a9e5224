"""The captions of six corpora as lists of strings: what the label benchmarks read.

In: captions/ of the folder with real data (CATLIP_DATA). Out: name -> texts, in the files' order. Nulls and blank texts
are left out; a list of texts in one field counts as several texts.

    {"cc3m": ["author : a life in photography -- in pictures", ...], "web": [...], "coco": [...], ...}
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pyarrow.parquet as pq

from vocab.errors import FormatError, InputError

Item = TypeVar("Item")
SHORT_WORDS = 30
"""captions of at most this many words are short ones: what a pair of image and caption usually has"""


def read_sources(data: Path) -> dict[str, list[str]]:
    """Texts of each corpus. Raises InputError for a missing folder or file, FormatError for one of another kind."""
    folder = data / "captions"
    if not folder.is_dir():
        raise InputError(
            folder,
            found="no such folder",
            wanted="a folder with the captions of the corpora",
            remedy="Set CATLIP_DATA, or pass --data, to the folder that holds captions/.",
        )
    sources = {
        "cc3m": read_tsv(there(folder / "cc3m_validation.tsv")),
        "web": pq.read_table(there(folder / "img2dataset_test_10000.parquet"), columns=["TEXT"])["TEXT"].to_pylist(),
        "coco": read_json_lines(there(folder / "coco_val2017_captions.jsonl.gz"), "caption"),
        "wikipedia": read_json_lines(there(folder / "concadia_test.jsonl.gz"), "caption", "description"),
        "government": read_json_lines(there(folder / "digitalgov_alt_cc0.jsonl"), "alt"),
        "paragraphs": read_json_lines(there(folder / "imageinwords.jsonl.gz"), "caption"),
    }
    return {name: list(texts_in(fields)) for name, fields in sources.items()}


def there(file: Path) -> Path:
    """The file itself. Raises InputError if there is none."""
    if not file.is_file():
        raise InputError(
            file,
            found="no such file",
            wanted="one of the six corpora",
            remedy="Set CATLIP_DATA, or pass --data, to the folder that holds captions/ with all of them.",
        )
    return file


def read_tsv(file: Path) -> list[str]:
    """First column of each line: `a dog on a couch<TAB>https://...`."""
    with file.open(encoding="utf-8", newline="\n") as lines:
        return [line.rstrip("\r\n").split("\t", 1)[0] for line in lines]


def read_json_lines(file: Path, *columns: str) -> list[object]:
    """Fields under the named keys, {"caption": "A dog"}, of a file of JSON lines, gzipped or not."""
    fields: list[object] = []
    with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            row = json.loads(line)
            missing = [column for column in columns if column not in row]
            if missing:
                raise FormatError(
                    f"{file}:{number}",
                    found=f"keys {', '.join(row)}",
                    wanted=f"keys {', '.join(columns)}",
                    remedy="Take the corpus's file as the data folder's README.md describes it.",
                )
            fields.extend(row[column] for column in columns)
    return fields


def texts_in(fields: Iterable[object]) -> Iterator[str]:
    """The texts of fields that hold a text, null, or a list of such fields: ["a", null, ["b", " "]] -> "a", "b"."""
    for field in fields:
        if isinstance(field, str):
            if field.strip():
                yield field
        elif isinstance(field, list):
            yield from texts_in(field)
        elif field is not None:
            raise FormatError("a caption", found=repr(field), wanted="a text, a list of texts or null", remedy="")


def word_count(text: str) -> int:
    """Words of a text, parted by white space."""
    return len(text.split())


def is_short(text: str) -> bool:
    """Tell whether a text has at most `SHORT_WORDS` words."""
    return word_count(text) <= SHORT_WORDS


def evenly(items: list[Item], count: int) -> list[Item]:
    """`count` items at equal distances, or all where there are fewer: no chance is involved."""
    return items if len(items) <= count else [items[i * len(items) // count] for i in range(count)]
