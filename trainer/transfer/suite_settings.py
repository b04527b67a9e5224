"""Settings of a task that its results depend on, and which of them may change when a suite continues.

In: a task of the tasks file, the settings that its results were measured with, and the keys of these results. Out: the
first setting that changed, and the settings to write to config.json.

Options of a method that was taken out of the file are kept, with its results, until the method is asked for again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from trainer.transfer.record import NO_INIT, TRANSFER, Key, Method
from trainer.transfer.tasks_file import SECTIONS, SuiteTask
from vocab.store.secrets import public

# More or fewer of these may be asked for once a task has been measured.
GRID = frozenset("name methods percents seeds inits".split())
UNTRAINED: tuple[Method, ...] = ("zeroshot", "knn")
"""methods without an init"""
# Locations of images and names may change, for a fingerprint says what lies there.
PLACES = frozenset("train test class_names".split())
# Options of probe that concern the classifier alone, and the nearest neighbours alone.
TRAINING = frozenset("preset learning_rates weight_decays epochs train_batch final_share label_smoothing".split())
VOTES = frozenset("neighbours temperature".split())


def settings_of(task: SuiteTask) -> dict[str, Any]:
    """Return the settings that a task's results depend on, without secrets, in the form of config.json."""
    values = {name: value for name, value in asdict(task).items() if name not in GRID}
    settings: dict[str, Any] = json.loads(json.dumps(public(values)))
    return settings


def changed(task: SuiteTask, stored: Mapping[str, Any], measured: Iterable[Key]) -> tuple[str, str] | None:
    """Find the first changed setting that results depend on, and return its old and its new value.

    `stored`: settings that the task's results `measured` were made with. Options of methods that the task does not ask
    for are not compared until it asks for them again.
    """
    before, now, keys = _flat(stored), _flat(settings_of(task)), list(measured)
    for name in sorted(before.keys() | now.keys()):
        if (
            name not in PLACES
            and before.get(name) != now.get(name)
            and _is_active(name, task)
            and any(_depends_on(name, key) for key in keys)
        ):
            found, wanted = (f"{name}={side[name]!r}" if name in side else f"{name} unset" for side in (before, now))
            return found, wanted
    return None


def to_record(task: SuiteTask, stored: Mapping[str, Any], measured: Sequence[Key]) -> dict[str, Any]:
    """Return the current settings; for options of inactive methods, the values their results were computed with."""
    before, now = _flat(stored), _flat(settings_of(task))
    settings: dict[str, Any] = {section: {} for section in SECTIONS}
    for name in dict.fromkeys([*now, *before]):
        waits = not _is_active(name, task) and any(_depends_on(name, key) for key in measured)
        side, (place, _, option) = before if waits else now, name.partition(".")
        if name in side:
            (settings[place] if option else settings)[option or place] = side[name]
    return settings


def _is_active(name: str, task: SuiteTask) -> bool:
    """Tell whether a method that the task asks for now depends on a setting."""
    keys = [
        Key(task.name, method, init, 0.0, 0)
        for method in task.methods
        for init in ([NO_INIT] if method in UNTRAINED else task.inits)
    ]
    return any(_depends_on(name, key) for key in keys)


def _depends_on(name: str, key: Key) -> bool:
    """Tell whether a result depends on a setting."""
    if name == "alpha":
        return key.init == TRANSFER
    section, _, option = name.partition(".")
    if section == "probe":
        return (key.method == "probe" and option not in VOTES) or (key.method == "knn" and option not in TRAINING)
    return all(section != other or key.method in methods for other, methods in SECTIONS.items())


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Name options section.option; an option that is left out differs from one with any value."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= {f"{name}.{inside}": value[inside] for inside in value} if isinstance(value, dict) else {name: value}
    return flat
