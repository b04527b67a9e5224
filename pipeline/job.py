"""The job's own folder inside the output directory: what is to be done, who does it, and what is done already.

    labels/_job/
      plan.json            the options, the labeler, the input files as they were, the tasks; written once
      owner.json           the run that is at work; renewed every few seconds
      task-00012.json      task 12 is done, and wrote these files (`task.Done`)
      counts-*.parquet  rejects-*.parquet     what tasks wrote beside their part files

A run that finds the folder goes on where the last one stopped. The folder goes when the manifest is there.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow.fs as pafs

from pipeline.planning import Task
from pipeline.task import JOB, Done
from vocab.errors import FormatError, MismatchError, OutputExistsError
from vocab.manifest import InputFile
from vocab.sealing import from_sealed_json, to_sealed_json
from vocab.storage import filesystem_of, write_whole

PLAN, OWNER = "plan.json", "owner.json"
PLAN_VERSION = 1
STALE_SECONDS = 60.0
"""after which an owner that has not renewed its claim is taken for dead"""


@dataclass(frozen=True)
class Plan:
    """What a run is to make of what: equal plans give equal labels."""

    config: dict[str, Any]
    """the options that the result depends on"""
    labeler: str
    fingerprint: str
    wordnet: str
    inputs: tuple[InputFile, ...]
    tasks: tuple[Task, ...]
    """not compared: how the work is cut depends on the cluster that began it"""
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    """not compared: tells the tasks of this plan from those of another"""

    def to_json(self) -> str:
        """The text of plan.json."""
        content = {
            "version": PLAN_VERSION,
            "id": self.id,
            "config": self.config,
            "labeler": self.labeler,
            "fingerprint": self.fingerprint,
            "wordnet": self.wordnet,
            "inputs": [[file.path, file.size, file.modified] for file in self.inputs],
            "tasks": [task.to_json() for task in self.tasks],
        }
        return to_sealed_json(content)

    @classmethod
    def from_json(cls, place: str, text: str) -> Plan:
        """The inverse of `to_json`. Raises FormatError for anything else."""
        try:
            content = from_sealed_json(place, text)
            if content["version"] != PLAN_VERSION:
                raise _no_plan(place, f"version {content['version']}")
            return cls(
                config=content["config"],
                labeler=content["labeler"],
                fingerprint=content["fingerprint"],
                wordnet=content["wordnet"],
                inputs=tuple(InputFile(path, size, modified) for path, size, modified in content["inputs"]),
                tasks=tuple(map(Task.from_json, content["tasks"])),
                id=content["id"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise _no_plan(place, f"unreadable content ({error!r})") from error


def _no_plan(place: str, found: str) -> FormatError:
    return FormatError(
        place,
        found=found,
        wanted=f"the plan of a job, version {PLAN_VERSION}",
        remedy="Go on with the release that began the job, or remove the directory and begin anew.",
    )


def begun_plan(out: str) -> Plan | None:
    """The plan of the job that was begun in the directory; None if none was."""
    text = _read(f"{out}/{JOB}/{PLAN}")
    return None if text is None else Plan.from_json(f"{out}/{JOB}/{PLAN}", text)


def write_plan(out: str, plan: Plan) -> None:
    """Fix the plan."""
    _make_folder(out)
    with write_whole(f"{out}/{JOB}/{PLAN}") as file:
        file.write(plan.to_json().encode())


def refuse_other_plan(out: str, begun: Plan, now: Plan) -> None:
    """Raise MismatchError, naming the first difference, unless both plans are for the same result."""
    difference = (
        _difference_of_config(begun.config, now.config)
        or _difference(f"labeler {now.labeler}", f"tables {begun.fingerprint[:12]}", f"tables {now.fingerprint[:12]}")
        or _difference_of_inputs(begun.inputs, now.inputs)
    )
    if difference is not None:
        thing, before, after = difference
        raise MismatchError(
            f"{out}: {thing}",
            found=after,
            wanted=f"{before}, as when the job began",
            remedy="Give the command that began it, or remove the directory and begin anew.",
        )


def _difference(thing: str, before: str, after: str) -> tuple[str, str, str] | None:
    return None if before == after else (thing, before, after)


def _difference_of_config(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, str, str] | None:
    for name in [*before, *after]:
        # Through JSON, which has no tuples.
        old, new = (json.dumps(config.get(name), default=str) for config in (before, after))
        if old != new:
            return f"option {name}", old, new
    return None


def _difference_of_inputs(before: Sequence[InputFile], after: Sequence[InputFile]) -> tuple[str, str, str] | None:
    old, new = ({file.path: file for file in files} for files in (before, after))
    for path in [*old, *new]:
        if path not in new:
            return f"input file {path}", _state(old[path]), "no such file"
        if path not in old:
            return f"input file {path}", "no such file", _state(new[path])
        if _state(old[path]) != _state(new[path]):
            return f"input file {path}", _state(old[path]), _state(new[path])
    return None


def _state(file: InputFile) -> str:
    return f"{file.size:,} bytes of {file.modified}"


def finished_tasks(out: str, plan: str) -> dict[int, Done]:
    """The plan's tasks that are done, by their markers."""
    return {done.task: done for done in Markers(out, plan).new()}


