"""Extension of a finished label directory by input files that it does not hold yet."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from pipeline.claim import finished_manifest, settle
from pipeline.config import Label
from pipeline.job import LEXICON, JobPlan, begun_plan, refuse_other_plan
from pipeline.reading.inputs import InputFiles
from vocab.errors import InputError, MismatchError, OutputExistsError
from vocab.store.files import SCHEME_PATTERN
from vocab.store.manifest import InputFile, Manifest


def base_of(out: str, options: Label) -> Manifest | None:
    """The manifest of the finished directory to extend, or None for a new directory.

    Leftovers of dead runs in a finished directory are removed. Raises OutputExistsError for a finished directory
    without --extend, or if another run is at work in it, and InputError for --extend without a finished directory.
    """
    manifest = finished_manifest(out)
    if manifest is None:
        if options.extend:
            raise InputError(
                out,
                found="no finished label directory",
                wanted="a finished label directory to extend",
                remedy="Check --out; leave --extend out for a new one.",
            )
        return None
    if options.extend:
        settle(out, manifest)
        return manifest
    with suppress(OutputExistsError):
        settle(out, manifest)
    raise OutputExistsError(
        out,
        found="a finished label directory",
        wanted="an empty or new directory, or one whose job was stopped",
        remedy="Choose another output directory, or add new input files to it with --extend.",
    )


def refuse_meanwhile(out: str, base: Manifest | None, begun: JobPlan | None) -> None:
    """Raise OutputExistsError if the directory has changed between the first look at it and its claim."""
    if (finished_manifest(out), begun_plan(out)) != (base, begun):
        raise OutputExistsError(
            out,
            found="the work of another run, which ended as this one began",
            wanted="one run at a time",
            remedy="Give the same command again: it goes on from what is there.",
        )


OWN_SHARDS = "shards"
"""field of the manifest's config: shards, by path, that have a folder in their name because an earlier day has their
stem"""


@dataclass(frozen=True)
class Extension:
    """Comparison of the files that were found with those that a finished directory holds."""

    base: Manifest
    """manifest of the finished directory"""
    inputs: InputFiles
    """files to label: new ones, and changed ones to be labelled again"""
    kept: tuple[InputFile, ...]
    """held files whose rows stay, given again or not, with their present times"""
    replaced: tuple[InputFile, ...] = ()
    """held files whose rows go, in their old state"""
    same: int = 0
    """files given again that are held already"""

    @property
    def gone_shards(self) -> list[str]:
        """Shards whose rows are labelled again."""
        return [self.inputs.shard_of(file.path) for file in self.replaced]

    def summary(self) -> str:
        """One line with the numbers of files."""
        if not self.inputs.files:
            return f"nothing new: the directory holds every input file given ({self.same:,}); nothing is written"
        again = len(self.replaced)
        return (
            f"input files new: {len(self.inputs.files) - again:,}; changed, to be labelled again: {again:,}; held "
            f"already: {self.same:,}; held and not given, left as they are: {len(self.kept) - self.same:,}"
        )


def extension_of(
    inputs: InputFiles,
    base: Manifest,
    options: Label,
    digests: Callable[[Sequence[InputFile]], Mapping[str, str]] | None,
) -> Extension:
    """Compare the files that were found with those that a finished directory holds.

    `inputs` names shards as the directory does. A file is held if the directory has one of the same path, size and
    time; or one of the same path or shard, the same size, and the same digest of rows. `digests` reads files again of
    which only the time or the folder differs; without it, such files count as new.

    A new file of another day gets its folder into its shard's name if a held file has that name already.

    Raises MismatchError for a changed file without --replace-changed, and for any other file whose shard would have the
    name of another shard; InputError for --replace-changed where a column names the shards.
    """
    _refuse_outside(inputs)
    held = {file.public_path: file for file in base.inputs}
    own = dict(inputs.own_shards)
    names = {} if options.shard_column else {inputs.shard_of(file.path): file for file in base.inputs}
    alike = {file.path: held.get(file.public_path) or names.get(inputs.shard_of(file.path)) for file in inputs.files}
    doubtful = {file: None for file in inputs.files if _is_doubtful(file, alike[file.path])}
    again = digests(tuple(doubtful)) if doubtful and digests is not None else {}
    label, replaced, same = list[InputFile](), list[InputFile](), dict[str, InputFile]()
    for file in inputs.files:
        old = alike[file.path]
        if old is None or (digests is None and file in doubtful):
            label.append(file)
        elif old.state == file.state or (old.digest and again.get(file.path) == old.digest):
            # A new time of the file is remembered, so that it is not read again; a new folder is not.
            is_there = old.public_path == file.public_path
            same[old.path] = replace(old, modified=file.modified) if is_there else same.get(old.path, old)
        elif old.public_path != file.public_path:
            own[file.public_path] = _shard_of_another_day(inputs, file.public_path, old.public_path)
            label.append(file)
        elif not options.replace_changed:
            raise _changed(old, file)
        else:
            label.append(file)
            replaced.append(old)
    inputs = replace(inputs, own_shards=own)
    gone = {file.path for file in replaced}
    if options.shard_column:
        _refuse_replacing(replaced)
    else:
        held_on = (old for old in base.inputs if old.path not in gone or old.path in same)
        if (two := inputs.of_one_shard([*label, *held_on])) is not None:
            raise _same_name(inputs.shard_of(two[1]), two[1], two[0])
    kept = tuple(same.get(file.path, file) for file in base.inputs if file.path not in gone)
    return Extension(base, replace(inputs, files=tuple(label)), kept, tuple(replaced), len(same))


def _is_doubtful(file: InputFile, old: InputFile | None) -> bool:
    """Tell whether only the content of a file can show that it is the held one."""
    return old is not None and old.state != file.state and old.size == file.size and old.digest != ""


def _refuse_outside(inputs: InputFiles) -> None:
    """Raise MismatchError for a file outside the common folder that the held files' shards are named from."""
    folder = inputs.common_folder
    for file in inputs.files:
        if folder is not None and not re.sub(SCHEME_PATTERN, "", file.path).startswith(folder):
            raise MismatchError(
                file.path,
                found="a file outside the folder that the held files' shards are named from",
                wanted=f"files below {folder}",
                remedy="Give the corpus by the path that it was labelled by, or label all of it into a new directory.",
            )


