"""A job: one verb's training as values and functions, from which `run.py` makes a run.

In: what `pretrain.py` or `finetune.py` opened. Out: a `Job`, which knows neither verb's configuration by its type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int32

from trainer.config import OptimConfig
from trainer.data.batch import Batch, Position, Skipped
from trainer.data.resolution import Resolution
from trainer.options import Keeping
from trainer.records.gallery import GalleryImage
from trainer.speed.peak import Peaks

if TYPE_CHECKING:
    from trainer.records.journal import RunProgress

Numbers = Int32[np.ndarray, " batch"]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """One evaluation of the averaged weights, on the main rank."""

    scores: Mapping[str, float | int | None]
    """values of a line of the log, by name; those that begin with `SCORE` mark the step as evaluated"""
    result: Any
    """the evaluation itself, for the verb's own results"""
    shown: Mapping[str, str] = field(default_factory=dict)
    """values shown beside the progress"""


@dataclass(frozen=True, eq=False, kw_only=True)
class Job:
    """Training of one verb; the functions are called on every rank unless they say otherwise."""

    verb: str
    """name of the progress bar"""
    config: Any
    """dataclass of the verb's options, complete; written to config.json and sent to Weights & Biases"""
    out: Path
    """run directory"""
    optim: OptimConfig
    keeping: Keeping
    """how often to log and to save"""
    keep_every: int = 0
    """steps between checkpoints that are kept for good; 0 keeps none"""
    fingerprint: str
    """sha256 of what is learnt from; a checkpoint of another one is refused"""
    copied: Sequence[str]
    """files of the run directory that each checkpoint has too"""

    batches: AbstractContextManager[Iterable[Batch]]
    """this rank's batches from where the run stands, without end; a rollback goes on with the next one"""
    resolution: Resolution
    """shapes of the batches"""
    operations: Callable[[int, Batch], int]
    """floating-point operations of this rank's share of a step"""
    peaks: Peaks
    """operations per second of the rank's device"""
    data_state: Callable[[list[Position]], dict[str, Any]]
    """from the position of each rank, what a checkpoint keeps for `batches` to go on from"""
    sample_names: Callable[[Numbers, Numbers], list[str]]
    """names of samples by `tars` and `indices` of their batch; main rank"""
    account: Mapping[str, str]
    """counts of samples in the log: name there -> name in `Batch.account`"""
    check_account: Callable[[Counter[str], Sequence[Skipped], bool], None]
    """raises InputError if too many samples are bad: totals, bad samples since the last call, whether it is the last"""
    line: Callable[[int], Mapping[str, float]] = lambda step: {}
    """further values of a line of the log"""

    write_start: Callable[[], None]
    """write the verb's own files at the start, beside config.json; main rank"""
    evaluation_due: Callable[[int], bool]
    """tells whether an evaluation follows a step"""
    evaluate: Callable[[int], Evaluated | None]
    """score the weights as they are after a step; None on ranks other than the main one"""
    show: Callable[[Evaluated, RunProgress], Sequence[GalleryImage]]
    """write the page of an evaluation; return pictures for the log; main rank"""

    @property
    def steps(self) -> int:
        return self.optim.steps
