"""Leftovers of dead runs in an output directory, and their removal: a job can go on or begin from every state.

    no manifest, _job/plan.json         a job that goes on
    no manifest, _job without a plan    a job that died before its plan, or an alignment: nothing is worth keeping
    manifest, _job/plan.json            an extension that goes on; if the manifest holds its input files, one that ended
    manifest, _job without a plan       a job that was finished: nothing is worth keeping
    files that the manifest lacks       of tries that died, or of workers that outlived a finished job

In: an output directory. Out: the same directory without what is not worth keeping. A job's plan is removed first: from
then on the rest is nobody's, in whatever order an object store removes it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from contextlib import suppress

import pyarrow.fs as pafs

from pipeline.claim import owned
from pipeline.job import begun_plan
from pipeline.task import JOB, PLAN
from vocab.errors import OutputExistsError
from vocab.store.files import filesystem_of
from vocab.store.label_shards import LabelShards
from vocab.store.label_writing import refuse_used_directory
from vocab.store.manifest import MANIFEST, InputFile, Manifest

STAGING = "_staging"
# What jobs and alignments write beside their folders, and what it is called until it is whole.
OURS = re.compile(r"part-.+\.parquet|(counts|rejects)(-\d+)?\.parquet|\.(part-|counts|rejects|manifest\.json).*\.tmp")


def finished_manifest(out: str) -> Manifest | None:
    """The manifest of a finished directory; None if there is none."""
    filesystem, root = filesystem_of(out)
    if filesystem.get_file_info(f"{root}/{MANIFEST}").type != pafs.FileType.File:
        return None
    return LabelShards.open(out, checksums=False).manifest


def refuse_used(out: str) -> None:
    """Raise OutputExistsError if the place holds anything but leftovers of a run that died before it had a plan.

    Leftovers of a run that died after it had finished are removed first.
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
    """Remove leftovers beside a finished directory's files, unless an extension that can go on left them.

    Raises OutputExistsError if another run is at work in the directory.
    """
    if _is_left_over(out, manifest):
        with owned(out):
            # Another run may have ended meanwhile.
            if _is_left_over(out, manifest):
                remove_rest(out, manifest)


def remove_rest(out: str, manifest: Manifest | None) -> None:
    """Remove the job's plan and all files but those of the manifest; the job's folder goes with the claim in it."""
    filesystem, root = filesystem_of(out)
    if _has_plan(out):
        filesystem.delete_file(f"{root}/{JOB}/{PLAN}")
    remove_unnamed(out, manifest)


def remove_unnamed(out: str, manifest: Manifest | None) -> None:
    """Remove files of dead tries and of alignments beside the manifest's files."""
    filesystem, root = filesystem_of(out)
    # The staging folder last: it tells that the rest is not worth keeping.
    for name in _unnamed(out, () if manifest is None else [file.path for file in manifest.files]):
        (filesystem.delete_dir if name == STAGING else filesystem.delete_file)(f"{root}/{name}")


def _is_left_over(out: str, manifest: Manifest) -> bool:
    plan = begun_plan(out)
    if plan is not None and not _states(plan.inputs) <= _states(manifest.inputs):
        return False
    return JOB in _entries(out) or bool(_unnamed(out, [file.path for file in manifest.files]))


def _states(files: Iterable[InputFile]) -> set[tuple[str, int, str]]:
    """Files as they were found; of one that is labelled again, the old manifest knows the path, but another state."""
    return {(file.path, file.size, file.modified) for file in files}


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
