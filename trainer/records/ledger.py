"""The account of what was not trained on: bad samples by name, everything else by number.

In: the accounts and skipped samples that batches carry. Out: bad_samples.jsonl, one line for each bad sample of the
first epoch (later epochs meet the same ones), and totals of all epochs.

    {"shard": "00017", "key": "000170042", "reason": "decompression_bomb"}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from trainer.data.batch import Skipped
from vocab.storage import named

FILE = "bad_samples.jsonl"
TOTALS = ("samples", "bad", "unmatched", "unlabelled", "surplus_labels")


def read_bad_samples(run: Path) -> list[Skipped]:
    """What a run's list of bad samples names."""
    return [Skipped(**json.loads(line)) for line in (run / FILE).read_text().splitlines()]


class Ledger:
    """Totals of a run, and its list of bad samples."""

    def __init__(self, run: Path, *, totals: Mapping[str, int] | None = None, lines: int = 0) -> None:
        """`totals` and `lines`: what the checkpoint of a resumed run holds; later lines are met again and dropped."""
        self.path = run / FILE
        self.totals: Counter[str] = Counter(dict.fromkeys(TOTALS, 0) | dict(totals or {}))
        self.lines = lines
        kept = self.path.read_text().splitlines(keepends=True)[:lines] if lines else []
        self.path.write_text("".join(kept))

    def add(self, accounts: Iterable[Mapping[str, int]], skipped: Iterable[Skipped]) -> None:
        """Count, and write down the bad samples."""
        for account in accounts:
            self.totals.update(account)
        with named(self.path), self.path.open("a") as file:
            for bad in skipped:
                file.write(json.dumps(asdict(bad)) + "\n")
                self.lines += 1
