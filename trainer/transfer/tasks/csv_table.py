"""A table of paths and labels: one image a row, or one class of an image.

    path,label                        a header; which columns count is said by name, others are not looked at
    images/0001.jpg,golden retriever  relative to the table's folder, and below it
    /data/birds/17.png,crow           or absolute, wherever that is: the table is yours

Where images have any number of classes, the rows of one image are joined, and a row without a label shows none:

    images/0001.jpg,dog
    images/0001.jpg,person
    images/0002.jpg,

Classes are numbered by their labels in ascending order; as numbers if every label is a whole number.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trainer.data.labelled_images import LabelledImages
from trainer.transfer.tasks.files import NO_TEXT, open_files
from trainer.transfer.tasks.numbering import in_order
from vocab.errors import InputError
from vocab.pages.text import listed

LONGEST_FIELD = 1 << 16
"""characters; the file system's longest path is 4,096"""


def open_csv_table(
    table: Path, *, columns: tuple[str, str], max_bad_share: float, multi_label: bool = False
) -> LabelledImages:
    """Open the images of a table.

    `columns`: names of the columns with the path and with the label. `multi_label`: join the rows of an image, at the
    position of the first.

    Left out and named in `skipped`: what `files.look_up` refuses.

    Raises InputError, with the line, for a table without these columns, a row of another length than the header, an
    empty path or label, a path that leaves the table's folder without being absolute, and, unless `multi_label`, a
    repeated path; and if more than `max_bad_share` of the images are bad or none is left.
    """
    root = os.path.abspath(table.parent)  # noqa: PTH100 - resolve() would follow links
    lines: dict[str, int] = {}
    labels: dict[str, set[str]] = {}
    for line, path, label in _rows(table, columns, may_be_empty=multi_label):
        inside = _inside(table, line, path).removeprefix(f"{root}/")
        if (other := lines.setdefault(inside, line)) != line and not multi_label:
            raise InputError(
                f"{table}, line {line}",
                found=f"{path!r} for the second time, as {label!r}, after line {other}, as {labels[inside].pop()!r}",
                wanted="an image in one row",
                remedy="Leave one of the rows out; or, where an image may show several classes, give "
                "--task.multi-label.",
            )
        labels.setdefault(inside, set()).update([label] if label else [])
    ordered = in_order({label for each in labels.values() for label in each})
    numbers = {label: number for number, label in enumerate(ordered)}
    classes = [sorted(numbers[label] for label in each) for each in labels.values()]
    return open_files(
        root,
        list(lines),
        np.cumsum([0, *map(len, classes)]).astype(np.int64),
        np.array([number for each in classes for number in each], np.int64),
        ordered,
        what=str(table),
        max_bad_share=max_bad_share,
        multi_label=multi_label,
    )


def _rows(table: Path, columns: tuple[str, str], *, may_be_empty: bool) -> Iterator[tuple[int, str, str]]:
    """Yield line, path and label of each row. `may_be_empty`: the label."""
    csv.field_size_limit(LONGEST_FIELD)
    delimiter = "\t" if table.suffix.lower() == ".tsv" else ","
    line = 0
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader, [])]
            path_at, label_at = (_column(table, header, name) for name in columns)
            for row in reader:
                line = reader.line_num
                if not row:
                    continue
                if len(row) != len(header):
                    wanted = f"{len(header)}, as in the header; fields with a {delimiter!r} in quotes"
                    raise _refused(table, line, f"{len(row)} fields", wanted)
                path, label = row[path_at].strip(), row[label_at].strip()
                for name, field, wanted_text in zip(columns, (path, label), (True, not may_be_empty), strict=True):
                    if (wanted_text and not field) or NO_TEXT.search(field):
                        wanted = f"a {name} in every row, without control characters"
                        raise _refused(table, line, f"{field!r:.80} as {name}", wanted)
                yield line, path, label
    except OSError as error:
        raise InputError(
            table, found=f"{error.strerror}", wanted="a table of path and label", remedy="Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise _refused(
            table, line + 1, f"bytes that are not UTF-8, there or soon after ({error.reason})", "UTF-8"
        ) from error
    except csv.Error as error:
        raise _refused(table, line + 1, f"no CSV ({error})", "rows of fields, quotes closed") from error


def _column(table: Path, header: list[str], name: str) -> int:
    if header.count(name) == 1:
        return header.index(name)
    columns = f"in the first line, whose columns are {listed(list(map(repr, header)))}"
    count = f"{header.count(name)} columns" if name in header else "no column"
    raise InputError(
        table,
        found=f"{count} {name!r} {columns}" if header else "no line",
        wanted=f"a header with one column {name!r}",
        remedy="Name the columns of path and label, --task.csv-columns PATH LABEL, or add a header.",
    )


def _inside(table: Path, line: int, path: str) -> str:
    """Spell a path in one way: relative to the table's folder, or absolute."""
    plain = os.path.normpath(path)
    if plain == ".." or plain.startswith("../"):
        wanted = "a path below the table's folder, or an absolute one"
        raise _refused(table, line, f"{path!r}, which leaves the table's folder", wanted)
    return plain


def _refused(table: Path, line: int, found: str, wanted: str) -> InputError:
    return InputError(f"{table}, line {line}", found=found, wanted=wanted, remedy="Correct the table.")
