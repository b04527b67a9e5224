"""An output directory in the hands of one run: its claim, and removal of what dead runs left there.

A claim, _job/owner.json, is renewed while the run is at work. One that was not renewed for a minute, or whose process
is gone from this machine, may be taken over. A job can go on or begin from every state that a dead run leaves:

    no manifest, _job/plan.json         a job that goes on
    no manifest, _job without a plan    a job that died before its plan, or an alignment: nothing is worth keeping
    manifest, _job/plan.json            an extension that goes on; if the manifest holds its input files, one that ended
    manifest, _job without a plan       a finished job: nothing is worth keeping
    files that the manifest lacks       from attempts that died, or from workers that outlived a finished job

A job's plan is removed first. From then on its other files are worth nothing, in whatever order they are removed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

import pyarrow.fs as pafs

from pipeline.job import begun_plan, read_text
from pipeline.task import JOB, PLAN
from vocab.errors import CatlipError, OutputExistsError
from vocab.store.files import filesystem_of, write_whole
from vocab.store.label_shards import LabelShards
from vocab.store.label_writing import refuse_used_directory
from vocab.store.locks import has_ended, machine
from vocab.store.manifest import MANIFEST, Manifest

OWNER = "owner.json"
STALE_SECONDS = 60.0
"""seconds without renewal after which an owner counts as dead"""


class Owner:
    """A run's claim on an output directory."""

    def __init__(self, out: str, run: str) -> None:
        self._location = f"{out}/{JOB}/{OWNER}"
        self._out, self._run = out, run

    def claim(self) -> None:
        """Claim the directory. Raises OutputExistsError if another run is at work in it."""
        text = read_text(self._location)
        if text is not None and (other := _other_at_work(text, self._run)):
            raise OutputExistsError(
                self._out,
                found=f"another run at work in it ({other})",
                wanted="one run at a time",
                remedy="Wait for it or stop it; a run that died leaves the directory free after a minute.",
            )
        filesystem, folder = filesystem_of(f"{self._out}/{JOB}")
        filesystem.create_dir(folder, recursive=True)
        self._write()
        self.check()

    def renew(self) -> None:
        """Renew the claim of a run that is alive. Raises OutputExistsError if another run has taken over."""
        self.check()
        self._write()

    def check(self) -> None:
        """Raise OutputExistsError unless the claim is still this run's."""
        text = read_text(self._location)
        content = {} if text is None else _content(text)
        if content.get("run") == self._run:
            return
        other = f"host {content.get('host')}, process {content.get('pid')}"
        raise OutputExistsError(
            self._out,
            found="no claim any more" if text is None else f"the claim of another run ({other})",
            wanted="this run's own claim",
            remedy="Two runs were started on one directory. Let the other run finish; if no other runs, give the same "
            "command again.",
        )

    def release(self) -> None:
        """End the claim, and remove the job's folder unless it holds a plan to go on with."""
        if _content(read_text(self._location) or "{}").get("run") != self._run:
            return
        filesystem, root = filesystem_of(self._out)
        if _has_plan(self._out):
            filesystem.delete_file(f"{root}/{JOB}/{OWNER}")
            return
        filesystem.delete_dir(f"{root}/{JOB}")
        if not filesystem.get_file_info(pafs.FileSelector(root, allow_not_found=True)):
            # A mounted folder cannot be removed.
            with suppress(OSError):
                filesystem.delete_dir(root)

    def _write(self) -> None:
        host = socket.gethostname()
        content = {"run": self._run, "machine": machine(), "host": host, "pid": os.getpid(), "time": time.time()}
        with write_whole(self._location) as file:
            file.write(json.dumps(content).encode())


@contextmanager
def owned(out: str) -> Iterator[Owner]:
    """Claim the directory while the block runs: the claim is renewed, and ends with the block."""
    owner = Owner(out, secrets.token_hex(8))
    owner.claim()
    try:
        with repeated(owner.renew, seconds=STALE_SECONDS / 12):
            yield owner
    finally:
        owner.release()


