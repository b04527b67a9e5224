"""One number that came out of one method on one task: a cell of the results table, and how it is kept in files.

In: what a verb measured. Out: `Record`; results.json, which holds records and the tables made of them; and back.

    {"format": "catlip-transfer-results", "version": 1, "model": "runs/b16",
     "records": [{"task": "imagenet", "method": "probe", "init": "random", "percent": 1.0, "seed": 0, "metric": "top1",
                  "value": 0.1618, "images": 50000, "seconds": 61.2, "extra": {"top5": 0.35}}, ...],
     "table": [...], "differences": [...], "own_sha256": "..."}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_type_hints

from vocab.errors import FormatError
from vocab.store.field_types import is_of, name_of
from vocab.store.sealing import from_sealed_json

Method = Literal["probe", "knn", "finetune", "zeroshot"]

FORMAT, VERSION = "catlip-transfer-results", 1
NO_INIT: Literal["none"] = "none"
"""init of a method that trains nothing"""
CORRECT = "correct"
"""entry of `extra` with a "1" or a "0" for each test image: whether it was told right"""

NOTES = "notes"
"""entry of `extra` with what whoever reads the number should know, a list of sentences"""


class Key(NamedTuple):
    """What a record is the result of. No two records of a suite have one key."""

    task: str
    method: Method
    init: str
    percent: float
    seed: int


@dataclass(frozen=True)
class Record:
    """A measurement: of one method, from one beginning, on one share of the training images, by one seed."""

    task: str
    method: Literal["probe", "knn", "finetune", "zeroshot"]
    init: str
    """random or transfer; none where nothing is trained"""
    percent: float
    """of the training images; 0 where none are used"""
    seed: int
    metric: str
    """top1, or map_macro where an image shows any number of classes"""
    value: float
    """a share, 0 to 1"""
    images: int
    """that it was measured on"""
    seconds: float
    extra: Mapping[str, Any]
    """what else is to be kept: other metrics, settings; `notes`; `correct`, "1" or "0" for each test image in order"""

    @property
    def key(self) -> Key:
        """What it is the result of."""
        return Key(self.task, self.method, self.init, self.percent, self.seed)


def as_json(record: Record) -> dict[str, Any]:
    """A record as files hold it."""
    return {**asdict(record), "extra": dict(record.extra)}


def of_json(value: object, *, source: object) -> Record:
    """A record as files hold it, read from `source`. Raises FormatError for anything else."""
    hints = get_type_hints(Record)
    if not isinstance(value, dict) or value.keys() != hints.keys():
        raise _broken(source, f"a record with {', '.join(map(str, value))}" if isinstance(value, dict) else repr(value))
    for name, hint in hints.items():
        sound = isinstance(value[name], dict) if name == "extra" else is_of(value[name], hint)
        if not sound or (isinstance(value[name], float) and not math.isfinite(value[name])):
            raise _broken(source, f"a record with {name}={value[name]!r}, which is no {name_of(hint)}")
    return Record(**{**value, "percent": float(value["percent"])})


def read_records(path: Path) -> list[Record]:
    """The records of a results.json. Raises FormatError for a file that is none, or one of a newer version."""
    try:
        content = from_sealed_json(path, path.read_bytes())
    except (OSError, ValueError) as error:
        raise _broken(path, f"no readable file ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("records"), list):
        raise _broken(path, "something else")
    check_version(content.get("version"), source=path)
    return [of_json(value, source=path) for value in content["records"]]


def check_version(found: object, *, source: object) -> None:
    """Raise FormatError for another version of the format than this one."""
    if type(found) is not int or found != VERSION:
        raise FormatError(
            source,
            found=f"version {found!r}",
            wanted=f"version {VERSION}",
            remedy="Read it with the release that wrote it.",
        )


def _broken(source: object, found: str) -> FormatError:
    return FormatError(
        source,
        found=found,
        wanted="records of results, as `python -m trainer transfer` writes them",
        remedy="Copy the file again, or measure again into another --out.",
    )
