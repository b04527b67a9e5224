"""What linear probes reached, and with which settings: what a folder of results holds.

In: `Outcome`. Out: records for one table of several tasks, and the folder, which appears whole:

    results.json        version, model, notes, and a record for each share and seed
    results.md          the same, to be read
    config.json         what was asked for
    transfer_init.*     with --init transfer: what every class began with (match_table.py)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from trainer.config import to_json
from trainer.data.batch import Skipped
from trainer.data.labelled_images import LabelledImages
from trainer.records.secrets import public
from trainer.transfer import match_table
from trainer.transfer.config import ProbeConfig
from trainer.transfer.datasets.files import left_out, undecoded
from trainer.transfer.datasets.opening import Task
from trainer.transfer.measures import Measured
from trainer.transfer.probe_choice import Choice
from trainer.transfer.records import Record
from trainer.transfer.transfer_init import ClassMatch
from trainer.transfer.words import counted, listed
from trainer.weights.folder import new_folder
from trainer.weights.pretrained import Pretrained

FORMAT_VERSION = 1
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
    """that it was trained on"""
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
class Outcome:
    """What was asked for, and what came out."""

    config: ProbeConfig
    pretrained: Pretrained
    task: Task
    matches: list[ClassMatch]
    """of each class, for Transfer Init"""
    probes: list[Probe]
    bad_train: list[Skipped]
    """training images that could not be decoded"""
    test: LabelledImages
    """those that it was measured on"""
    bad_test: list[Skipped]
    seconds: float
    """until all features were there"""


def records_of(outcome: Outcome, *, task: str) -> list[Record]:
    """A record for each probe, and one for its nearest neighbours, for whom no classifier begins as anything."""
    found = []
    for probe in outcome.probes:
        setting, extra = probe.choice.setting, {"train_images": probe.images, "bad_images": len(outcome.bad_test)}
        about = {
            **extra,
            "learning_rate": setting.learning_rate,
            "weight_decay": setting.weight_decay,
            "choice": probe.choice.why,
            "preset": outcome.config.preset,
        } | ({"alpha": outcome.config.alpha} if outcome.matches else {})
        found.append(_record(outcome, task, probe, "probe", probe.measured, about))
        if probe.nearest is not None:
            about = {**extra, "neighbours": outcome.config.neighbours, "temperature": outcome.config.temperature}
            found.append(_record(outcome, task, probe, "knn", probe.nearest, about))
    return found


def write(outcome: Outcome) -> None:
    """The folder of the results, whole or not at all. Raises OutputExistsError if it exists."""
    with new_folder(outcome.config.out) as work:
        content = json.dumps(as_json(outcome), indent=1, ensure_ascii=False) + "\n"
        (work / "results.json").write_text(content, encoding="utf-8")
        (work / "results.md").write_text(markdown(outcome), encoding="utf-8")
        (work / "config.json").write_text(to_json(outcome.config), encoding="utf-8")
        if outcome.matches:
            match_table.write_matches(outcome.matches, work, alpha=outcome.config.alpha)


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The content of results.json."""
    task = f"{outcome.config.task.train} | {outcome.config.task.test}"
    content = {
        "version": FORMAT_VERSION,
        "model": outcome.pretrained.source,
        "fingerprint": outcome.pretrained.fingerprint,
        "train": outcome.config.task.train,
        "test": outcome.config.task.test,
        "classes": len(outcome.task.class_names),
        "test_images": len(outcome.test),
        "notes": notes(outcome),
        "left_out": left_out(train=outcome.task.train, test=outcome.task.test),
        "bad_images": [{"image": bad.key, "reason": bad.reason} for bad in (*outcome.bad_train, *outcome.bad_test)],
        "seconds": round(outcome.seconds, 3),
    }
    records = [
        {
            "task": task,
            "model": outcome.pretrained.source,
            "verb": "probe",
            "percent": probe.percent,
            "seed": probe.seed,
            "init": outcome.config.init,
            "metric": probe.measured.metric[0],
            "value": probe.measured.metric[1],
            **probe.measured.numbers(),
            **{f"knn_{name}": value for name, value in (probe.nearest or Measured()).numbers().items()},
            "setting": vars(probe.choice.setting),
            "choice": probe.choice.why,
            "images": probe.images,
            "classes_without_images": [outcome.task.class_names[number] for number in probe.without_images],
            "correct": _correct(probe.measured),
            "seconds": round(probe.seconds, 3),
        }
        for probe in outcome.probes
    ]
    result: dict[str, Any] = public({**content, "records": records})
    return result


