"""Zero-shot classification, from top to bottom: a pre-trained model and a task's test images in, accuracies out.

In: a `ZeroShotConfig`. Out: a folder with results.json, results.md, classes.csv and config.json.

    class names -> synsets -> rows of the pre-trained classifier      transfer_init.py, synset_scores.py
    test images -> features                                           trainer/probe/cache.py
    features and rows -> scores -> accuracy                           synset_scores.py
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trainer.config import to_json
from trainer.data.batch import Skipped
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Rank, join_processes, on_main
from trainer.probe.cache import features_of
from trainer.records.record import CORRECT, NO_INIT, NOTES, Record, marks_of, named_bad, score_text, write_results
from trainer.transfer import class_tables, report
from trainer.transfer.config import ZeroShotConfig
from trainer.transfer.synset_scores import ClassRows, ZeroShotResult, evaluate, rows_of_classes, synset_scores
from trainer.transfer.tasks.files import check_bad_share, left_out, undecoded
from trainer.transfer.tasks.opening import class_names_of, notes_of, open_images, open_task
from trainer.transfer.transfer_init import ClassMatch, match_classes
from trainer.weights.folder import check_new, new_folder
from trainer.weights.pretrained import Pretrained, open_pretrained
from vocab.errors import MismatchError
from vocab.pages.text import counted, tell
from vocab.vocabulary import Vocabulary

TO_SCORE_THEM = (
    "Name classes that cannot be scored by --task.class-names FILE; where only the vocabulary lacks them, take near "
    "synsets by a lower --alpha, or by --hyponyms."
)


@dataclass(frozen=True, eq=False)
class ZeroShotOutcome:
    """Options of zero-shot classification, and its results."""

    config: ZeroShotConfig
    """with all unset options filled in"""
    pretrained: Pretrained
    matches: list[ClassMatch]
    classes: list[ClassRows]
    result: ZeroShotResult
    notes: tuple[str, ...]
    """notes for readers of the numbers: on the data, and on classes that cannot be scored"""
    left_out: list[dict[str, str]]
    """test images that were left out before any was decoded"""
    bad: list[Skipped]
    """images that could not be decoded"""
    seconds: float

    @property
    def classified(self) -> tuple[ZeroShotResult, list[ClassMatch], list[ClassRows], Vocabulary]:
        """All that tables of classes are made from."""
        return self.result, self.matches, self.classes, self.pretrained.vocabulary


def zero_shot(config: ZeroShotConfig) -> None:
    """Measure, and write a folder. Raises a CatlipError, and writes nothing, if that is impossible."""
    config.task.require("test", bool(config.task.test), "nothing", "images", remedy="Add: --task.test PATH.")
    with join_processes(config.device) as rank:
        on_main(lambda: check_new(config.out), rank)
        outcome = measure(config, rank)
        if outcome is not None:
            write(outcome)
            tell("\n".join(summary(outcome)) + "\n")


def zero_shot_records(config: ZeroShotConfig, rank: Rank, *, task: str) -> list[Record]:
    """Measure for a table of results; no records on ranks other than the main one. All must call it.

    `task`: its name in the table. `config.out` is not written to.
    """
    outcome = measure(config, rank)
    if outcome is None:
        return []
    return [record_of(outcome, task=task)]


def record_of(outcome: ZeroShotOutcome, *, task: str) -> Record:
    """Make the record of an outcome. `task`: its name in the table."""
    config, report, correct = outcome.config, outcome.result.report, outcome.result.correct
    metric, value = report.metric
    extra = {name: number for name, number in vars(report).items() if number is not None}
    extra |= {"alpha": config.alpha, "hyponyms": config.hyponyms, "prior": config.prior}
    extra[NOTES] = list(outcome.notes)
    if correct is not None:
        extra[CORRECT] = marks_of(correct)
    return Record(
        task=task,
        method="zeroshot",
        init=NO_INIT,
        percent=0.0,
        seed=0,
        metric=metric,
        value=value,
        images=report.images,
        seconds=outcome.seconds,
        extra=extra,
        classes=class_tables.scored_classes(*outcome.classified),
    )


def measure(config: ZeroShotConfig, rank: Rank) -> ZeroShotOutcome | None:
    """Score the test images; None on ranks other than the main one. All must call it."""
    began = time.perf_counter()
    pretrained = open_pretrained(config.model, image_size=config.image_size, crop=config.crop)
    images, class_names, notes = _open(config)
    config = replace(config, prior=config.prior or ("keep" if images.multi_label else "remove"))
    matches, classes = matched(config, class_names, pretrained.vocabulary, several=images.multi_label)
    features = features_of(config, pretrained, images, rank)
    if features is None:
        return None
    check_bad_share("--task.test", len(features.images), features.skipped, config.task.max_bad_share)
    assert config.prior is not None
    scores = synset_scores(
        features.values,
        pretrained.classifier,
        pretrained.vocabulary,
        [rows for rows in classes if rows.scorable],
        prior=config.prior,
        combine="any" if config.hyponyms == "any" else "max",
        loss=pretrained.loss,
    )
    result = evaluate(scores, classes, features.images, bad_images=len(features.skipped))
    bad, seconds = features.skipped, time.perf_counter() - began
    notes = (*notes, *undecoded(test=bad), *class_tables.unscored_notes(matches, classes))
    if not all(rows.scorable for rows in classes):
        notes = (*notes, TO_SCORE_THEM)
    if not images.multi_label:
        notes = (*class_tables.one_choice_note(classes), *notes)
    return ZeroShotOutcome(config, pretrained, matches, classes, result, notes, left_out(test=images), bad, seconds)


def matched(
    config: ZeroShotConfig, class_names: Sequence[str], vocabulary: Vocabulary, *, several: bool
) -> tuple[list[ClassMatch], list[ClassRows]]:
    """Find the match of each class, and the rows that score it. `several`: an image may show several classes.

    Raises MismatchError where no class can be scored.
    """
    matches = match_classes(class_names, vocabulary, alpha=config.alpha)
    hyponyms = config.hyponyms != "none"
    classes = rows_of_classes(matches, vocabulary, alpha=config.alpha, hyponyms=hyponyms, one_class=not several)
    if not any(rows.scorable for rows in classes):
        none = counted(len(classes), "class, which cannot be scored", "classes, of which none can be scored")
        raise MismatchError(
            "zero-shot on this task",
            found=f"{none}: {' '.join(class_tables.unscored_notes(matches, classes)).rstrip('.')}",
            wanted="a class whose name is a noun, or a wnid, that the model's vocabulary has",
            remedy=TO_SCORE_THEM,
        )
    return matches, classes


def write(outcome: ZeroShotOutcome) -> None:
    """Write the folder of the results, whole or not at all. Raises OutputExistsError if it exists."""
    record = record_of(outcome, task=outcome.config.task.test)
    classes = class_tables.scored_table(*outcome.classified)
    assert record.classes is not None
    page = report.zero_shot_page(record, title=title_of(outcome), notes=outcome.notes, classes=classes)
    with new_folder(outcome.config.out) as work:
        write_results(
            work,
            [record],
            verb="zeroshot",
            model=outcome.pretrained.source,
            fingerprint=outcome.pretrained.fingerprint,
            data={"test": outcome.config.task.test, "classes": outcome.result.report.classes},
            notes=outcome.notes,
            left_out=outcome.left_out,
            bad_images=named_bad(test=outcome.bad),
            details={"by_class": class_tables.scored_json(*outcome.classified)},
        )
        (work / "results.md").write_text(page, encoding="utf-8")
        record.classes.write(work)
        (work / "config.json").write_text(to_json(outcome.config), encoding="utf-8")


def summary(outcome: ZeroShotOutcome) -> list[str]:
    """Lines for the terminal."""
    numbers = outcome.result.report
    name, value = numbers.metric
    classes = counted(numbers.classes, "class", "classes")
    lines = [f"{numbers.scorable_classes:,} of {classes} can be scored"]
    among = numbers.map_macro if numbers.top1 is None else numbers.top1
    if among is not None:
        shown = numbers.images if numbers.top1 is None else numbers.scorable_images
        lines.append(f"{name} {score_text(name, among)} over these, of {counted(shown, 'image')}")
    lines.append(f"{name} {score_text(name, value)} over all {classes}, of {counted(numbers.images, 'image')}")
    lines += outcome.notes
    lines.append(f"{outcome.config.out}: results.md")
    return lines


def title_of(outcome: ZeroShotOutcome) -> str:
    """Write the settings in a line."""
    config = outcome.config
    hyponyms = {"none": "without hyponyms", "max": "with the best hyponym", "any": "with any hyponym"}[config.hyponyms]
    prior = {"keep": "frequencies kept", "remove": "frequencies removed"}[config.prior or "keep"]
    return f"Zero-shot by synset: path similarity >= {config.alpha:g}, {hyponyms}, {prior}"


def _open(config: ZeroShotConfig) -> tuple[LabelledImages, tuple[str, ...], tuple[str, ...]]:
    """Open the test images: images, names of their classes, and notes."""
    if config.task.train:
        task = open_task(config.task)
        return task.test, task.class_names, task.notes
    images = open_images(config.task.test, config.task)
    named = class_names_of(images, config.task)
    return images, named.names, (*notes_of("test", images), *named.notes)
