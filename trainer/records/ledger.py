"""The account of what was not trained on: bad samples by name, everything else by number.

In: the accounts and skipped samples that batches carry. Out: bad_samples.jsonl, one line for each bad sample of the
first epoch (later epochs meet the same ones), and totals of all epochs.

    {"shard": "00017", "key": "000170042", "reason": "decompression_bomb", "own_sha256": "..."}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from trainer.data.batch import Skipped
from vocab.errors import FormatError
from vocab.pages.text import tell
from vocab.store.files import named
from vocab.store.sealing import from_sealed_json, to_sealed_json

FILE = "bad_samples.jsonl"
TOTALS = ("samples", "bad", "unmatched", "unlabelled", "surplus_labels")


def read_bad_samples(run: Path) -> list[Skipped]:
    """The samples in a run's list of bad samples. Raises FormatError for a line that is damaged."""
    return [_skipped(f"{run / FILE}, line {number}", text) for number, text in enumerate(_lines(run / FILE), 1)]


class Ledger:
    """Totals of a run, and its list of bad samples."""

    def __init__(self, run: Path, *, totals: Mapping[str, int] | None = None, lines: int = 0) -> None:
        """`totals` and `lines`: what the checkpoint of a resumed run holds; later lines are met again and dropped."""
        self.path = run / FILE
        self.totals: Counter[str] = Counter(dict.fromkeys(TOTALS, 0) | dict(totals or {}))
        self.lines = lines
        kept = _lines(self.path)[:lines] if lines else []
        if len(kept) < lines:
            tell(f"warning: {self.path} has {len(kept):,} of the {lines:,} lines that the run wrote\n")
        self.path.write_bytes(b"".join(kept))

    def add(self, accounts: Iterable[Mapping[str, int]], skipped: Iterable[Skipped]) -> None:
        """Count, and write down the bad samples."""
        for account in accounts:
            self.totals.update(account)
        with named(self.path), self.path.open("a") as file:
            for bad in skipped:
                file.write(to_sealed_json(asdict(bad)))
                self.lines += 1


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def _skipped(place: str, text: bytes) -> Skipped:
    try:
        return Skipped(**from_sealed_json(place, text))
    except (ValueError, TypeError) as error:
        raise FormatError(
            place,
            found=f"a line that is not a bad sample ({error})",
            wanted='{"shard": ..., "key": ..., "reason": ...}',
            remedy="Remove the line: the sample is then missing from the results.",
        ) from error
