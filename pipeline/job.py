"""The job's own folder inside the output directory: its plan, and the tasks that are done.

    labels/_job/
      plan.json            options, labeler, input files as they were found, tasks; written once
      owner.json           the run that is at work (`pipeline.claim`)
      task-00012.json      task 12 is done, and wrote these files (`task.Done`)
      counts-*.parquet  rejects-*.parquet     files of tasks beside their part files

A run that finds a plan goes on where the last one stopped. The folder is removed once the manifest is written;
`pipeline.claim` deals with the remains of a run that died before.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow.fs as pafs

from pipeline.config import Label
from pipeline.planning import Task
from pipeline.task import JOB, PLAN, Done
from vocab.errors import FormatError, MismatchError
from vocab.store.field_types import require_types
from vocab.store.files import filesystem_of, open_stream, write_whole
from vocab.store.manifest import InputFile
from vocab.store.sealing import from_sealed_json, to_sealed_json
from vocab.store.secrets import public

PLAN_VERSION = 1
LEXICON = "lexicon"
"""field of the configuration: number and checksum of the user's own words, in place of their location"""
# Options that do not change the result, or that the plan holds in other fields.
NOT_COMPARED = (
    "captions", "out", "master", "extend", "replace_changed", "log", "strict", "task_bytes", "allow_unlabelled",
    "lexicon",
)  # fmt: skip


@dataclass(frozen=True)
class JobPlan:
    """The work of a job: equal plans give equal labels."""

    config: dict[str, Any]
    """options that the result depends on"""
    labeler: str
    fingerprint: str
    wordnet: str
    inputs: tuple[InputFile, ...]
    tasks: tuple[Task, ...]
    """not compared: the cut of the work depends on the cluster that began it"""
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    """not compared: distinguishes the tasks of this plan from those of another"""

    def to_json(self) -> str:
        """The text of plan.json."""
        content = {
            "version": PLAN_VERSION,
            # First, because tasks read only the beginning (`task.refuse_ended`).
            "id": self.id,
            "config": public(self.config),
            "labeler": self.labeler,
            "fingerprint": self.fingerprint,
            "wordnet": self.wordnet,
            "inputs": [[file.public_path, file.size, file.modified] for file in self.inputs],
            "tasks": [task.to_json() for task in self.tasks],
        }
        return to_sealed_json(content)

    @classmethod
    def from_json(cls, location: str, text: str) -> JobPlan:
        """The inverse of `to_json`. Raises FormatError for anything else."""
        try:
            content = from_sealed_json(location, text)
            if content["version"] != PLAN_VERSION:
                raise _no_plan(location, f"version {content['version']}")
            plan = cls(
                config=content["config"],
                labeler=content["labeler"],
                fingerprint=content["fingerprint"],
                wordnet=content["wordnet"],
                inputs=tuple(InputFile(path, size, modified) for path, size, modified in content["inputs"]),
                tasks=tuple(map(Task.from_json, content["tasks"])),
                id=content["id"],
            )
            pieces = [piece for task in plan.tasks for piece in task.pieces]
            spans = [piece.span for piece in pieces if piece.span is not None]
            for part in (plan, *plan.inputs, *plan.tasks, *pieces, *spans):
                require_types(part)
            return plan
        except (ValueError, KeyError, TypeError) as error:
            raise _no_plan(location, f"unreadable content ({error!r})") from error


def read_as(plan: JobPlan, inputs: Sequence[InputFile]) -> JobPlan:
    """A plan as it was read from its file, with the locations of the same inputs as this command gives them."""
    locations = {file.public_path: file.path for file in inputs}
    if all(public_path == path for public_path, path in locations.items()):
        return plan
    tasks = tuple(
        replace(task, pieces=tuple(replace(piece, path=locations[piece.path]) for piece in task.pieces))
        for task in plan.tasks
    )
    return replace(plan, inputs=tuple(replace(file, path=locations[file.path]) for file in plan.inputs), tasks=tasks)


