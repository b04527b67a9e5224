"""manifest.json: what a label directory is, its labeler and inputs, and the account of every row.

    {"format": "catlip-label-shards", "version": 1,
     "labeler": {"name": "wordnet", "fingerprint": "..."}, "wordnet": "3.0", "config": {...},
     "inputs": [{"path": "...", "size": 3287040, "modified": "2026-01-31T12:00:00+00:00",
                 "rows": 422, "labelled": 371, "empty": 51, "rejected": 0}, ...],
     "files": [{"path": "part-00000.parquet", "rows": 422, "first_shard": "00000", "last_shard": "00000",
                "bytes": 8123, "sha256": "..."}, ...],
     "totals": {"rows": 422, "labelled": 371, "empty": 51, "rejected": 0},
     "digests": ["9f86d081...", ...],
     "empty_reasons": [{"other_language": 9, "no_noun": 40, "names_only": 2, "lexicon": 0}, ...],
     "own_sha256": "..."}

Inputs and totals have "merged" too where it is not 0 in all of them: releases that know no merged rows read the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vocab.empty_reasons import EmptyReason
from vocab.errors import FormatError
from vocab.store.field_types import require_types
from vocab.store.sealing import to_sealed_json, without_seal
from vocab.store.secrets import public, without_secrets

FORMAT = "catlip-label-shards"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
ACCOUNT = ("rows", "labelled", "empty", "rejected", "merged")
"""the first is the sum of the others"""
EMPTY_REASONS = tuple(reason.name.lower() for reason in EmptyReason)
"""why rows are empty: fields of an input file's account"""


@dataclass(frozen=True)
class LabelFile:
    """One data file of the directory."""

    path: str
    """name inside the directory"""
    rows: int
    first_shard: str | None
    """least shard in the file; None for counts.parquet and for a file without rows"""
    last_shard: str | None
    bytes: int
    sha256: str


