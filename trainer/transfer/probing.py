"""Linear probes and nearest neighbours, from top to bottom: a pre-trained model and a task's images in, accuracies out.

In: a `ProbeConfig`. Out: a folder (`trainer/transfer/probe_results.py`).

    images -> features, each computed once                                trainer/probe/cache.py
    a share of the training images -> learning rate, weight decay         trainer/probe/choice.py
    -> a linear classifier                                                trainer/probe/grid.py
    features of the test images -> accuracy, also of their neighbours     measures.py, knn.py
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainer.data.labelled_images import LabelledImages
from trainer.data.tar_cache import default_cache
from trainer.distributed import Rank, join_processes, on_main
from trainer.probe.cache import ImageFeatures, cached_features
from trainer.probe.choice import grid_of, train_best
from trainer.probe.grid import GridSchedule
from trainer.probe.knn import votes
from trainer.probe.linear import Head, check_numbers, random_head
from trainer.probe.measures import Measured, measure
from trainer.transfer.config import ProbeConfig
from trainer.transfer.probe_results import Gathered, Outcome, Probe, neighbour_record, records_of, summary, write
from trainer.transfer.record import NO_INIT, Key, Record
from trainer.transfer.tasks.files import check_bad_share
from trainer.transfer.tasks.opening import open_task
from trainer.transfer.tasks.subsets import subset
from trainer.transfer.transfer_init import ClassMatch, match_classes, scale_head, transfer_head
from trainer.weights.folder import check_new
from trainer.weights.pretrained import Pretrained, open_pretrained
from vocab.errors import InputError
from vocab.pages.text import listed, tell


def probe(config: ProbeConfig) -> None:
    """Train, measure, and leave a folder. Raises a CatlipError for whatever cannot be, and leaves nothing then."""
    with join_processes(config.device) as rank:
        on_main(lambda: check_new(config.out), rank)
        outcome = measure_all(config, rank)
        if outcome is not None:
            write(outcome)
            tell("\n".join(summary(outcome)) + "\n")


def probe_records(config: ProbeConfig, rank: Rank, *, task: str) -> list[Record]:
    """What the table of results has of it; nothing on ranks other than the main one. All must call it.

    `task`: what the table calls it. `config.out` is not written to. Raises as `probe`.
    """
    outcome = measure_all(config, rank)
    return [] if outcome is None else records_of(outcome, task=task)


def neighbour_records(config: ProbeConfig, rank: Rank, *, task: str) -> list[Record]:
    """As `probe_records`, of nearest neighbours alone: no classifier is trained."""
    given = gather(config, rank)
    if given is None:
        return []
    test, found = _on(given.test, rank), []
    for percent, seed, part in given.parts:
        began, key = time.perf_counter(), Key(task, "knn", NO_INIT, percent, seed)
        train = _on(given.train.of(part), rank)
        measured, images = _nearest(config, train, test), len(train.images)
        seconds = time.perf_counter() - began
        found.append(neighbour_record(given, key, measured, train=images, seconds=seconds))
    return found


def measure_all(config: ProbeConfig, rank: Rank) -> Outcome | None:
    """A probe for each share and seed; None on ranks other than the main one, which only compute features."""
    given = gather(config, rank)
    if given is None:
        return None
    matches: list[ClassMatch] = []
    if config.init == "transfer":
        matches = match_classes(given.task.class_names, given.pretrained.vocabulary, alpha=config.alpha)
    test = _on(given.test, rank)
    probes: list[Probe] = []
    for percent, seed, part in given.parts:
        # All images have the same neighbours, whatever the seed.
        before = probes[-1].nearest if percent == 100 and seed != config.seeds[0] else None
        train = _on(given.train.of(part), rank)
        probes.append(_probe(given, matches, train, test, percent=percent, seed=seed, nearest=before))
        if rank.is_main:
            tell(f"{probes[-1].line()}\n")
    return Outcome(given, matches, probes)


def gather(config: ProbeConfig, rank: Rank) -> Gathered | None:
    """The task, and the features of its images; None on ranks other than the main one. All must call it."""
    began = time.perf_counter()
    pretrained = open_pretrained(config.model, image_size=config.image_size, crop=config.crop)
    task = open_task(config.task)
    parts = [
        (percent, seed, subset(task.train, percent=percent, seed=seed))
        for percent in config.percent
        for seed in config.seeds
    ]
    train = _features(config, pretrained, _union(task.train, [part for _, _, part in parts]), rank)
    test = _features(config, pretrained, task.test, rank)
    if train is None or test is None:
        return None
    for side, features in (("train", train), ("test", test)):
        check_bad_share(f"--task.{side}", len(features.images), features.skipped, config.task.max_bad_share)
        check_numbers(features.values, f"the {side} images")
    for percent, _, part in parts:
        _check_any(part, train, percent=percent)
    return Gathered(config, pretrained, task, parts, train, test, time.perf_counter() - began)


def _on(features: ImageFeatures, rank: Rank) -> ImageFeatures:
    """The same on the rank's device."""
    return replace(features, values=features.values.to(rank.device))


