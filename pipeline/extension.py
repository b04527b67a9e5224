"""A finished label directory, and the input files that it does not hold yet.

In: an output directory and the files that a job found. Out: the manifest that the job extends, and the new files alone.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from pipeline.config import Label
from pipeline.inputs import Inputs
from pipeline.job import Plan, begun_plan, refuse_other_plan
from pipeline.remains import finished_manifest, settle
from vocab.errors import InputError, MismatchError, OutputExistsError
from vocab.manifest import InputFile, Manifest


def base_of(out: str, options: Label) -> Manifest | None:
    """The manifest of the finished directory that is to be extended; None for a new one.

    What a run that died left in a finished directory is removed. Raises OutputExistsError for a finished directory
    without --extend, or if another run is at work in it, InputError for --extend without a finished directory.
    """
    manifest = finished_manifest(out)
    if manifest is None:
        if options.extend:
            raise InputError(
                out,
                found="no finished label directory",
                wanted="one to extend",
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


def refuse_meanwhile(out: str, base: Manifest | None, begun: Plan | None) -> None:
    """Raise OutputExistsError unless the directory is, now that it is claimed, what it was when it was looked at."""
    if (finished_manifest(out), begun_plan(out)) != (base, begun):
        raise OutputExistsError(
            out,
            found="the work of another run, which ended as this one began",
            wanted="one run at a time",
            remedy="Give the same command again: it goes on from what is there.",
        )


def new_inputs(inputs: Inputs, base: Manifest | None) -> Inputs:
    """The files that the finished directory does not hold. Raises MismatchError for one that changed since."""
    if base is None:
        return inputs
    held = {file.path: file for file in base.inputs}
    new: list[InputFile] = []
    for file in inputs.files:
        old = held.get(file.path)
        if old is None:
            new.append(file)
        elif (old.size, old.modified) != (file.size, file.modified):
            raise MismatchError(
                file.path,
                found=f"{file.size:,} bytes of {file.modified}",
                wanted=f"{old.size:,} bytes of {old.modified}, as when it was labelled",
                remedy="Label the changed corpus into a new directory.",
            )
    if not new:
        raise InputError(
            "--extend", found="no new input file", wanted="some", remedy="The directory holds all of them already."
        )
    return replace(inputs, files=tuple(new))


def refuse_other_base(out: str, base: Manifest, plan: Plan) -> None:
    """Raise MismatchError unless the directory was made by the same labeler and options."""
    as_plan = Plan(
        config={name: base.config.get(name) for name in plan.config},
        labeler=base.labeler,
        fingerprint=base.labeler_fingerprint,
        wordnet=base.wordnet,
        inputs=plan.inputs,
        tasks=(),
    )
    refuse_other_plan(out, as_plan, plan)
