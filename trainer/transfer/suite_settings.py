"""Settings of a task that its results depend on: which of them may be other ones when a suite goes on.

In: a task of the tasks file, the settings that its results were measured with, the keys of these. Out: a setting that
is another one now, and what is to be written down.

Options of a method that is taken out of the file wait, with its results, until the method is asked for again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from trainer.transfer.record import NO_INIT, TRANSFER, Key, Method
from trainer.transfer.tasks_file import SECTIONS, SuiteTask
from vocab.store.secrets import public

# What may be asked for anew of a task that was measured: more of the same, or less.
GRID = frozenset("name methods percents seeds inits".split())
UNTRAINED: tuple[Method, ...] = ("zeroshot", "knn")
"""methods without an init"""
# Where the images and names lie; their fingerprint says what they are.
PLACES = frozenset("train test class_names".split())
# Options of probe that are the classifier's alone, and those of the neighbours beside it.
TRAINING = frozenset("preset learning_rates weight_decays epochs train_batch final_share label_smoothing".split())
VOTES = frozenset("neighbours temperature".split())


def settings_of(task: SuiteTask) -> dict[str, Any]:
    """What a task's results depend on, without secrets, as config.json has it."""
    values = {name: value for name, value in asdict(task).items() if name not in GRID}
    settings: dict[str, Any] = json.loads(json.dumps(public(values)))
    return settings


def changed(task: SuiteTask, stored: Mapping[str, Any], measured: Iterable[Key]) -> tuple[str, str] | None:
    """The first setting that is another one now than results depend on, as it was and as it is.

    `stored`: what the results `measured` of the task were made with. Options of methods that the task does not ask for
    are let be: they are compared when it asks for them again.
    """
    before, now, keys = _flat(stored), _flat(settings_of(task)), list(measured)
    for name in sorted(before.keys() | now.keys()):
        if (
            name not in PLACES
            and before.get(name) != now.get(name)
            and _is_used(name, task)
            and any(_bears(name, key) for key in keys)
        ):
            found, wanted = (f"{name}={side[name]!r}" if name in side else f"{name} unset" for side in (before, now))
            return found, wanted
    return None


def to_record(task: SuiteTask, stored: Mapping[str, Any], measured: Sequence[Key]) -> dict[str, Any]:
    """The settings as they are now; those that `changed` let be as the results were made with them."""
    before, now = _flat(stored), _flat(settings_of(task))
    settings: dict[str, Any] = {section: {} for section in SECTIONS}
    for name in dict.fromkeys([*now, *before]):
        waits = not _is_used(name, task) and any(_bears(name, key) for key in measured)
        side, (place, _, option) = before if waits else now, name.partition(".")
        if name in side:
            (settings[place] if option else settings)[option or place] = side[name]
    return settings


def _is_used(name: str, task: SuiteTask) -> bool:
    """Whether anything that the task is to be measured by now depends on a setting."""
    keys = [
        Key(task.name, method, init, 0.0, 0)
        for method in task.methods
        for init in ([NO_INIT] if method in UNTRAINED else task.inits)
    ]
    return any(_bears(name, key) for key in keys)


def _bears(name: str, key: Key) -> bool:
    """Whether a setting has a part in a result."""
    if name == "alpha":
        return key.init == TRANSFER
    section, _, option = name.partition(".")
    if section == "probe":
        return (key.method == "probe" and option not in VOTES) or (key.method == "knn" and option not in TRAINING)
    return all(section != other or key.method in methods for other, methods in SECTIONS.items())


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Options as section.option; one that is left out is another setting than one with a value."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= {f"{name}.{inside}": value[inside] for inside in value} if isinstance(value, dict) else {name: value}
    return flat
