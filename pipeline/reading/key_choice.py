"""Keys of a job's samples: a column, or the number of a row where the input has no key of its own.

In: the input files, the options and how the files are to be read. Out: a line that says it, or an error.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.parquet as pq

from pipeline.config import Label
from pipeline.reading.caption_names import first_records
from pipeline.reading.inputs import Inputs
from pipeline.reading.rows import Reading
from pipeline.reading.sidecars import ERROR, KEY, STATUS, SUCCESS, has_sidecar_columns
from pipeline.reading.stored_formats import PARQUET
from vocab.errors import InputError
from vocab.store.files import BROKEN, filesystem_of

TEXT_FORMATS = ("tsv", "csv", "jsonl")
KEY_COLUMNS = ("key", "__key__")
"""names that WebDataset and its tools give to the key of a sample"""


def told(inputs: Inputs, reading: Reading) -> list[str]:
    """Say how the files are read: format, keys, and which files are left out although they look like captions."""
    own = {"webdataset": "the samples' own", "coco": "the images' names"}
    keys = f"keys: {own.get(inputs.format, 'numbers of the rows')}"
    if reading.key is not None:
        keys = f"keys: column {reading.key!r}"
    failed = "; failed downloads are rejected" if inputs.format == "img2dataset" else ""
    lines = [f"{len(inputs.files):,} {inputs.format} {'file' if len(inputs.files) == 1 else 'files'}; {keys}{failed}"]
    if inputs.left_out:
        count, example = f"{len(inputs.left_out):,}", inputs.left_out[0]
        lines.append(f"left out as hidden, unfinished or of an ending that is not read: {count}, such as {example}")
    return lines


def refuse_unused_key(reading: Reading, options: Label, inputs: Inputs) -> None:
    """Raise InputError where row numbers would be keys although the input plainly has keys of its own.

    A named --format says that they are wanted; but never of img2dataset's sidecars, which stand in no order.
    """
    names = reading.columns or _names_of_fields(inputs)
    where, is_auto = inputs.files[0].path, options.format == "auto"
    if inputs.format in TEXT_FORMATS and has_sidecar_columns(names) and (is_auto or options.key_column is None):
        raise InputError(
            where,
            found=f"img2dataset's columns {KEY}, {STATUS} and {ERROR} in a file of format {inputs.format}",
            wanted="the Parquet sidecars themselves, whose failed downloads are rejected",
            remedy=f"Give those; or leave out rows whose {STATUS} is not {SUCCESS!r}, and give "
            f"--format {inputs.format} --key-column {KEY}.",
        )
    # Warehouses write the names of columns in capitals.
    unused = [name for name in names if name.strip().casefold() in KEY_COLUMNS]
    if options.same_key == "union" and reading.key is None and inputs.format in ("parquet", *TEXT_FORMATS):
        raise InputError(
            "--same-key union",
            found="no --key-column: keys would be numbers of rows, which are of one row each",
            wanted="a column that names each row's image",
            remedy="Give --key-column, such as image or image_id.",
        )
    if unused and is_auto and options.key_column is None and inputs.format != "img2dataset":
        raise InputError(
            where,
            found=f"a column {unused[0]!r}, and no --key-column",
            wanted="an option that names the samples' keys",
            remedy=f"Give --key-column {unused[0]}; or --format {inputs.format}, to use row numbers as keys.",
        )


def _names_of_fields(inputs: Inputs) -> Sequence[str]:
    """Columns of the first Parquet file that can be read, or fields of the first JSON record; none of a tar.

    A broken file is for its task to name.
    """
    if inputs.format == "jsonl":
        try:
            return tuple(next(iter(first_records(inputs.files[0].path)), {}))
        except OSError:
            return ()
    for file in inputs.files if inputs.format in PARQUET else ():
        filesystem, path = filesystem_of(file.path)
        try:
            with filesystem.open_input_file(path) as stream:
                names: list[str] = pq.ParquetFile(stream).schema_arrow.names
                return names
        except BROKEN:
            continue
    return ()
