"""The verbs that a suite calls: `python -m trainer transfer`, with the options that a tasks file may give each of them.

In: a `TransferConfig`. Out: the folder of `suite_folder.py`.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any, get_type_hints

from trainer.data.cache_folder import default_cache
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Rank, join_processes
from trainer.options import Cache, Compute, Options, values_of
from trainer.transfer import recipe, zero_shot
from trainer.transfer.config import (
    DecodeThreads,
    FeatureOptions,
    FinetuneConfig,
    ProbeConfig,
    TaskConfig,
    TaskImages,
    TransferConfig,
    ZeroShotConfig,
)
from trainer.transfer.finetune import finetune_records
from trainer.transfer.probing import neighbour_records, probe_records
from trainer.transfer.record import NO_INIT, Record
from trainer.transfer.suite import Verbs, run_suite
from trainer.transfer.suite_folder import finetune_folder
from trainer.transfer.suite_plan import Part, parts_of
from trainer.transfer.tasks.contents import content_of
from trainer.transfer.tasks.opening import class_names_of, open_images, open_task
from trainer.transfer.tasks_file import Init, SectionFields, SuiteTask
from trainer.weights.pretrained import open_pretrained
from vocab.errors import InputError
from vocab.vocabulary import Vocabulary

# What the suite says itself.
OWN = frozenset("model task out init percent seed seeds features workers device precision".split())


def transfer(config: TransferConfig) -> None:
    """Measure a model on the tasks of a file. Raises a CatlipError for whatever cannot be measured; what was measured
    by then is kept.
    """

    @functools.cache
    def model() -> tuple[str, Vocabulary]:
        pretrained = open_pretrained(config.model)
        return pretrained.fingerprint, pretrained.vocabulary

    verbs = Verbs(
        options=options(),
        fingerprint=lambda: model()[0],
        check=lambda task, rank: check(task, config, rank, model()[1]),
        run=lambda part, rank: measure(part, config, rank),
    )
    with join_processes(config.device) as rank:
        run_suite(config, rank, verbs)


def options() -> SectionFields:
    """The fields of each verb's configuration that a tasks file may set."""
    return {
        # Of one task Transfer Init has one alpha, so that probe and fine-tuning can be compared.
        "probe": _fields(ProbeConfig, without={"alpha", "batch"}),
        "zeroshot": _fields(ZeroShotConfig, without={"batch"}),
        "finetune": _fields(FinetuneConfig, without={"alpha"}),
    }


def check(task: SuiteTask, config: TransferConfig, rank: Rank, vocabulary: Vocabulary | None = None) -> str:
    """The fingerprint of a task's images and of its classes with their names, on which its results depend.

    Raises a CatlipError for images that cannot be opened, for options that cannot work, and for zero-shot where no
    class is in the model's `vocabulary`, which is read from the model where it is not given.
    """
    if "knn" in task.methods and task.probe.get("neighbours") == 0:
        raise InputError(
            "probe.neighbours",
            found="0",
            wanted="1 or more for knn",
            remedy="Raise it, or leave knn out of the methods.",
        )
    for part in parts_of(task, frozenset()):
        match part.verb:
            case "probe":
                probe_config(part, config)
            case "finetune":
                recipe.check(finetune_config(part, config), world=rank.world)
            case "zeroshot":
                zero_shot_config(part, config)
    images = task_config(task, config)
    sides: tuple[LabelledImages, ...]
    if task.train:
        opened = open_task(images)
        names, sides = opened.class_names, (opened.train, opened.test)
    else:
        alone = open_images(images.test, images)
        names, sides = class_names_of(alone, images).names, (alone,)
    for part in parts_of(task, frozenset()):
        if part.verb == "zeroshot":
            vocabulary = vocabulary or open_pretrained(config.model).vocabulary
            zero_shot.matched(zero_shot_config(part, config), names, vocabulary, several=sides[-1].multi_label)
    return _fingerprint(names, *sides)


def measure(part: Part, config: TransferConfig, rank: Rank) -> list[Record]:
    """What a part is called for. All ranks must call it; the main one is given the records."""
    match part.verb:
        case "probe":
            measured = probe_records if part.classifier else neighbour_records
            return measured(probe_config(part, config), rank, task=part.task.name)
        case "zeroshot":
            return zero_shot.zero_shot_records(zero_shot_config(part, config), rank, task=part.task.name)
        case "finetune":
            return finetune_records(finetune_config(part, config), rank, task=part.task.name)


def task_config(task: SuiteTask, config: TransferConfig) -> TaskConfig:
    """The images of a task."""
    return TaskConfig(task.train, task.test, **values_of(task, TaskImages), **values_of(config, Cache))


def probe_config(part: Part, config: TransferConfig) -> ProbeConfig:
    """As `python -m trainer probe` is told."""
    asked = dict(part.task.probe)
    if not part.neighbours:
        asked["neighbours"] = 0
    return ProbeConfig(
        model=config.model,
        task=task_config(part.task, config),
        out=config.out,
        init=_init(part),
        alpha=part.task.alpha,
        percent=part.percents,
        seeds=(part.seed,),
        **_computed(config),
        **asked,
    )


def zero_shot_config(part: Part, config: TransferConfig) -> ZeroShotConfig:
    """As `python -m trainer zeroshot` is told."""
    return ZeroShotConfig(
        model=config.model,
        task=task_config(part.task, config),
        out=config.out,
        **_computed(config),
        **part.task.zeroshot,
    )


def finetune_config(part: Part, config: TransferConfig) -> FinetuneConfig:
    """As `python -m trainer finetune` is told; a run in a folder of its own, which it goes on with by itself."""
    (key,) = part.wanted
    return FinetuneConfig(
        model=config.model,
        task=task_config(part.task, config),
        out=finetune_folder(config.out, key),
        init=_init(part),
        alpha=part.task.alpha,
        percent=key.percent,
        seed=part.seed,
        **values_of(config, DecodeThreads, Compute),
        **part.task.finetune,
    )


def _fingerprint(class_names: Sequence[str], *sides: LabelledImages) -> str:
    """sha256 of the names and the content of each side, wherever it lies; and of the names and, of each side, of the
    files in their places, of which of them are taken, and of the classes they show.
    """
    content = hashlib.sha256(json.dumps([class_names, content_of(*sides)]).encode())
    digest = hashlib.sha256(json.dumps([class_names, *(side.labels for side in sides)]).encode())
    for side in sides:
        digest.update(side.fingerprint.encode())
        for numbers in (side.rows, side.offsets, side.classes):
            digest.update(numbers.astype("<i8").tobytes())
    return f"{content.hexdigest()} {digest.hexdigest()}"


def _init(part: Part) -> Init:
    assert part.init != NO_INIT
    return part.init


def _computed(config: TransferConfig) -> dict[str, Any]:
    """Options of how features are computed and kept, with the folder that all parts of the suite share."""
    features = config.features if config.features is not None else default_cache(config.cache) / "features"
    return values_of(config, FeatureOptions, Compute) | {"features": features}


def _fields(verb: type[Options], *, without: Collection[str]) -> dict[str, Any]:
    hints = get_type_hints(verb)
    names = (field.name for field in fields(verb))
    return {name: hints[name] for name in names if name not in OWN and name not in without}