def _no_plan(location: str, found: str) -> FormatError:
    return FormatError(
        location,
        found=found,
        wanted=f"the plan of a job, version {PLAN_VERSION}",
        remedy="Go on with the release that began the job, or begin anew in another directory.",
    )


def config_of(options: Label) -> dict[str, Any]:
    """The options that the result depends on, as JSON holds them."""
    config = {name: value for name, value in asdict(options).items() if name not in NOT_COMPARED}
    held: dict[str, Any] = json.loads(json.dumps(config, default=str))
    return held


def begun_plan(out: str) -> JobPlan | None:
    """The plan of a job that was begun in the directory, or None."""
    text = read_text(f"{out}/{JOB}/{PLAN}")
    return None if text is None else JobPlan.from_json(f"{out}/{JOB}/{PLAN}", text)


def write_plan(out: str, plan: JobPlan) -> None:
    """Write the plan to its file."""
    with write_whole(f"{out}/{JOB}/{PLAN}") as file:
        file.write(plan.to_json().encode())


def refuse_other_plan(out: str, begun: JobPlan, now: JobPlan) -> None:
    """Raise MismatchError, naming the first difference, unless both plans give the same result."""
    for thing, before, after in _differences(begun, now):
        raise MismatchError(
            f"{out}: {thing}",
            found=after,
            wanted=f"{before}, as when the job began",
            remedy="Give the options that it began with, or another directory as --out."
            + (" --lexicon takes a label directory too, for the words that it holds." if LEXICON in thing else ""),
        )


def _differences(begun: JobPlan, now: JobPlan) -> Iterator[tuple[str, str, str]]:
    """Yield what differs, and how it was and is: options, the labeler, input files."""
    # A plan of an earlier release lacks options that came later: it did what these do by default.
    defaults = config_of(Label(("",), ""))
    for name in [*begun.config, *now.config]:
        # Through JSON, which has no tuples.
        old, new = (json.dumps(public(plan.config.get(name, defaults.get(name)))) for plan in (begun, now))
        if old != new:
            yield f"option {name}", old, new
    if begun.fingerprint[:12] != now.fingerprint[:12]:
        yield f"labeler {now.labeler}", f"tables {begun.fingerprint[:12]}", f"tables {now.fingerprint[:12]}"
    states = [{file.public_path: _state(file) for file in plan.inputs} for plan in (begun, now)]
    for path in [*states[0], *states[1]]:
        was, is_now = (held.get(path, "no such file") for held in states)
        if was != is_now:
            yield f"input file {path}", was, is_now


def _state(file: InputFile) -> str:
    return f"{file.size:,} bytes of {file.modified}"


def finished_tasks(out: str, plan: str) -> dict[int, Done]:
    """Records of the plan's finished tasks, from their markers, by number of the task."""
    return {done.task: done for done in Markers(out, plan).new()}


class Markers:
    """Completion markers of a plan's tasks, each read once."""

    def __init__(self, out: str, plan: str) -> None:
        self._directory, self._plan = f"{out}/{JOB}", plan
        self._seen: set[str] = set()

    def new(self) -> list[Done]:
        """Records of tasks that finished since the last call."""
        filesystem, root = filesystem_of(self._directory)
        infos = filesystem.get_file_info(pafs.FileSelector(root, allow_not_found=True))
        names = {info.base_name for info in infos if info.base_name.startswith("task-")} - self._seen
        self._seen |= names
        texts = (
            (location, read_text(location)) for location in (f"{self._directory}/{name}" for name in sorted(names))
        )
        found = [_done(location, text) for location, text in texts if text is not None]
        return [done for done in found if done is not None and done.plan == self._plan]


def _done(location: str, text: str) -> Done | None:
    """Content of a marker; None for a damaged one, whose task is then run again."""
    try:
        return Done.from_json(location, text)
    except FormatError:
        return None


def read_text(location: str) -> str | None:
    """Text of a file, or None if there is no such file."""
    try:
        with open_stream(location) as stream:
            text: str = stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    return text
