"""What a suite has to measure: the records that a task is to have, and the calls that give them.

In: a task of the tasks file, and the records that there are. Out: `Part`s, one call of a verb each.

    zeroshot    one call a task
    probe       one for each init and seed, all shares at once: they have features in common. Neighbours, which have no
                init, are looked up beside the first init's; of all the images, once: every seed takes the same ones
    finetune    one for each init, seed and share
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

from trainer.transfer.record import NO_INIT, Key
from trainer.transfer.tasks_file import Init, Section, SuiteTask

ALL = 100.0


@dataclass(frozen=True)
class Part:
    """One call of a verb."""

    task: SuiteTask
    verb: Section
    init: Init | Literal["none"]
    seed: int
    percents: tuple[float, ...]
    """none for zero-shot"""
    wanted: tuple[Key, ...]
    """the records that it is called for; what else it gives is left aside"""

    @property
    def classifier(self) -> bool:
        """Whether a probe is asked for, and not the neighbours beside it alone."""
        return any(key.method == "probe" for key in self.wanted)

    @property
    def neighbours(self) -> bool:
        """Whether nearest neighbours are asked for."""
        return any(key.method == "knn" for key in self.wanted)


def keys_of(task: SuiteTask) -> list[Key]:
    """The records that a task is to have."""
    return [key for part in parts_of(task, frozenset()) for key in part.wanted]


def parts_of(task: SuiteTask, done: Set[Key]) -> list[Part]:
    """The calls that are left to make, cheap ones first."""
    parts = []
    zero_shot = Key(task.name, "zeroshot", NO_INIT, 0.0, 0)
    if "zeroshot" in task.methods and zero_shot not in done:
        parts.append(Part(task, "zeroshot", NO_INIT, 0, (), (zero_shot,)))
    for init in task.inits:
        for seed in task.seeds:
            wanted = [key for percent in task.percents for key in _probe_keys(task, init, percent, seed)]
            left = tuple(key for key in wanted if key not in done)
            if left:
                percents = tuple(dict.fromkeys(key.percent for key in left))
                parts.append(Part(task, "probe", init, seed, percents, left))
    for init in task.inits if "finetune" in task.methods else ():
        for percent in task.percents:
            keys = [Key(task.name, "finetune", init, percent, seed) for seed in task.seeds]
            parts += [Part(task, "finetune", init, key.seed, (percent,), (key,)) for key in keys if key not in done]
    return parts


def _probe_keys(task: SuiteTask, init: Init, percent: float, seed: int) -> list[Key]:
    """What the probe of one share is to give."""
    keys = [Key(task.name, "probe", init, percent, seed)] if "probe" in task.methods else []
    first = percent < ALL or seed == task.seeds[0]
    if "knn" in task.methods and init == task.inits[0] and first:
        keys.append(Key(task.name, "knn", NO_INIT, percent, seed))
    return keys