def _shard_of_another_day(inputs: InputFiles, path: str, other: str) -> str:
    """Name the shard of a new file with the one folder in which its path differs from a held file's: "dt=2/00000".

    Raises MismatchError unless the two folders are days or partitions, such as dt=1 and dt=2 or 2024-01-01 and
    2024-01-02: a file in any other folder may be the held one, moved.
    """
    folders, others = path.split("/")[:-1], other.split("/")[:-1]
    differing = [at for at, (own, held) in enumerate(zip(folders, others, strict=False)) if own != held]
    if inputs.common_folder is not None or len(folders) != len(others) or len(differing) != 1:
        raise _same_name(inputs.shard_of(path), path, other)
    at = differing[0]
    if _without_value(folders[at]) != _without_value(others[at]):
        raise _same_name(inputs.shard_of(path), path, other)
    return "/".join([*folders[at:], inputs.shard_of(path)])


def _without_value(folder: str) -> str:
    """Name of a partition, or of a folder without its numbers: "lang=", "day#", "#-#-#"."""
    name, equals, _ = folder.partition("=")
    return name + equals if equals else re.sub(r"\d+", "#", folder)


def _refuse_replacing(changed: Sequence[InputFile]) -> None:
    """Raise InputError for a changed file whose rows cannot be told from other files' rows."""
    if changed:
        raise InputError(
            "--replace-changed",
            found=f"given with --shard-column, and {changed[0].path} changed",
            wanted="labels whose shards are their input files: otherwise a row's input file is not known",
            remedy="Label the changed corpus into a new directory.",
        )


def _same_name(shard: str, path: str, other: str) -> MismatchError:
    return MismatchError(
        path,
        found=f"a second file for shard {shard!r}, which {other} has",
        wanted="a shard of its own for each file",
        remedy="Label all folders in one job into a new directory: shards of files with equal names are then named by "
        "their paths. Or rename the new file, or lay it beside the held day's folder (dt=1, dt=2).",
    )


def _changed(old: InputFile, file: InputFile) -> MismatchError:
    if old.size != file.size:
        found = f"{file.size:,} bytes of {file.modified}"
    elif old.digest:
        found = f"other content of the same size, of {file.modified}"
    else:
        found = f"the time {file.modified}; the labels hold no digest to tell whether the content is the same"
    return MismatchError(
        file.path,
        found=found,
        wanted=f"{old.size:,} bytes of {old.modified}, as when it was labelled",
        remedy="Give --replace-changed with --extend to label changed files again, and only those.",
    )


def refuse_other_base(out: str, base: Manifest, plan: JobPlan) -> None:
    """Raise MismatchError unless the same labeler and options made the directory, apart from its files' names."""
    as_plan = JobPlan(
        config={name: base.config[name] for name in (*plan.config, LEXICON) if name in base.config},
        labeler=base.labeler,
        fingerprint=base.labeler_fingerprint,
        wordnet=base.wordnet,
        inputs=plan.inputs,
        tasks=(),
    )
    refuse_other_plan(out, as_plan, plan)
