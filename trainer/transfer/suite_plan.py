"""Calls of verbs that a suite is made of: the records that a task is to have, and the calls that give them.

zeroshot    one call a task
probe       one for each init and seed, all shares at once, since they have features in common. Nearest neighbours,
            which have no init, are looked up beside the first init; for all images once, since every seed takes
            the same ones
finetune    one for each init, seed and share
segment     the same
detect      the same
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

from trainer.options import Cache, Compute, Decode, Options, values_of
from trainer.probe.cache import feature_folder
from trainer.records.record import NO_INIT, Key
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
from trainer.transfer.dense_config import MaskTask, SegmentConfig
from trainer.transfer.detect_config import DetectConfig, DetectTask
from trainer.transfer.tasks_file import Init, Section, SectionFields, SuiteTask

SUITE_OPTIONS = frozenset("model task out init percent seed seeds features workers device precision plan".split())
"""options of single verbs that a suite sets itself"""
OF_SUITE_TASK = frozenset({"train", "test", "class_names", *(field.name for field in fields(Decode))})
"""options of a task that its own table in the tasks file sets"""
ALL = 100.0
RUNS: tuple[Literal["finetune", "segment", "detect"], ...] = ("finetune", "segment", "detect")
"""methods that leave a run directory each"""


@dataclass(frozen=True)
class VerbCall:
    """One call of a verb."""

    task: SuiteTask
    verb: Section
    init: Init | Literal["none"]
    seed: int
    percents: tuple[float, ...]
    """empty for zero-shot"""
    wanted: tuple[Key, ...]
    """keys of the records that it is called for; its other records are dropped"""

    @property
    def classifier(self) -> bool:
        """True if a classifier is asked for, and not nearest neighbours alone."""
        return any(key.method == "probe" for key in self.wanted)

    @property
    def knn(self) -> bool:
        return any(key.method == "knn" for key in self.wanted)


def keys_of(task: SuiteTask) -> list[Key]:
    """Keys of all records that a task is to have."""
    return [key for call in calls_of(task, frozenset()) for key in call.wanted]


def calls_of(task: SuiteTask, done: Set[Key]) -> list[VerbCall]:
    """List the calls that are left to make, cheap ones first."""
    calls = []
    zero_shot = Key(task.name, "zeroshot", NO_INIT, 0.0, 0)
    if "zeroshot" in task.methods and zero_shot not in done:
        calls.append(VerbCall(task, "zeroshot", NO_INIT, 0, (), (zero_shot,)))
    for init in task.inits:
        for seed in task.seeds:
            wanted = [key for percent in task.percents for key in _probe_keys(task, init, percent, seed)]
            left = tuple(key for key in wanted if key not in done)
            if left:
                percents = tuple(dict.fromkeys(key.percent for key in left))
                calls.append(VerbCall(task, "probe", init, seed, percents, left))
    for method in RUNS:
        for init in task.inits if method in task.methods else ():
            for percent in task.percents:
                keys = [Key(task.name, method, init, percent, seed) for seed in task.seeds]
                calls += [VerbCall(task, method, init, key.seed, (percent,), (key,)) for key in keys if key not in done]
    return calls


def record_folder(out: Path, key: Key) -> Path:
    """Folder of one measurement of the suite in `out`."""
    return out / key.method / f"{key.task}-{key.init}-{key.percent:g}-{key.seed}"


def options() -> SectionFields:
    """List the fields of each verb's configuration that a tasks file may set."""
    return {
        # A task has one alpha for Transfer Init, so that probe and fine-tuning can be compared.
        "probe": _fields(ProbeConfig, without={"alpha", "batch"}),
        "zeroshot": _fields(ZeroShotConfig, without={"batch"}),
        "finetune": _fields(FinetuneConfig, without={"alpha"}),
        "segment": {**_fields(SegmentConfig, without={"alpha"}), **_fields(MaskTask, without=OF_SUITE_TASK)},
        "detect": {**_fields(DetectConfig, without={"alpha"}), **_fields(DetectTask, without=OF_SUITE_TASK)},
    }


def task_config(task: SuiteTask, config: TransferConfig) -> TaskConfig:
    """Images of a task, as a single verb takes them."""
    return TaskConfig(task.train, task.test, **values_of(task, TaskImages), **values_of(config, Cache))