def markdown(outcome: Outcome) -> str:
    """The content of results.md."""
    config = outcome.config
    init = f"Transfer Init at path similarity >= {config.alpha:g}" if outcome.matches else "a random beginning"
    lines = [
        f"# Linear probe from {init}",
        "",
        f"{counted(len(outcome.task.class_names), 'class', 'classes')}, "
        f"{counted(len(outcome.test), 'test image')}; {counted(config.epochs, 'epoch')}, "
        f"batches of {config.train_batch}" + (f"; {config.neighbours} nearest neighbours" if config.neighbours else ""),
        "",
    ]
    names = list(outcome.probes[0].measured.numbers())
    beside = list((outcome.probes[0].nearest or Measured()).numbers())[:1]
    headings = ["share", "seed", "images", *(HEADINGS[name] for name in names)]
    headings += [f"neighbours' {HEADINGS[name]}" for name in beside] + ["learning rate", "weight decay"]
    lines += [f"| {' | '.join(headings)} |", f"| {' | '.join(['---'] * len(headings))} |"]
    for probe in outcome.probes:
        cells = [f"{probe.percent:g} %", f"{probe.seed}", f"{probe.images:,}"]
        cells += [f"{value:.2%}" for value in probe.measured.numbers().values()]
        cells += [f"{(probe.nearest or Measured()).numbers()[name]:.2%}" for name in beside]
        cells += [f"{probe.choice.setting.learning_rate:g}", f"{probe.choice.setting.weight_decay:g}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- {match_table.cell(note)}" for note in notes(outcome))]
    return "\n".join(lines).rstrip() + "\n"


def notes(outcome: Outcome) -> list[str]:
    """What whoever reads the numbers should know."""
    found = list(outcome.task.notes)
    for side, skipped in (("train", outcome.bad_train), ("test", outcome.bad_test)):
        if skipped:
            found.append(undecoded(side, skipped))
    # Seeds of one share mostly have the same to say.
    seeds: dict[tuple[float, str], list[int]] = {}
    for probe in outcome.probes:
        for text in _remarks(outcome, probe):
            seeds.setdefault((probe.percent, text), []).append(probe.seed)
    for (percent, text), own in seeds.items():
        of = "" if len(own) == len(outcome.config.seeds) else f", seed {', '.join(map(str, own))}"
        found.append(f"{percent:g} % of the images{of}: {text}")
    return found


def _remarks(outcome: Outcome, probe: Probe) -> list[str]:
    """What is to be said of one share and seed."""
    names = [outcome.task.class_names[number] for number in probe.without_images]
    empty = counted(len(names), "class has no training image", "classes have no training image")
    found = [f"{empty}: {listed(names)}"] if names else []
    return found if probe.choice.sure else [*found, f"the setting is {probe.choice.why}"]


def summary(outcome: Outcome) -> list[str]:
    """What to tell whoever waits for it."""
    alpha = outcome.config.alpha
    lines = match_table.summary(outcome.matches, alpha=alpha) if outcome.matches else []
    return [*lines, *notes(outcome), f"{outcome.config.out}: results.md"]


def _record(
    outcome: Outcome, task: str, probe: Probe, method: str, measured: Measured, about: dict[str, Any]
) -> Record:
    metric, value = measured.metric
    correct = _correct(measured)
    return Record(
        task=task,
        method="probe" if method == "probe" else "knn",
        init=outcome.config.init if method == "probe" else "none",
        percent=probe.percent,
        seed=probe.seed,
        metric=metric,
        value=value,
        images=len(outcome.test),
        seconds=probe.seconds if method == "probe" else probe.nearest_seconds,
        extra={**measured.numbers(), **about} | ({} if correct is None else {"correct": correct}),
    )


def _correct(measured: Measured) -> str | None:
    """ "1" for each test image whose class came first and "0" for the others, in their order."""
    return None if measured.correct is None else "".join("1" if right else "0" for right in measured.correct.tolist())
