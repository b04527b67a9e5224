"""Measurements of the verb segment: overfitting, the worth of a pre-training, of Transfer Init, and resumed runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.dense_study.images import PanopticImages
from benchmarks.dense_study.models import random_transformer
from benchmarks.measuring.setting import say
from trainer.data.batch import Batch
from trainer.dense.segment_scores import count_pixels
from trainer.distributed import Rank
from trainer.records.record import Record
from trainer.step.step import Step
from trainer.transfer.dense_config import MaskTask, SegmentConfig
from trainer.transfer.segment import segment_records

OVERFIT_IMAGES = 16
FEW_PERCENT = 10.0
"""share of the 100 training images with which Transfer Init is compared"""
WITH_ALL_IMAGES_LR, WITH_FEW_IMAGES_LR = 3e-3, 1e-3
"""learning rates of linear heads: one each, for every further one costs as much as the first"""


@dataclass(frozen=True)
class SegmentSizes:
    """Sizes that a machine works through in the time available."""

    overfit_size: int
    """side of an image while overfitting, pixels"""
    overfit_epochs: int
    linear_size: int
    """side of an image for linear heads, pixels"""
    linear_epochs: int
    few_epochs: int
    """epochs of linear heads on few images"""
    miou_images: int
    """random label maps that are compared with a loop"""


def overfit(images: PanopticImages, sizes: SegmentSizes, rank: Rank, *, out: Path) -> dict[str, Any]:
    """Train everything on a few images, and test on the same ones, by sliding windows, as they were trained on."""
    task = images.first_on_both_sides(OVERFIT_IMAGES, out / "images")
    size = sizes.overfit_size
    model = random_transformer(out / "model", size=size, patch_size=4, embed_dim=96, depth=2, num_heads=2)
    config = SegmentConfig(
        model,
        task,
        out / "run",
        head="deeplab",
        image_size=size,
        stride=4,
        epochs=sizes.overfit_epochs,
        batch=4,
        head_width=96,
        scale=(1.0, 1.0),
        max_class_share=1.0,
        flip=False,
        dropout=0.0,
        peak_lr=2e-3,
        weight_decay=0.0,
        ema_momentum=0.1,
        **computed(rank),
    )
    (record,) = segment_records(config, rank, task="overfit")
    return {"segment_overfit_miou": record.extra["miou_slide"], "segment_overfit_seconds": record.seconds}


def computed(rank: Rank) -> dict[str, Any]:
    """Options of how every run here is computed."""
    return {"device": rank.device.type, "workers": 1, "log_every": 20}


def miou_difference(count: int, *, seed: int = 0) -> float:
    """Largest difference between the counts of pixels and those of a loop over pixels, on random label maps."""
    generator = np.random.default_rng(seed)
    classes, worst = 7, 0
    for _ in range(count):
        given, true = generator.integers(0, classes, (9, 11)), generator.integers(-1, classes, (9, 11))
        looped = np.zeros((3, classes), np.int64)
        for one, other in zip(given.ravel().tolist(), true.ravel().tolist(), strict=True):
            if other >= 0:
                looped[0, other] += one == other
                looped[1, other] += 1
                looped[2, one] += 1
        counted = count_pixels(torch.from_numpy(given), torch.from_numpy(true), classes=classes)
        worst = max(worst, int(np.abs(counted.numpy() - looped).max()))
    return float(worst)


def linear_config(
    model: Path, task: MaskTask, out: Path, sizes: SegmentSizes, rank: Rank, *, seed: int, **changes: Any
) -> SegmentConfig:
    """Linear heads on a frozen model."""
    plain = SegmentConfig(
        model,
        task,
        out,
        image_size=sizes.linear_size,
        epochs=sizes.linear_epochs,
        batch=4,
        seed=seed,
        **computed(rank),
    )
    return replace(plain, **changes)


def worth_of_pretraining(
    runs: dict[str, Path], images: PanopticImages, sizes: SegmentSizes, rank: Rank, *, out: Path, seeds: Sequence[int]
) -> tuple[dict[str, Any], list[Record]]:
    """Frozen linear segmentation on pre-trained runs and on a random model of the same shape; each block by itself.

    `runs`: by the name of their pooling. Gains in points of mIoU, with the spread over seeds, each model with the
    blocks of its best test mIoU.
    """
    records: list[Record] = []
    found: dict[str, Any] = {}
    scores: dict[str, list[float]] = {}
    for name, model in runs.items():
        for seed in seeds:
            for blocks in ("last", "-2", "last4"):
                config = linear_config(
                    model,
                    images.task(),
                    out / f"{name}-{blocks}-{seed}",
                    sizes,
                    rank,
                    seed=seed,
                    blocks=(blocks,),
                    learning_rates=(WITH_ALL_IMAGES_LR,),
                )
                made = segment_records(config, rank, task=f"{name} {blocks}")
                records += made
                scores.setdefault(f"{name} {blocks}", []).extend(record.value for record in made)
                say(f"  {name} {blocks} {seed}: mIoU {scores[f'{name} {blocks}'][-1]:.4f}")
    found["miou_by_block"] = {name: _summary(values) for name, values in scores.items()}
    for name in runs.keys() - {"random"}:
        best = max(("last", "-2", "last4"), key=lambda blocks: statistics.fmean(scores[f"{name} {blocks}"]))
        gains = [100 * (a - b) for a, b in zip(scores[f"{name} {best}"], _best(scores, "random"), strict=True)]
        found[f"linear_gain_{name}"] = _summary(gains)
    return found, records


def worth_of_transfer_init(
    model: Path, images: PanopticImages, sizes: SegmentSizes, rank: Rank, *, out: Path, seeds: Sequence[int]
) -> dict[str, Any]:
    """Transfer Init over random init of linear heads with few training images, in points of mIoU, seed by seed."""
    gains = []
    for seed in seeds:
        values = {}
        for init in ("random", "transfer"):
            config = linear_config(
                model,
                images.task(),
                out / f"{init}-{seed}",
                sizes,
                rank,
                seed=seed,
                init=init,
                blocks=("last",),
                learning_rates=(WITH_FEW_IMAGES_LR,),
                percent=FEW_PERCENT,
                epochs=sizes.few_epochs,
            )
            (record,) = segment_records(config, rank, task=init)
            values[init] = record.value
        say(f"  seed {seed}: random {values['random']:.4f}, transfer {values['transfer']:.4f}")
        gains.append(100 * (values["transfer"] - values["random"]))
    return {"transfer_init_gain": _summary(gains)}


def zero_shot(model: Path, images: PanopticImages, sizes: SegmentSizes, rank: Rank, *, out: Path) -> dict[str, Any]:
    """Segmentation without training, with chance beside it."""
    config = SegmentConfig(
        model,
        MaskTask(test=images.location("val")),
        out,
        head="zero-shot",
        image_size=sizes.linear_size,
        **computed(rank),
    )
    (record,) = segment_records(config, rank, task="zero-shot")
    return {"zero_shot_miou": record.value, "zero_shot_chance": record.extra["chance_miou"]}


class _CutError(Exception):
    """A run ended as a kill would end it."""


def segment_resume_equal(task: MaskTask, rank: Rank, *, out: Path) -> bool:
    """Tell whether a run that was cut and went on has the weights of one that was not, bit for bit."""
    size = 32
    model = random_transformer(out / "model", size=size, patch_size=8, embed_dim=48, depth=2, num_heads=3)
    config = SegmentConfig(
        model,
        task,
        out / "whole",
        head="deeplab",
        image_size=size,
        epochs=2,
        batch=4,
        head_width=16,
        drop_path=0.1,
        checkpoint_every=2,
        **computed(rank),
    )
    segment_records(config, rank, task="whole")
    whole = Step.take

    def take(self: Step, batch: Batch, **given: Any) -> Tensor:
        if given["number"] == 6:
            raise _CutError
        return whole(self, batch, **given)

    cut = replace(config, out=out / "cut")
    Step.take = take  # type: ignore[method-assign]
    try:
        segment_records(cut, rank, task="cut")
    except _CutError:
        pass
    finally:
        Step.take = whole  # type: ignore[method-assign]
    segment_records(cut, rank, task="cut")
    ours, theirs = (load_file(run / "model.safetensors") for run in (config.out, cut.out))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def _best(scores: dict[str, list[float]], name: str) -> list[float]:
    """Scores of a model's best blocks."""
    return max((values for key, values in scores.items() if key.startswith(f"{name} ")), key=statistics.fmean)


def _summary(values: Iterable[float]) -> dict[str, float]:
    """Mean and spread over seeds, rounded."""
    numbers = list(values)
    spread = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    return {"mean": round(statistics.fmean(numbers), 4), "spread": round(spread, 4)}
