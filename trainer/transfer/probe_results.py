"""What linear probes reached, and with which settings: what a folder of results holds.

In: `Outcome`. Out: records for one table of several tasks, and the folder, which appears whole:

    results.json        model, notes, and a record for each share and seed (record.py)
    results.md          the same, to be read
    config.json         what was asked for
    transfer_init.*     with --init transfer: what every class began with (match_table.py)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config import to_json
from trainer.data.labelled_images import LabelledImages
from trainer.probe.cache import ImageFeatures
from trainer.probe.choice import Choice
from trainer.probe.measures import Measured
from trainer.transfer import match_table
from trainer.transfer.config import ProbeConfig
from trainer.transfer.record import CORRECT, NO_INIT, NOTES, Key, Record, marks_of, named_bad, write_results
from trainer.transfer.tasks.files import left_out, undecoded
from trainer.transfer.tasks.opening import Task
from trainer.transfer.transfer_init import ClassMatch
from trainer.weights.folder import new_folder
from trainer.weights.pretrained import Pretrained
from vocab.pages.tables import markdown_list, markdown_table
from vocab.pages.text import counted, listed

HEADINGS = {"top1": "top-1", "top5": "top-5", "map_macro": "mAP, macro", "map_micro": "mAP, micro"}


@dataclass(frozen=True, eq=False)
class Probe:
    """One share of the training images, one seed."""

    percent: float
    seed: int
    choice: Choice
    measured: Measured
    """the linear classifier"""
    nearest: Measured | None
    """the nearest neighbours, where they were asked for"""
    images: int
    """number of images that the probe was trained on"""
    without_images: tuple[int, ...]
    """numbers of the classes that none of these shows"""
    seconds: float
    """choosing a setting, training and measuring"""
    nearest_seconds: float

    def line(self) -> str:
        """It in a line."""
        name, value = self.measured.metric
        beside = f", nearest neighbours {self.nearest.metric[1]:.2%}" if self.nearest is not None else ""
        setting = self.choice.setting
        return (
            f"{self.percent:g} % of the images, seed {self.seed}: {name} {value:.2%}{beside} (learning rate "
            f"{setting.learning_rate:g}, weight decay {setting.weight_decay:g}: {self.choice.why})"
        )


@dataclass(frozen=True, eq=False)
class Gathered:
    """What was asked for, and what it is measured on."""

    config: ProbeConfig
    pretrained: Pretrained
    task: Task
    parts: list[tuple[float, int, LabelledImages]]
    """share, seed, and the training images that these take"""
    train: ImageFeatures
    """features of all training images that any part has and that could be decoded"""
    test: ImageFeatures
    seconds: float
    """until all features were there"""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came out."""

    given: Gathered
    matches: list[ClassMatch]
    """match of each class, for Transfer Init"""
    probes: list[Probe]


def records_of(outcome: Outcome, *, task: str) -> list[Record]:
    """A record for each probe, and one for its nearest neighbours, for whom no classifier begins as anything."""
    found, given = [], outcome.given
    for probe in outcome.probes:
        setting = probe.choice.setting
        about: dict[str, Any] = {
            "learning_rate": setting.learning_rate,
            "weight_decay": setting.weight_decay,
            "choice": probe.choice.why,
            "preset": given.config.preset,
            "classes_without_images": [given.task.class_names[number] for number in probe.without_images],
        } | ({"alpha": given.config.alpha} if outcome.matches else {})
        key = Key(task, "probe", given.config.init, probe.percent, probe.seed)
        about[NOTES] = [*match_table.no_match(outcome.matches), *_on_the_data(given)]
        found.append(_record(given, key, probe.measured, about, train=probe.images, seconds=probe.seconds))
        if probe.nearest is not None:
            nearest, seconds = key._replace(method="knn", init=NO_INIT), probe.nearest_seconds
            found.append(neighbour_record(given, nearest, probe.nearest, train=probe.images, seconds=seconds))
    return found


def neighbour_record(given: Gathered, key: Key, measured: Measured, *, train: int, seconds: float) -> Record:
    """What nearest neighbours reached among so many training images."""
    about = {"neighbours": given.config.neighbours, "temperature": given.config.temperature}
    return _record(given, key, measured, about, train=train, seconds=seconds)