def _union(images: LabelledImages, parts: list[LabelledImages]) -> LabelledImages:
    """The images that are in any of the parts; the data set itself if that is all."""
    wanted = np.isin(images.rows, np.concatenate([part.rows for part in parts]))
    return images if wanted.all() else images.select(np.flatnonzero(wanted))


def _check_any(part: LabelledImages, train: ImageFeatures, *, percent: float) -> None:
    """Raise InputError for a share of the training images of which none could be decoded."""
    if np.isin(part.rows, train.images.rows).any():
        return
    raise InputError(
        f"{percent:g} % of --task.train",
        found=f"none of {len(part):,} images that can be decoded: {listed(part.names)}",
        wanted="at least one",
        remedy="Mend these, or give a larger --percent.",
    )


def _features(config: ProbeConfig, pretrained: Pretrained, images: LabelledImages, rank: Rank) -> ImageFeatures | None:
    return cached_features(
        pretrained,
        images,
        rank,
        batch=config.batch,
        workers=config.workers,
        cache=_cache(config),
        bfloat16=config.is_bfloat16(rank.device.type),
        max_pixels=config.task.max_pixels,
        take_truncated=config.task.take_truncated,
    )


def _cache(config: ProbeConfig) -> Path:
    return config.features if config.features is not None else default_cache(config.task.cache) / "features"


def _probe(
    given: Gathered,
    matches: list[ClassMatch],
    train: ImageFeatures,
    test: ImageFeatures,
    *,
    percent: float,
    seed: int,
    nearest: Measured | None,
) -> Probe:
    """One share, one seed; `nearest` where it is known already. Features lie on the device."""
    began, config = time.perf_counter(), given.config
    schedule = GridSchedule(config.epochs, config.train_batch, config.final_share, config.label_smoothing)
    start = _start(given.pretrained, matches, train, seed=seed)
    grid = grid_of(config.preset, config.learning_rates, config.weight_decays)
    choice, head = train_best(train.values, train.images, grid=grid, schedule=schedule, start=start, seed=seed)
    measured = measure(head.logits_in_parts(test.values), test.images)
    trained = time.perf_counter()
    if nearest is None and config.neighbours:
        nearest = _nearest(config, train, test)
    return Probe(
        percent=percent,
        seed=seed,
        choice=choice,
        measured=measured,
        nearest=nearest,
        images=len(train.images),
        without_images=tuple(np.flatnonzero(train.images.images_by_class == 0).tolist()),
        seconds=trained - began,
        nearest_seconds=time.perf_counter() - trained,
    )


def _nearest(config: ProbeConfig, train: ImageFeatures, test: ImageFeatures) -> Measured:
    voted = votes(train.values, train.images, test.values, neighbours=config.neighbours, temperature=config.temperature)
    return measure(voted, test.images)


def _start(pretrained: Pretrained, matches: list[ClassMatch], train: ImageFeatures, *, seed: int) -> Head:
    """The classifier to begin with: by the classes' matches, or at random where there are none."""
    if not matches:
        return random_head(len(train.images.labels), train.values.shape[1], seed=seed)
    head = transfer_head(pretrained.classifier, pretrained.vocabulary, matches, seed=seed)
    return scale_head(head, train.values, train.images)[0]
