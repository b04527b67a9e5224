"""Evaluation of a model on held-out images: their logits, and the average precision of every class.

In: an objective and a source of held-out tars. Out: `Evaluation` on the main rank, in the order of tars and samples,
whatever the number of ranks and workers.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from trainer.data.batch import Skipped
from trainer.data.feed import Feed, check_bad_share, examples_of
from trainer.data.resolution import FixedResolution
from trainer.data.source import Source
from trainer.distributed import Rank, exact_device, gather_on_main
from trainer.metrics import HeldOutScores, mean_average_precision
from trainer.model.objective import Objective, evaluating
from vocab.errors import InputError


@dataclass(frozen=True)
class Evaluation:
    """Held-out images with their labels and logits."""

    report: HeldOutScores
    class_precision: Float[Tensor, " classes"]
    """average precision of each class; NaN where no held-out image has it"""
    samples: list[tuple[int, int]]
    """(tar, index in the tar) of each image"""
    logits: Float[Tensor, "images classes"]
    offsets: Int64[Tensor, " images_plus_1"]
    positives: Int64[Tensor, " positives"]
    account: dict[str, int]
    skipped: list[Skipped]

    def classes_of(self, image: int) -> list[int]:
        """Return the classes that image number `image` is labelled with."""
        labelled: list[int] = self.positives[self.offsets[image] : self.offsets[image + 1]].tolist()
        return labelled


@dataclass
class _RankScores:
    """Images that one rank scored."""

    samples: list[tuple[int, int]]
    logits: Tensor
    classes: list[list[int]]
    account: Counter[str]
    skipped: list[Skipped]


def evaluate(
    objective: Objective, source: Source, rank: Rank, *, batch: int, workers: int, limit: int, bfloat16: bool
) -> Evaluation | None:
    """Score the first `limit` held-out images, `batch` at a time per rank; None on ranks other than the main one.

    Raises InputError on the main rank if no image could be scored, or more are bad than the source allows (of however
    few), and as `mean_average_precision`.
    """
    part = _score(objective, source, rank, batch=batch, workers=workers, limit=limit, bfloat16=bfloat16)
    parts: list[_RankScores] = gather_on_main(part, rank)
    if not rank.is_main:
        return None
    samples = [sample for part in parts for sample in part.samples]
    if not samples:
        raise InputError(
            "held-out tars",
            found="no image that can be scored",
            wanted="at least one",
            remedy="Check --eval-images or raise --holdout-shards.",
        )
    account: Counter[str] = Counter()
    for part in parts:
        account.update(part.account)
    skipped = [bad for part in parts for bad in part.skipped]
    check_bad_share(account, source.options.max_bad_share, examples=examples_of(skipped), fewest=1)
    order = sorted(range(len(samples)), key=samples.__getitem__)[:limit]
    classes = [labelled for part in parts for labelled in part.classes]
    logits = torch.cat([part.logits for part in parts])[order]
    positives = torch.tensor([label for image in order for label in classes[image]], dtype=torch.int64)
    offsets = torch.tensor([0, *(len(classes[image]) for image in order)], dtype=torch.int64).cumsum(0)
    frequency = torch.from_numpy(source.vocabulary.captions.astype(np.float64))
    numbers, class_precision = mean_average_precision(
        logits, offsets, positives, frequency, device=exact_device(rank.device)
    )
    return Evaluation(
        report=numbers,
        class_precision=class_precision,
        samples=[samples[image] for image in order],
        logits=logits,
        offsets=offsets,
        positives=positives,
        account=dict(account),
        skipped=skipped,
    )


def _score(
    objective: Objective, source: Source, rank: Rank, *, batch: int, workers: int, limit: int, bfloat16: bool
) -> _RankScores:
    part = _RankScores([], torch.empty(0), [], Counter(), [])
    logits: list[Tensor] = [torch.empty(0, len(source.vocabulary))]
    waiting: deque[tuple[Tensor, list[int], torch.cuda.Event | None]] = deque()

    def take(*, lag: int) -> None:
        """Take the logits of all batches but the last `lag`, which the device is still working on."""
        while len(waiting) > lag:
            copy, scored, copied = waiting.popleft()
            if copied is not None:
                copied.synchronize()
            logits.append(copy[scored])

    cuda = rank.device.type == "cuda"
    resolution = FixedResolution(source.options.image_size, batch * rank.world)
    seen = 0
    feeding = Feed(
        source,
        resolution,
        rank=rank.index,
        world=rank.world,
        workers=workers,
        loaders=source.options.loaders,
        pin_memory=source.options.pin_memory and cuda,
    )
    with evaluating(objective), feeding as feed:
        for shown in feed:
            part.account.update(shown.account)
            part.skipped += shown.skipped
            scored = torch.nonzero(shown.weights > 0)[:, 0].tolist()
            # The whole batch also where a rank has no sample left: under FSDP2 all ranks compute together.
            with torch.autocast(rank.device.type, torch.bfloat16, enabled=bfloat16):
                own = objective.score(shown.images.to(rank.device, non_blocking=cuda)).float()
            # torch copies to page-locked memory here, while the device goes on to the next batch.
            copy = own.to("cpu", non_blocking=cuda)
            waiting.append((copy, scored, torch.cuda.current_stream().record_event() if cuda else None))
            # One behind, as the feed keeps the images of one batch that was asked for before.
            take(lag=1)
            part.samples += [shown.samples[image] for image in scored]
            part.classes += [shown.classes[shown.ends[image] : shown.ends[image + 1]].tolist() for image in scored]
            # All ranks stop after the same step, and nobody needs to ask the others.
            seen += resolution.at(0).batch
            if seen >= limit:
                break
        take(lag=0)
    part.logits = torch.cat(logits)
    return part