def write(outcome: Outcome) -> None:
    """The folder of the results, whole or not at all. Raises OutputExistsError if it exists."""
    with new_folder(outcome.given.config.out) as work:
        _write_json(outcome, work)
        (work / "results.md").write_text(markdown(outcome), encoding="utf-8")
        (work / "config.json").write_text(to_json(outcome.given.config), encoding="utf-8")
        if outcome.matches:
            match_table.write_matches(outcome.matches, work, alpha=outcome.given.config.alpha)


def _write_json(outcome: Outcome, folder: Path) -> None:
    given = outcome.given
    places = given.config.task
    write_results(
        folder,
        records_of(outcome, task=f"{places.train} | {places.test}"),
        verb="probe",
        model=given.pretrained.source,
        fingerprint=given.pretrained.fingerprint,
        data={
            "train": places.train,
            "test": places.test,
            "classes": len(given.task.class_names),
            "test_images": len(given.test.images),
        },
        notes=notes(outcome),
        left_out=left_out(train=given.task.train, test=given.task.test),
        bad_images=named_bad(train=given.train.skipped, test=given.test.skipped),
        details={"features_seconds": round(given.seconds, 3)},
    )


def markdown(outcome: Outcome) -> str:
    """The content of results.md."""
    given, config = outcome.given, outcome.given.config
    init = f"Transfer Init at path similarity >= {config.alpha:g}" if outcome.matches else "a random beginning"
    setting = (
        f"{counted(len(given.task.class_names), 'class', 'classes')}, "
        f"{counted(len(given.test.images), 'test image')}; {counted(config.epochs, 'epoch')}, "
        f"batches of {config.train_batch}" + (f"; {config.neighbours} nearest neighbours" if config.neighbours else "")
    )
    names = list(outcome.probes[0].measured.numbers())
    beside = list((outcome.probes[0].nearest or Measured()).numbers())[:1]
    head = ["share", "seed", "images", *(HEADINGS[name] for name in names)]
    head += [f"neighbours' {HEADINGS[name]}" for name in beside] + ["learning rate", "weight decay"]
    rows = []
    for probe in outcome.probes:
        cells = [f"{probe.percent:g} %", f"{probe.seed}", f"{probe.images:,}"]
        cells += [f"{value:.2%}" for value in probe.measured.numbers().values()]
        cells += [f"{(probe.nearest or Measured()).numbers()[name]:.2%}" for name in beside]
        rows.append([*cells, f"{probe.choice.setting.learning_rate:g}", f"{probe.choice.setting.weight_decay:g}"])
    parts = [f"# Linear probe from {init}", setting, markdown_table(head, rows), markdown_list(notes(outcome))]
    return "\n\n".join(part for part in parts if part) + "\n"


def notes(outcome: Outcome) -> list[str]:
    """What whoever reads the numbers should know."""
    given = outcome.given
    found = [*match_table.no_match(outcome.matches), *_on_the_data(given)]
    # Seeds of one share mostly have the same to say.
    seeds: dict[tuple[float, str], list[int]] = {}
    for probe in outcome.probes:
        for text in _remarks(outcome, probe):
            seeds.setdefault((probe.percent, text), []).append(probe.seed)
    for (percent, text), own in seeds.items():
        seed = "" if len(own) == len(given.config.seeds) else f", seed {', '.join(map(str, own))}"
        found.append(f"{percent:g} % of the images{seed}: {text}")
    return found


def _on_the_data(given: Gathered) -> list[str]:
    sides = (("train", given.train.skipped), ("test", given.test.skipped))
    return [*given.task.notes, *(undecoded(side, skipped) for side, skipped in sides if skipped)]


def _remarks(outcome: Outcome, probe: Probe) -> list[str]:
    """What is to be said of one share and seed."""
    names = [outcome.given.task.class_names[number] for number in probe.without_images]
    empty = counted(len(names), "class has no training image", "classes have no training image")
    found = [f"{empty}: {listed(names)}"] if names else []
    return found if probe.choice.sure else [*found, f"the setting is {probe.choice.why}"]


def summary(outcome: Outcome) -> list[str]:
    """What to tell whoever waits for it."""
    config = outcome.given.config
    lines = match_table.summary(outcome.matches, alpha=config.alpha) if outcome.matches else []
    return [*lines, *notes(outcome), f"{config.out}: results.md"]


def _record(
    given: Gathered, key: Key, measured: Measured, about: dict[str, Any], *, train: int, seconds: float
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
    )