def probe_config(call: VerbCall, config: TransferConfig) -> ProbeConfig:
    """Options of a call, as `python -m trainer probe` takes them."""
    asked = dict(call.task.probe)
    if not call.knn:
        asked["neighbours"] = 0
    return ProbeConfig(
        model=config.model,
        task=task_config(call.task, config),
        out=config.out,
        init=_init(call),
        alpha=call.task.alpha,
        percent=call.percents,
        seeds=(call.seed,),
        **_computed(config),
        **asked,
    )


def zero_shot_config(call: VerbCall, config: TransferConfig) -> ZeroShotConfig:
    """Options of a call, as `python -m trainer zeroshot` takes them."""
    return ZeroShotConfig(
        model=config.model,
        task=task_config(call.task, config),
        out=config.out,
        **_computed(config),
        **call.task.zeroshot,
    )


def finetune_config(call: VerbCall, config: TransferConfig) -> FinetuneConfig:
    """Options of a call, as `python -m trainer finetune` takes them; each run resumes in a folder of its own."""
    (key,) = call.wanted
    return FinetuneConfig(
        model=config.model,
        task=task_config(call.task, config),
        out=record_folder(config.out, key),
        init=_init(call),
        alpha=call.task.alpha,
        percent=key.percent,
        seed=call.seed,
        **values_of(config, DecodeThreads, Compute),
        **call.task.finetune,
    )


def segment_config(call: VerbCall, config: TransferConfig) -> SegmentConfig:
    """Options of a call, as `python -m trainer segment` takes them; each run resumes in a folder of its own."""
    (key,) = call.wanted
    of_run, _ = _parted(call.task.segment, MaskTask)
    return SegmentConfig(
        model=config.model,
        task=mask_task(call.task),
        out=record_folder(config.out, key),
        init=_init(call),
        alpha=call.task.alpha,
        percent=key.percent,
        seed=call.seed,
        **values_of(config, DecodeThreads, Compute),
        **of_run,
    )


def detect_config(call: VerbCall, config: TransferConfig) -> DetectConfig:
    """Options of a call, as `python -m trainer detect` takes them; each run resumes in a folder of its own."""
    (key,) = call.wanted
    task = call.task
    of_run, of_task = _parted(task.detect, DetectTask)
    return DetectConfig(
        model=config.model,
        task=DetectTask(task.train, task.test, class_names=task.class_names, **values_of(task, Decode), **of_task),
        out=record_folder(config.out, key),
        init=_init(call),
        alpha=task.alpha,
        percent=key.percent,
        seed=call.seed,
        **values_of(config, DecodeThreads, Compute),
        **of_run,
    )


def mask_task(task: SuiteTask) -> MaskTask:
    """Images and masks of a task, as the verb segment takes them."""
    _, of_task = _parted(task.segment, MaskTask)
    return MaskTask(task.train, task.test, class_names=task.class_names, **values_of(task, Decode), **of_task)


def _parted(asked: Mapping[str, Any], task: type[Options]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part the options of a method's table into those of its run and those of its `task`."""
    own = _names(task)
    return (
        {name: value for name, value in asked.items() if name not in own},
        {name: value for name, value in asked.items() if name in own},
    )


def _names(verb: type[Options]) -> frozenset[str]:
    """Names of the fields of a configuration."""
    return frozenset(field.name for field in fields(verb))


def _probe_keys(task: SuiteTask, init: Init, percent: float, seed: int) -> list[Key]:
    """Keys of the records of one share's probe."""
    keys = [Key(task.name, "probe", init, percent, seed)] if "probe" in task.methods else []
    first = percent < ALL or seed == task.seeds[0]
    if "knn" in task.methods and init == task.inits[0] and first:
        keys.append(Key(task.name, "knn", NO_INIT, percent, seed))
    return keys


def _init(call: VerbCall) -> Init:
    assert call.init != NO_INIT
    return call.init


def _computed(config: TransferConfig) -> dict[str, Any]:
    """Options of how features are computed and kept, with the folder that all calls of the suite share."""
    return values_of(config, FeatureOptions, Compute) | {"features": feature_folder(config.features, config.cache)}


def _fields(verb: type[Options], *, without: Collection[str]) -> dict[str, Any]:
    hints = get_type_hints(verb)
    names = (field.name for field in fields(verb))
    return {name: hints[name] for name in names if name not in SUITE_OPTIONS and name not in without}
