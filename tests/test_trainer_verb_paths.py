"""URIs in place of local paths: every option of every verb that is a path refuses them before anything is done."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest

from trainer.__main__ import main
from trainer.config import PretrainConfig
from trainer.field_types import with_local_paths
from trainer.transfer.config import FinetuneConfig, ProbeConfig, TransferConfig, ZeroShotConfig
from trainer.transfer.tasks_file import read_tasks
from trainer.verb_config import ExportConfig, FeedConfig, ImportConfig, PlanConfig
from vocab.errors import InputError

VERBS: dict[str, tuple[type, bool]] = {
    "pretrain sample": (PretrainConfig, False),
    "plan sample": (PlanConfig, False),
    "feed": (FeedConfig, False),
    "export": (ExportConfig, True),
    "import": (ImportConfig, True),
    "probe": (ProbeConfig, True),
    "zeroshot": (ZeroShotConfig, True),
    "finetune": (FinetuneConfig, True),
    "transfer": (TransferConfig, True),
}


def options(kind: type, *, nested: bool, prefix: str = "") -> Iterator[tuple[str, bool, bool]]:
    """Name of each option, whether it is positional, and whether it is a path."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        option = f"{prefix}{name.replace('_', '-')}"
        if dataclasses.is_dataclass(hint):
            yield from options(hint, nested=nested, prefix=f"{option}." if nested else prefix)  # type: ignore[arg-type]
        else:
            yield option, get_origin(hint) is Annotated, Path in (hint, *get_args(hint))


PATHS = [
    (verb, option, positional)
    for verb, (kind, nested) in VERBS.items()
    for option, positional, is_path in options(kind, nested=nested)
    if is_path
]
NEEDED = {
    "export": {"run": "r", "out": "o"},
    "import": {"weights": "w", "vocabulary": "v", "out": "o"},
    "transfer": {"model": "m", "tasks": "t", "out": "o"},
    "probe": {"model": "m", "task.train": "a", "task.test": "b", "out": "o"},
    "zeroshot": {"model": "m", "task.train": "a", "task.test": "b", "out": "o"},
    "finetune": {"model": "m", "task.train": "a", "task.test": "b", "out": "o"},
}


def test_every_verb_has_paths_among_its_options() -> None:
    assert {verb for verb, _, _ in PATHS} == VERBS.keys()
    assert ("zeroshot", "task.class-names", False) in PATHS
    assert ("transfer", "tasks", False) in PATHS
    assert ("probe", "model", True) in PATHS


@pytest.mark.parametrize("uri", ["s3://b/x", "gs://b/x", "hdfs://h/x"])
@pytest.mark.parametrize(("verb", "option", "positional"), PATHS, ids=[f"{verb} {name}" for verb, name, _ in PATHS])
def test_a_uri_is_refused_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, option: str, positional: bool, uri: str
) -> None:
    given = {**NEEDED.get(verb, {}), option: uri}
    first = [value for name, value in given.items() if name in ("run", "weights", "model")]
    rest = [word for name, value in given.items() if value not in first for word in (f"--{name}", value)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["trainer", *verb.split(), *first, *rest])
    called = option.upper() if positional else f"--{option}"
    with pytest.raises(InputError, match=rf"^{called} {uri}: found a URI; wanted a path of this machine"):
        main()
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_s_and_a_task_s_paths_are_local_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["trainer", "pretrain", "s3://bucket/mine.py"])
    with pytest.raises(InputError, match=r"recipe s3://bucket/mine\.py: found a URI"):
        main()
    (tmp_path / "tasks.toml").write_text(
        '[[task]]\nname = "a"\ntest = "t"\nmethods=["zeroshot"]\nclass_names = "gs://b/n"'
    )
    nothing: dict[str, Any] = {"probe": {}, "zeroshot": {}, "finetune": {}}
    with pytest.raises(InputError, match=r"tasks\.toml: task 'a': class-names gs://b/n: found a URI"):
        read_tasks(tmp_path / "tasks.toml", nothing)


def test_the_uri_of_a_file_of_this_machine_is_its_path() -> None:
    config = ExportConfig(Path("file:///runs/a"), Path("file:/out/x"))
    assert with_local_paths(config) == ExportConfig(Path("/runs/a"), Path("/out/x"))