class Markers:
    """The markers of a plan's tasks, each read once."""

    def __init__(self, out: str, plan: str) -> None:
        self._directory, self._plan = f"{out}/{JOB}", plan
        self._seen: set[str] = set()

    def new(self) -> list[Done]:
        """Those that came since the last call."""
        filesystem, root = filesystem_of(self._directory)
        infos = filesystem.get_file_info(pafs.FileSelector(root, allow_not_found=True))
        names = {info.base_name for info in infos if info.base_name.startswith("task-")} - self._seen
        self._seen |= names
        places = (f"{self._directory}/{name}" for name in sorted(names))
        found = [Done.from_json(place, text) for place in places if (text := _read(place)) is not None]
        return [done for done in found if done.plan == self._plan]


class Owner:
    """A run's claim on an output directory."""

    def __init__(self, out: str, run: str) -> None:
        self._place = f"{out}/{JOB}/{OWNER}"
        self._out, self._run = out, run
        self._renewed = 0.0

    def claim(self) -> None:
        """Take the directory. Raises OutputExistsError if another run is at work in it."""
        text = _read(self._place)
        if text is not None and (other := _other_at_work(text, self._run)):
            raise OutputExistsError(
                self._out,
                found=f"another run at work in it ({other})",
                wanted="one run at a time",
                remedy="Wait for it or stop it; a run that died leaves the directory free after a minute.",
            )
        _make_folder(self._out)
        self._write()
        self.check()

    def renew(self) -> None:
        """Say, every few seconds, that the run is alive. Raises OutputExistsError if another one took over."""
        if time.monotonic() - self._renewed > STALE_SECONDS / 12:
            self.check()
            self._write()

    def check(self) -> None:
        """Raise OutputExistsError unless the claim is still this run's."""
        content = _claim(_read(self._place))
        if content.get("run") != self._run:
            raise OutputExistsError(
                self._out,
                found=f"the claim of another run ({content.get('host')}, process {content.get('pid')})",
                wanted="this run's own",
                remedy="Two runs were started on one directory; let the other one finish.",
            )

    def _write(self) -> None:
        content = {"run": self._run, "host": socket.gethostname(), "pid": os.getpid(), "time": time.time()}
        with write_whole(self._place) as file:
            file.write(json.dumps(content).encode())
        self._renewed = time.monotonic()


def _claim(text: str | None) -> dict[str, Any]:
    """The content of owner.json; nothing for a damaged one, which its owner, if it lives, writes anew in seconds."""
    try:
        content = json.loads(text or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _other_at_work(text: str, run: str) -> str | None:
    """Another run that is alive, described; None if the claim is this run's, too old, or of a process that is gone."""
    content = _claim(text)
    try:
        host, pid, age = content["host"], int(content["pid"]), time.time() - float(content["time"])
    except (ValueError, KeyError, TypeError):
        return None
    if content.get("run") == run or age > STALE_SECONDS:
        return None
    if host == socket.gethostname() and not _is_alive(pid):
        return None
    return f"{host}, process {pid}, {age:.0f} s ago"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def owned(out: str, run: str) -> Iterator[Owner]:
    """A claim that ends with the block, however it ends."""
    owner = Owner(out, run)
    owner.claim()
    try:
        yield owner
    finally:
        filesystem, path = filesystem_of(f"{out}/{JOB}/{OWNER}")
        if _claim(_read(f"{out}/{JOB}/{OWNER}")).get("run") == run:
            filesystem.delete_file(path)


def _make_folder(out: str) -> None:
    filesystem, root = filesystem_of(f"{out}/{JOB}")
    filesystem.create_dir(root, recursive=True)


def _read(place: str) -> str | None:
    filesystem, path = filesystem_of(place)
    try:
        with filesystem.open_input_stream(path) as stream:
            text: str = stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    return text
