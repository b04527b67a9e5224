"""Bad samples and bad steps of a run, by name.

bad_samples.jsonl    a line for each bad sample of the first epoch; later epochs meet the same ones
    {"shard": "00017", "key": "000170042", "reason": "decompression_bomb", "own_sha256": "..."}
spikes.jsonl         a line for each bad step; null stands for NaN and infinity
    {"step": 7, "loss": null, "grad_norm": null, "policy": "skip", "samples": ["00017/000170042", ...]}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from trainer.data.batch import Skipped
from trainer.step.metrics import StepMetrics
from vocab.errors import FormatError
from vocab.pages.text import tell
from vocab.store.files import named
from vocab.store.sealing import from_sealed_json, to_sealed_json

FILE, SPIKES = "bad_samples.jsonl", "spikes.jsonl"


def read_bad_samples(run: Path) -> list[Skipped]:
    """Read the samples in a run's list of bad samples. Raises FormatError for a line that is damaged."""
    return [_skipped(f"{run / FILE}, line {number}", text) for number, text in enumerate(_lines(run / FILE), 1)]


class Ledger:
    """The list of a run's bad samples."""

    def __init__(self, run: Path, *, lines: int = 0) -> None:
        """`lines`: number of them at a resumed run's checkpoint; later ones are dropped, for they come again."""
        self.path = run / FILE
        self.lines = lines
        kept = _lines(self.path)[:lines] if lines else []
        if len(kept) < lines:
            tell(f"warning: {self.path} has {len(kept):,} of the {lines:,} lines that the run wrote\n")
        self.path.write_bytes(b"".join(kept))

    def add(self, skipped: Iterable[Skipped]) -> None:
        with named(self.path), self.path.open("a") as file:
            for bad in skipped:
                file.write(to_sealed_json(asdict(bad)))
                self.lines += 1


def append_spike(run: Path, metrics: StepMetrics, samples: Sequence[str], *, policy: str) -> None:
    """Append a line about a bad step, given the names of its samples."""
    line = {
        "step": metrics.step,
        "loss": metrics.loss if math.isfinite(metrics.loss) else None,
        "grad_norm": metrics.norm if math.isfinite(metrics.norm) else None,
        "policy": policy,
        "samples": list(samples),
    }
    with named(run / SPIKES), (run / SPIKES).open("a") as file:
        file.write(json.dumps(line) + "\n")


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def _skipped(location: str, text: bytes) -> Skipped:
    try:
        return Skipped(**from_sealed_json(location, text))
    except (ValueError, TypeError) as error:
        raise FormatError(
            location,
            found=f"a line that is not a bad sample ({error})",
            wanted='{"shard": ..., "key": ..., "reason": ...}',
            remedy="Remove the line: the sample is then missing from the results.",
        ) from error
