"""Linear probes and nearest neighbours, from top to bottom: a pre-trained model and a task's images in, accuracies out.

In: a `ProbeConfig`. Out: a folder, which appears whole:

    results.json        records for each share and seed (trainer/records/record.py)
    results.md          the same as a page
    classes.csv         accuracy or average precision of each class, by each of them
    config.json         the options
    transfer_init.*     with --init transfer: what every class began with (class_tables.py)

    images -> features, each computed once                                trainer/probe/cache.py
    a share of the training images -> learning rate, weight decay         trainer/probe/choice.py
    -> a linear classifier                                                trainer/probe/grid.py
    features of the test images -> accuracy, also of their neighbours     measures.py, knn.py
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainer.config import to_json
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Rank, exact_device, join_processes, on_main
from trainer.probe.cache import ImageFeatures, features_of
from trainer.probe.choice import grid_of, train_best
from trainer.probe.grid import GridSchedule
from trainer.probe.knn import votes
from trainer.probe.linear import Head, check_numbers, random_head
from trainer.probe.measures import Measured, measure
from trainer.records.classes import FILE as CLASSES
from trainer.records.classes import of_task
from trainer.records.record import CORRECT, NO_INIT, NOTES, Key, Record, marks_of, named_bad, score_text, write_results
from trainer.transfer import class_tables
from trainer.transfer.config import ProbeConfig
from trainer.transfer.report import probe_page
from trainer.transfer.tasks.files import check_bad_share, left_out, undecoded
from trainer.transfer.tasks.opening import TaskData, open_task, subset
from trainer.transfer.transfer_init import ClassMatch, match_classes, scale_head, transfer_head
from trainer.weights.folder import check_new, new_folder
from trainer.weights.pretrained import Pretrained, open_pretrained, require_vocabulary
from vocab.errors import InputError
from vocab.pages.tables import csv_table
from vocab.pages.text import counted, listed, tell


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """Result on one share of the training images, by one seed."""

    record: Record
    """record of the linear classifier"""
    nearest: Record | None
    """record of the nearest neighbours, where they were asked for"""
    remarks: list[str]
    """notes on this share and seed"""

    def line(self) -> str:
        """One-line summary."""
        record, extra, nearest = self.record, self.record.extra, self.nearest
        beside = f", nearest neighbours {score_text(nearest.metric, nearest.value)}" if nearest is not None else ""
        return (
            f"{record.percent:g} % of the images, seed {record.seed}: {record.metric} "
            f"{score_text(record.metric, record.value)}{beside} (learning rate {extra['learning_rate']:g}, "
            f"weight decay {extra['weight_decay']:g}: {extra['choice']})"
        )


@dataclass(frozen=True, eq=False)
class ProbeInputs:
    """Options of a probe, the task, and the features of its images."""

    config: ProbeConfig
    pretrained: Pretrained
    task: TaskData
    parts: list[tuple[float, int, LabelledImages]]
    """share, seed, and the training images drawn by them"""
    train: ImageFeatures
    """features of the training images of all parts that could be decoded"""
    test: ImageFeatures
    seconds: float
    """time until all features were there"""


@dataclass(frozen=True, eq=False)
class ProbeOutcome:
    """Results of all shares and seeds."""

    given: ProbeInputs
    matches: list[ClassMatch]
    """matches of each class, for Transfer Init"""
    probes: list[ProbeResult]


def probe(config: ProbeConfig) -> None:
    """Train, measure, and write a folder. Raises a CatlipError, and writes nothing, if that is impossible."""
    with join_processes(config.device) as rank:
        on_main(lambda: check_new(config.out), rank)
        outcome = measure_all(config, rank, task=f"{config.task.train} | {config.task.test}")
        if outcome is not None:
            write(outcome)
            tell("\n".join(summary(outcome)) + "\n")


def probe_records(config: ProbeConfig, rank: Rank, *, task: str) -> list[Record]:
    """Measure for a table of results; no records on ranks other than the main one. All must call it.

    `task`: its name in the table. `config.out` is not written to. Raises as `probe`.
    """
    outcome = measure_all(config, rank, task=task)
    return [] if outcome is None else records_of(outcome)


def knn_records(config: ProbeConfig, rank: Rank, *, task: str) -> list[Record]:
    """Measure nearest neighbours alone, as `probe_records` otherwise: no classifier is trained."""
    given = gather(config, rank)
    if given is None:
        return []
    test = _on(given.test, rank)
    return [
        _nearest(given, _on(given.train.of(part), rank), test, Key(task, "knn", NO_INIT, percent, seed))
        for percent, seed, part in given.parts
    ]


def measure_all(config: ProbeConfig, rank: Rank, *, task: str) -> ProbeOutcome | None:
    """Train a probe for each share and seed; None on ranks other than the main one, which only compute features."""
    given = gather(config, rank)
    if given is None:
        return None
    matches: list[ClassMatch] = []
    if config.init == "transfer":
        matches = match_classes(given.task.class_names, given.pretrained.vocabulary, alpha=config.alpha)
    test = _on(given.test, rank)
    probes: list[ProbeResult] = []
    for percent, seed, part in given.parts:
        # Of all training images the neighbours are the same for every seed.
        before = probes[-1].nearest if percent == 100 and seed != config.seeds[0] else None
        train, key = _on(given.train.of(part), rank), Key(task, "probe", config.init, percent, seed)
        probes.append(_probe(given, matches, train, test, key, nearest=before))
        if rank.is_main:
            tell(f"{probes[-1].line()}\n")
    return ProbeOutcome(given, matches, probes)


def gather(config: ProbeConfig, rank: Rank) -> ProbeInputs | None:
    """Open the task and compute its features; None on ranks other than the main one. All must call it."""
    began = time.perf_counter()
    pretrained = open_pretrained(config.model, image_size=config.image_size, crop=config.crop)
    if config.init == "transfer":
        require_vocabulary(pretrained.classes, pretrained.source)
    task = open_task(config.task)
    parts = [
        (percent, seed, subset(task.train, percent=percent, seed=seed))
        for percent in config.percent
        for seed in config.seeds
    ]
    train = features_of(config, pretrained, _union(task.train, [part for _, _, part in parts]), rank)
    test = features_of(config, pretrained, task.test, rank)
    if train is None or test is None:
        return None
    for side, features in (("train", train), ("test", test)):
        check_bad_share(f"--task.{side}", len(features.images), features.skipped, config.task.max_bad_share)
        check_numbers(features.values, f"the {side} images")
    for percent, _, part in parts:
        _check_any(part, train, percent=percent)
    return ProbeInputs(config, pretrained, task, parts, train, test, time.perf_counter() - began)


def write(outcome: ProbeOutcome) -> None:
    """Write the folder of the results, whole or not at all. Raises OutputExistsError if it exists."""
    given, config = outcome.given, outcome.given.config
    places, classes, test = config.task, len(given.task.class_names), len(given.test.images)
    records, found = records_of(outcome), notes(outcome)
    init = f"Transfer Init at path similarity >= {config.alpha:g}" if outcome.matches else "a random beginning"
    setting = (
        f"{counted(classes, 'class', 'classes')}, {counted(test, 'test image')}; {counted(config.epochs, 'epoch')}, "
        f"batches of {config.train_batch}" + (f"; {config.neighbours} nearest neighbours" if config.neighbours else "")
    )
    with new_folder(config.out) as work:
        write_results(
            work,
            records,
            verb="probe",
            model=given.pretrained.source,
            fingerprint=given.pretrained.fingerprint,
            data={"train": places.train, "test": places.test, "classes": classes, "test_images": test},
            notes=found,
            left_out=left_out(train=given.task.train, test=given.task.test),
            bad_images=named_bad(train=given.train.skipped, test=given.test.skipped),
            details={"features_seconds": round(given.seconds, 3)},
        )
        (work / CLASSES).write_text(classes_csv(records), encoding="utf-8")
        page = probe_page(records, init=init, setting=setting, notes=found)
        (work / "results.md").write_text(page, encoding="utf-8")
        (work / "config.json").write_text(to_json(config), encoding="utf-8")
        if outcome.matches:
            class_tables.write_matches(outcome.matches, work, alpha=config.alpha)


def classes_csv(records: Sequence[Record]) -> str:
    """Write classes.csv: what each probe, and the nearest neighbours beside it, reached on every class."""
    rows = []
    for record in records:
        scores = record.classes
        assert scores is not None
        columns = ("method", "percent", "seed", *scores.columns)
        rows += [(record.method, f"{record.percent:g}", record.seed, *row) for row in scores.scored_rows()]
    return csv_table(columns, rows)


def records_of(outcome: ProbeOutcome) -> list[Record]:
    """List the records of each probe and of its nearest neighbours, which have no init."""
    return [record for probe in outcome.probes for record in (probe.record, probe.nearest) if record is not None]


def notes(outcome: ProbeOutcome) -> list[str]:
    """List what a reader of the numbers should know."""
    given = outcome.given
    found = [*class_tables.no_match_note(outcome.matches), *_on_the_data(given)]
    # Seeds of one share mostly have the same notes.
    seeds: dict[tuple[float, str], list[int]] = {}
    for probe in outcome.probes:
        for text in probe.remarks:
            seeds.setdefault((probe.record.percent, text), []).append(probe.record.seed)
    for (percent, text), own in seeds.items():
        seed = "" if len(own) == len(given.config.seeds) else f", seed {', '.join(map(str, own))}"
        found.append(f"{percent:g} % of the images{seed}: {text}")
    return found


def summary(outcome: ProbeOutcome) -> list[str]:
    """Lines for the terminal."""
    config = outcome.given.config
    lines = class_tables.match_summary(outcome.matches, alpha=config.alpha) if outcome.matches else []
    return [*lines, *notes(outcome), f"{config.out}: results.md"]


def _on(features: ImageFeatures, rank: Rank) -> ImageFeatures:
    return replace(features, values=features.values.to(exact_device(rank.device)))


def _union(images: LabelledImages, parts: list[LabelledImages]) -> LabelledImages:
    """Select the images that are in any of the parts; the data set itself if that is all."""
    wanted = np.isin(images.rows, np.concatenate([part.rows for part in parts]))
    return images if wanted.all() else images.select(np.flatnonzero(wanted))


def _check_any(part: LabelledImages, train: ImageFeatures, *, percent: float) -> None:
    """Raise InputError if no image of a share could be decoded."""
    if np.isin(part.rows, train.images.rows).any():
        return
    raise InputError(
        f"{percent:g} % of --task.train",
        found=f"none of {len(part):,} images that can be decoded: {listed(part.names)}",
        wanted="at least one",
        remedy="Mend these, or give a larger --percent.",
    )


def _probe(
    given: ProbeInputs,
    matches: list[ClassMatch],
    train: ImageFeatures,
    test: ImageFeatures,
    key: Key,
    *,
    nearest: Record | None,
) -> ProbeResult:
    """Measure one share and seed; `nearest` where it is known of another seed. Features lie on the device."""
    began, config = time.perf_counter(), given.config
    schedule = GridSchedule(config.epochs, config.train_batch, config.final_share, config.label_smoothing)
    start = _start(given.pretrained, matches, train, seed=key.seed)
    grid = grid_of(config.preset, config.learning_rates, config.weight_decays)
    choice, head = train_best(train.values, train.images, grid=grid, schedule=schedule, start=start, seed=key.seed)
    measured = measure(head.logits_in_parts(test.values), test.images)
    about: dict[str, Any] = {
        "learning_rate": choice.setting.learning_rate,
        "weight_decay": choice.setting.weight_decay,
        "choice": choice.why,
        "preset": config.preset,
        "classes_without_images": given.task.without_images(train.images),
        NOTES: [*class_tables.no_match_note(matches), *_on_the_data(given)],
    } | ({"alpha": config.alpha} if matches else {})
    record = _record(given, key, measured, about, train=len(train.images), seconds=time.perf_counter() - began)
    if nearest is not None:
        nearest = replace(nearest, seed=key.seed, seconds=0.0)
    elif config.neighbours:
        nearest = _nearest(given, train, test, key)
    remarks = given.task.lacking(train.images)
    return ProbeResult(record, nearest, remarks if choice.sure else [*remarks, f"the setting is {choice.why}"])


def _nearest(given: ProbeInputs, train: ImageFeatures, test: ImageFeatures, key: Key) -> Record:
    """Measure the nearest neighbours among `train`; they have no init."""
    began, config = time.perf_counter(), given.config
    about = {"neighbours": config.neighbours, "temperature": config.temperature}
    voted = votes(train.values, train.images, test.values, neighbours=config.neighbours, temperature=config.temperature)
    measured = measure(voted, test.images)
    key, seconds = key._replace(method="knn", init=NO_INIT), time.perf_counter() - began
    return _record(given, key, measured, about, train=len(train.images), seconds=seconds)


def _start(pretrained: Pretrained, matches: list[ClassMatch], train: ImageFeatures, *, seed: int) -> Head:
    """Make the first classifier: by the classes' matches, or at random where there are none."""
    if not matches:
        return random_head(len(train.images.labels), train.values.shape[1], seed=seed)
    head = transfer_head(pretrained.classifier, pretrained.vocabulary, matches, seed=seed)
    return scale_head(head, train.values, train.images)[0]


def _on_the_data(given: ProbeInputs) -> list[str]:
    return [*given.task.notes, *undecoded(train=given.train.skipped, test=given.test.skipped)]


def _record(
    given: ProbeInputs, key: Key, measured: Measured, about: dict[str, Any], *, train: int, seconds: float
) -> Record:
    metric, value = measured.metric
    extra: dict[str, Any] = {
        **measured.numbers(),
        "train_images": train,
        "bad_images": len(given.test.skipped),
        NOTES: _on_the_data(given),
    }
    extra |= about
    if measured.correct is not None:
        extra[CORRECT] = marks_of(measured.correct)
    return Record(
        *key,
        metric=metric,
        value=value,
        images=len(given.test.images),
        seconds=seconds,
        extra=extra,
        classes=of_task(given.task.class_names, measured),
    )