@dataclass(frozen=True)
class InputFile:
    """One input file, and what became of its rows."""

    path: str
    """location by which this process reads the file; files on disk hold `public_path`"""
    size: int
    modified: str
    """modification time, ISO 8601, or an object store's etag"""
    rows: int = 0
    labelled: int = 0
    empty: int = 0
    rejected: int = 0
    merged: int = 0
    """rows joined to another row of their (shard, key)"""
    unreadable: str = ""
    """why the file could not be read, or not to its end; "" where it was read whole"""
    other_language: int = 0
    """rows without a label, as they were read, by `EmptyReason`; all 0 where the reasons are not known"""
    no_noun: int = 0
    names_only: int = 0
    lexicon: int = 0
    digest: str = ""
    """digest of its rows as they were read (`pipeline.reading.row_digest`); "" where it is not known"""

    @property
    def public_path(self) -> str:
        """Path without the secrets of its URI: files of equal ones are the same, whatever key they are read with."""
        return without_secrets(self.path)

    @property
    def state(self) -> tuple[str, int, str]:
        """Path, size and time as the file was found: files of equal states hold the same bytes."""
        return self.public_path, self.size, self.modified


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json."""

    labeler: str
    labeler_fingerprint: str
    wordnet: str
    files: tuple[LabelFile, ...]
    rows: int
    """rows read = labelled + empty + rejected + merged"""
    labelled: int
    """rows with at least one synset"""
    empty: int
    """rows whose caption holds no noun"""
    rejected: int
    """rows that could not be labelled; they stand in rejects.parquet and in no part file"""
    merged: int = 0
    """rows joined to another row of their (shard, key)"""
    inputs: tuple[InputFile, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    """resolved options of the job"""

    @property
    def parts(self) -> list[LabelFile]:
        """The part files, in order."""
        return [file for file in self.files if file.path.startswith("part-")]

    @property
    def empty_reasons(self) -> dict[EmptyReason, int]:
        """Rows of all input files that got no label, by reason; without reasons that no row has.

        Of labels made with --same-key union, rows are counted as they were read, before they were joined.
        """
        return empty_reasons_of(self.inputs)

    def to_json(self) -> str:
        """The text of manifest.json. Raises FormatError if the rows do not add up."""
        self._check_account(MANIFEST)
        content = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "labeler": {"name": self.labeler, "fingerprint": self.labeler_fingerprint},
            "wordnet": self.wordnet,
            "config": public(self.config),
            "inputs": [self._without_unknown(public(asdict(file))) for file in self.inputs],
            "files": [asdict(file) for file in self.files],
            "totals": self._without_unknown({total: getattr(self, total) for total in ACCOUNT}),
        }
        if any(digests := [file.digest for file in self.inputs]):
            content["digests"] = digests
        if self.empty_reasons:
            content["empty_reasons"] = [{name: getattr(file, name) for name in EMPTY_REASONS} for file in self.inputs]
        return to_sealed_json(content, indent=1, ensure_ascii=False)

    def _without_unknown(self, account: dict[str, Any]) -> dict[str, Any]:
        """Leave out fields that earlier releases refuse."""
        left_out = {"digest", *EMPTY_REASONS, *(() if self.merged else ("merged",))}
        return {name: value for name, value in account.items() if name not in left_out}

    def _check_account(self, location: str) -> None:
        """Raise FormatError if the rows of an input file, or those of all, do not add up."""
        accounts: list[tuple[str, Manifest | InputFile]] = [(file.path, file) for file in self.inputs]
        for thing, account in [*accounts, ("totals", self)]:
            rows, *kinds = (getattr(account, name) for name in ACCOUNT)
            if rows != sum(kinds) or min(kinds) < 0:
                raise FormatError(
                    f"{location}, {thing}",
                    found=f"{account.rows:,} rows in, {account.labelled:,} labelled + {account.empty:,} empty + "
                    f"{account.rejected:,} rejected + {account.merged:,} merged out",
                    wanted="as many out as in",
                    remedy="Rows were lost or counted twice; do not use this output, and please report it.",
                )

    @classmethod
    def from_json(cls, location: str, text: str) -> Manifest:
        """Parse manifest.json.

        Raises FormatError for any other file, a newer version, a wrong checksum of its own or rows that do not add up.
        """
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise _wrong(location, f"format {content['format']!r}")
            if content["version"] > FORMAT_VERSION:
                raise _wrong(location, f"format version {content['version']}, written by a newer release")
            content = without_seal(location, content)
            manifest = cls(
                labeler=content["labeler"]["name"],
                labeler_fingerprint=content["labeler"]["fingerprint"],
                wordnet=content["wordnet"],
                config=content["config"],
                inputs=tuple(
                    InputFile(**file, digest=digest, **{name: reasons.get(name, 0) for name in EMPTY_REASONS})
                    for file, digest, reasons in zip(
                        content["inputs"],
                        content.get("digests", [""] * len(content["inputs"])),
                        content.get("empty_reasons", [{}] * len(content["inputs"])),
                        strict=True,
                    )
                ),
                files=tuple(LabelFile(**file) for file in content["files"]),
                **content["totals"],
            )
            for part in (manifest, *manifest.inputs, *manifest.files):
                require_types(part)
            manifest._check_account(location)
            for file in manifest.files:
                if file.path != Path(file.path).name or not file.path.endswith(".parquet"):
                    raise _wrong(location, f"a file outside the directory: {file.path!r}")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _wrong(location, f"unreadable content ({error!r})") from error
        return manifest


def empty_reasons_of(inputs: Iterable[InputFile]) -> dict[EmptyReason, int]:
    """Rows without a label of some input files, by reason; without reasons that no row has."""
    files = tuple(inputs)
    counts = {reason: sum(getattr(file, reason.name.lower()) for file in files) for reason in EmptyReason}
    return {reason: count for reason, count in counts.items() if count}


def _wrong(location: str, found: str) -> FormatError:
    return FormatError(
        location,
        found=found,
        wanted=f"{FORMAT}, version {FORMAT_VERSION} or older",
        remedy="Install a release that reads it, or make the labels again.",
    )
