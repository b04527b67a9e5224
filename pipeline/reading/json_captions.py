"""Captions in JSON: a record in each line (JSONL), COCO's documents, Karpathy's splits of them, and lists of records.

    {"caption": ["dogs", "a cat"], "uid": "7"}           JSONL; a caption field holds a text or a list of texts
    {"images": [{"id": 9, "file_name": "000000000009.jpg"}],
     "annotations": [{"id": 1, "image_id": 9, "caption": "a dog"}]}                              key 000000000009
    {"images": [{"cocoid": 9, "filename": "9.jpg", "sentences": [{"raw": "a dog"}]}]}            Karpathy's
    [{"image": "train2014/9.jpg", "caption": "a dog"}]                                           BLIP's; key train2014/9

A row of COCO has the fields of its annotation, then those of its image. Its key, unless a column is named, is the name
of the image as a tar of these images would have it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from pipeline.reading.key_text import text_of
from pipeline.reading.lines import Readable, decoded, numbered_lines
from pipeline.reading.nested import elements, value_at
from pipeline.reading.rows import BATCH_ROWS, KEY_DIGITS, CaptionRow, ReadOptions, batch_of_rows
from pipeline.reject_reasons import MALFORMED_RECORD, NOT_UTF8, UNLISTED_IMAGE
from vocab.store.tars import split_name

# All of a web address but its path. urlsplit refuses some addresses.
ADDRESS = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/]*|[?#].*$", re.DOTALL)
FILE_NAMES, ADDRESSES = ("file_name", "filename", "image"), ("coco_url", "url")


def read_jsonl(stream: Readable, path: str, first: int, reading: ReadOptions) -> Iterator[pa.RecordBatch]:
    """Rows of JSON records. Blank lines are not rows; a row's number is that of its line."""
    for number, lines in numbered_lines(stream, path, first):
        numbered = enumerate(lines.to_pylist(), start=number)
        if rows := [_row(*record_of(line), reading, f"{at:0{KEY_DIGITS}d}") for at, line in numbered if line.strip()]:
            yield batch_of_rows(rows, reading)


def record_of(line: bytes) -> tuple[dict[str, Any], str | None]:
    """Fields of the record in a line, or no fields and the reason."""
    if (text := decoded(line)) is None:
        return {}, NOT_UTF8
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return {}, MALFORMED_RECORD
    return (record, None) if isinstance(record, dict) else ({}, MALFORMED_RECORD)


def _row(fields: dict[str, Any], reason: str | None, reading: ReadOptions, own_key: str | None) -> CaptionRow:
    """Row of a record's fields. `reason`: reason to reject it, or None. `own_key`: key where no column names rows."""

    def texts(names: Sequence[str]) -> list[bytes]:
        return [text for name in names for text in caption_texts(value_at(fields, name))]

    key, no_key = text_of(value_at(fields, reading.key)) if reading.key else (own_key, None)
    shard, no_shard = text_of(value_at(fields, reading.shard)) if reading.shard else (None, None)
    if reason is not None:
        key, shard = "" if reading.key else key, ""
    return CaptionRow(key, texts(reading.captions), texts(reading.synsets), shard, reason or no_key or no_shard)


def caption_texts(value: object) -> list[bytes]:
    """Captions in a field of a JSON record: a text, or the texts of a list, however deep."""
    if isinstance(value, str):
        return [value.encode("utf-8", "surrogatepass")]
    # A lone surrogate, which JSON can escape, is not UTF-8: `labels.label_lists` rejects it.
    return [text.encode("utf-8", "surrogatepass") for text in elements(value) if isinstance(text, str)]


def read_coco(stream: Readable, reading: ReadOptions) -> Iterator[pa.RecordBatch]:
    """Rows of one COCO file. Raises OSError for a file that is not such JSON."""
    records = records_of(stream)
    while some := list(islice(records, BATCH_ROWS)):
        yield batch_of_rows(
            [_row(*record, reading, None if reading.key else key_of(record[0])) for record in some], reading
        )


def records_of(stream: Readable) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Fields of each row, and the reason to reject it, or None. Raises what `read_coco` raises."""
    try:
        content = json.loads(b"".join(iter(lambda: stream.read(1 << 22), b"")))
    except (ValueError, RecursionError) as error:
        raise OSError(f"no JSON ({error})") from error
    if isinstance(content, list):
        yield from ((item, None) if isinstance(item, dict) else ({}, MALFORMED_RECORD) for item in content)
        return
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise OSError('JSON without a list "images", where COCO\'s captions are wanted')
    listed = [image for image in images if isinstance(image, dict)]
    annotations = content.get("annotations")
    if not isinstance(annotations, list):
        yield from ((_with_sentences(image), None) for image in listed)
        return
    by_id = {number: image for image in listed if (number := text_of(image.get("id"))[0]) is not None}
    for annotation in annotations:
        if not isinstance(annotation, dict):
            yield {}, MALFORMED_RECORD
            continue
        image = by_id.get(text_of(annotation.get("image_id"))[0] or "")
        yield {**(image or {}), **annotation}, UNLISTED_IMAGE if image is None else None


def _with_sentences(image: dict[str, Any]) -> dict[str, Any]:
    """Fields of an image that holds its own captions, also under COCO's names."""
    sentences = image.get("sentences")
    raw = None
    if isinstance(sentences, list):
        raw = [sentence.get("raw") for sentence in sentences if isinstance(sentence, dict)]
    named = {"image_id": image.get("cocoid", image.get("imgid")), "file_name": image.get("filename"), "caption": raw}
    return {**{name: value for name, value in named.items() if value is not None}, **image}


def key_of(fields: dict[str, Any]) -> str | None:
    """Key of the row's image in a tar of these images: from its name, else its number."""
    name = _first_text(fields, FILE_NAMES)
    if name is None and (address := _first_text(fields, ADDRESSES)) is not None:
        name = unquote(ADDRESS.sub("", address)).rpartition("/")[2]
    return text_of(fields.get("image_id"))[0] if name is None else text_of(split_name(name)[0])[0]


def _first_text(fields: dict[str, Any], names: Sequence[str]) -> str | None:
    return next((value for name in names if isinstance(value := fields.get(name), str) and value), None)
