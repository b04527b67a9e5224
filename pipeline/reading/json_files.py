"""Files called .json: JSON lines, COCO's captions, or a document of another kind.

In: paths. Out: the format, and the files that have it.

    {"caption": "a dog"}                                          jsonl: the first line is a record
    {"images": [...], "annotations": [{"caption": "a dog"}]}      coco, whatever its line ends
    [{"caption": "a dog"}, {"caption": "a cat"}]                  another document: refused
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import BinaryIO, Literal

from pipeline.reading.stored_formats import StoredFormat
from vocab.errors import InputError
from vocab.store.files import filesystem_of

HEAD = 1 << 20
LONGEST_MARK = 64
ONE_DOCUMENT = "one JSON document, not JSON lines"
HOW_TO_WRITE_LINES = (
    "Write one record a line, as with: jq -c '.[]' x.json > x.jsonl. COCO's captions are read with --format coco."
)
_MARKS = (rb'"images"\s*:', rb'"(annotations|sentences)"\s*:', rb'"(caption|raw)"\s*:')


def told_json(paths: Sequence[str]) -> tuple[Literal["jsonl", "coco"], list[str]]:
    """Tell the format by the first file that can be read; of COCO's, the files that hold captions.

    Raises InputError where the first file is a document of another kind and none holds COCO's captions.
    """
    kinds: dict[str, StoredFormat | None] = {}
    for path in paths:
        try:
            kinds[path] = _kind_of(path)
        except OSError:
            # For its task to name.
            continue
        if kinds[path] == "jsonl" and "coco" not in kinds.values():
            return "jsonl", list(paths)
    if captions := [path for path, kind in kinds.items() if kind == "coco"]:
        return "coco", captions
    raise InputError(
        next(iter(kinds), paths[0]),
        found=ONE_DOCUMENT if kinds else "a file that cannot be read",
        wanted="JSON lines, or COCO's images and annotations with captions",
        remedy=HOW_TO_WRITE_LINES,
    )


def _kind_of(path: str) -> StoredFormat | None:
    filesystem, inner = filesystem_of(path)
    # Decompresses .gz.
    with filesystem.open_input_stream(inner) as stream:
        head = stream.read(HEAD)
        first = head.removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n", 1)[0]
        try:
            record = json.loads(first)
        except (ValueError, RecursionError):
            record = None
        if first.startswith(b"{") and _holds_marks(head, stream):
            return "coco"
        return "jsonl" if isinstance(record, dict) and not {"images", "annotations"} <= set(record) else None


def _holds_marks(head: bytes, rest: BinaryIO) -> bool:
    """Tell a file that has all names that COCO's captions have, without parsing it: it may have a hundred megabytes.

    JSON lines are read to the end of their head, unless they have images too.
    """
    wanted = list(_MARKS)
    if re.search(_MARKS[0], head) is None and b"\n" in head:
        return False
    block = head
    while wanted and block:
        wanted = [mark for mark in wanted if re.search(mark, block) is None]
        more = rest.read(HEAD)
        block = block[-LONGEST_MARK:] + more if more else b""
    return not wanted
