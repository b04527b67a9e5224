"""Steps that went wrong, with the samples they saw: spikes.jsonl.

In: a beat, and the samples of every rank at that step. Out: one line.

    {"step": 7, "loss": null, "grad_norm": null, "policy": "skip", "samples": ["00017/000170042", ...]}

null stands for what is no number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from trainer.data.source import Source
from trainer.step.pulse import Beat
from vocab.store.files import named

FILE = "spikes.jsonl"

Samples = tuple[Int32[np.ndarray, " batch"], Int32[np.ndarray, " batch"]]


def write_spike(run: Path, source: Source, beat: Beat, parts: Sequence[Samples], *, policy: str) -> None:
    """Append a line about a bad step; `parts`: tar and index of each image, by rank."""
    tars, indices = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    append_spike(run, beat, names(source, tars, indices), policy=policy)


def append_spike(run: Path, beat: Beat, samples: Sequence[str], *, policy: str) -> None:
    """Append a line about a bad step, given the names of its samples."""
    line = {
        "step": beat.step,
        "loss": beat.loss if math.isfinite(beat.loss) else None,
        "grad_norm": beat.norm if math.isfinite(beat.norm) else None,
        "policy": policy,
        "samples": list(samples),
    }
    with named(run / FILE), (run / FILE).open("a") as file:
        file.write(json.dumps(line) + "\n")


def names(source: Source, tars: Int32[np.ndarray, " batch"], indices: Int32[np.ndarray, " batch"]) -> list[str]:
    """shard/key of each image."""
    found = [""] * len(tars)
    for tar in np.unique(tars).tolist():
        file, table = source.open_tar(tar)
        file.close()
        keys = dict(zip(table.indices.tolist(), table.keys, strict=True))
        for place in np.flatnonzero(tars == tar).tolist():
            found[place] = f"{source.tars[tar].shard}/{keys[int(indices[place])]}"
    return found