@contextmanager
def repeated(action: Callable[[], None], *, seconds: float) -> Iterator[None]:
    """Repeat an action every few seconds while the block runs, until an error of ours ends it.

    After an error of the file system, the action is tried again.
    """
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            try:
                action()
            except OSError:
                continue
            except CatlipError:
                # The claim is lost. The story checks it before every step that would harm another run.
                return

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _content(text: str) -> dict[str, object]:
    """Content of a claim; empty for a damaged one, which nobody holds."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _other_at_work(text: str, run: str) -> str | None:
    """Describe another run that is alive; None if the claim is this run's, too old, or its process is gone."""
    content = _content(text)
    try:
        host, pid, age = content["host"], int(str(content["pid"])), time.time() - float(str(content["time"]))
    except (ValueError, KeyError):
        return None
    if content.get("run") == run or age > STALE_SECONDS or not 0 < pid < 1 << 31:
        return None
    if content.get("machine") == machine() and has_ended(pid):
        return None
    return f"host {host}, process {pid}, {age:.0f} s ago"


STAGING = "_staging"
# Names of files that jobs and alignments write beside their folders, and of the same while they are written.
OURS = re.compile(
    r"part-.+\.parquet|(counts|rejects)(-\d+)?\.parquet|lexicon\.parquet|\.(part-|counts|rejects|lexicon|manifest\.json).*\.tmp"
)


def finished_manifest(out: str) -> Manifest | None:
    """The manifest of a finished directory, or None."""
    filesystem, root = filesystem_of(out)
    if filesystem.get_file_info(f"{root}/{MANIFEST}").type != pafs.FileType.File:
        return None
    return LabelShards.open(out, checksums=False).manifest


def refuse_used(out: str) -> None:
    """Raise OutputExistsError if the directory holds anything but leftovers of a run that died before it had a plan.

    Leftovers of a run that died after it had written its manifest are removed first.
    """
    if (manifest := finished_manifest(out)) is not None:
        with suppress(OutputExistsError):
            settle(out, manifest)
    elif not _has_plan(out):
        rest = set(_entries(out)) - set(_unnamed(out, ())) - {JOB}
        if not rest and {JOB, STAGING} & set(_entries(out)):
            return
    refuse_used_directory(out)


def settle(out: str, manifest: Manifest) -> None:
    """Remove leftovers beside a finished directory's files, unless they are of an extension that can go on.

    Raises OutputExistsError if another run is at work in the directory.
    """
    if _is_left_over(out, manifest):
        with owned(out):
            # Another run may have ended meanwhile.
            if _is_left_over(out, manifest):
                remove_rest(out, manifest)


def remove_rest(out: str, manifest: Manifest | None) -> None:
    """Remove the job's plan and all files that the manifest does not name. The claim's end removes the job's folder."""
    filesystem, root = filesystem_of(out)
    if _has_plan(out):
        filesystem.delete_file(f"{root}/{JOB}/{PLAN}")
    remove_unnamed(out, manifest)


def remove_unnamed(out: str, manifest: Manifest | None) -> None:
    """Remove files of dead attempts and of alignments that the manifest does not name."""
    filesystem, root = filesystem_of(out)
    # The staging folder goes last: while it is there, the rest is known to be leftovers.
    for name in _unnamed(out, () if manifest is None else [file.path for file in manifest.files]):
        (filesystem.delete_dir if name == STAGING else filesystem.delete_file)(f"{root}/{name}")


def _is_left_over(out: str, manifest: Manifest) -> bool:
    plan = begun_plan(out)
    # The old manifest has a file that is labelled again in another state.
    if plan is not None and not {file.state for file in plan.inputs} <= {file.state for file in manifest.inputs}:
        return False
    return JOB in _entries(out) or bool(_unnamed(out, [file.path for file in manifest.files]))


def _unnamed(out: str, named: Collection[str]) -> list[str]:
    names = _entries(out)
    files = [name for name in names if OURS.fullmatch(name) and name not in named]
    return files + [name for name in names if name == STAGING]


def _entries(out: str) -> list[str]:
    filesystem, root = filesystem_of(out)
    if filesystem.get_file_info(root).type != pafs.FileType.Directory:
        return []
    return sorted(info.base_name for info in filesystem.get_file_info(pafs.FileSelector(root, allow_not_found=True)))


def _has_plan(out: str) -> bool:
    filesystem, root = filesystem_of(f"{out}/{JOB}/{PLAN}")
    return bool(filesystem.get_file_info(root).type == pafs.FileType.File)
