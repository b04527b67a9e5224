"""The directory of a fine-tuning run: what lies in it, whether a run may go on there, and its first and last files.

run.lock                                             while it goes
config.json  environment.json                        written at the start
transfer_init/                                       with --init transfer: what every class begins with
metrics.jsonl  bad_samples.jsonl  tensorboard/       while it goes
checkpoints/step-00001000/
spikes.jsonl                                         after a loss that is no number
model/  results.json  results.md                     at the end; model/ is a folder that timm loads
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.checkpoints.checkpoint import newest
from trainer.config import differences, to_json
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Rank
from trainer.model.vit import classifier_of
from trainer.records.environment import environment, record_start
from trainer.records.run_directory import Found
from trainer.records.run_lock import entries
from trainer.transfer.config import CHANGEABLE, PLACES, FinetuneConfig
from trainer.transfer.match_table import STEM, write_matches
from trainer.transfer.tasks.contents import content_of
from trainer.transfer.tasks.opening import Task
from trainer.transfer.transfer_init import ClassMatch
from trainer.weights.folder import CONFIG, ModelSpec, first_conv_of, new_folder, timm_fields, write_model
from trainer.weights.pretrained import Pretrained
from vocab.errors import MismatchError, OutputExistsError
from vocab.pages.text import counted
from vocab.store.files import write_whole
from vocab.store.sealing import from_sealed_json, to_sealed_json
from vocab.store.secrets import without_secrets

MODEL, RESULTS, TABLE = "model", "results.json", "results.md"


def fingerprint_of(pretrained: Pretrained, train: LabelledImages, task: Task) -> str:
    """sha256 of what a run learns from, wherever it lies: weights to begin with, images, and names of classes."""
    known = [pretrained.fingerprint, content_of(train, task.test), *task.class_names]
    return hashlib.sha256("\0".join(known).encode()).hexdigest()


def earlier_fingerprint_of(pretrained: Pretrained, train: LabelledImages) -> str:
    """The fingerprint of runs that an earlier release started: files count by their time of change."""
    digest = hashlib.sha256(f"{pretrained.fingerprint} {train.fingerprint}".encode())
    for numbers in (train.rows, train.offsets, train.classes):
        digest.update(numbers.astype("<i8").tobytes())
    return digest.hexdigest()


def examine(config: FinetuneConfig, fingerprint: str, *, earlier: str) -> Found:
    """What there is to go on from; nothing for a fresh start. Reads every byte of a checkpoint, writes nothing.

    Raises OutputExistsError if `out` holds something that is no fine-tuning run, MismatchError if it holds one of
    another configuration, model or images, FormatError if none of its checkpoints is whole.
    """
    out = config.out
    stored = stored_config(out)
    if stored is None:
        return Found()
    differing = differences(stored, config, changeable=CHANGEABLE)
    moved = {name for name in differing if name in PLACES}
    if differing.keys() - moved:
        differing = {name: values for name, values in differing.items() if name not in moved}
        raise MismatchError(
            out,
            found="a run with " + ", ".join(f"{name}={before!r}" for name, (before, _) in differing.items()),
            wanted=", ".join(f"{name}={now!r}" for name, (_, now) in differing.items()),
            remedy="Give the options the run was started with, or choose another --out.",
        )
    found, faults = newest(out)
    if found is None:
        return Found(faults=faults)
    if found.fingerprint not in ({fingerprint} if moved else {fingerprint, earlier}):
        raise MismatchError(
            found.path,
            found="a checkpoint of other weights to begin with, other images or other names of classes",
            wanted=f"those of {config.model}, {without_secrets(config.task.train)} and "
            f"{without_secrets(config.task.test)} as they are now",
            remedy="Put them back as they were when the run was started, or choose another --out.",
        )
    return Found(found, found.state, faults)


def begin(config: FinetuneConfig, rank: Rank, matches: list[ClassMatch], *, step: int) -> None:
    """Make the directory and write down what the run is, and this start of it. For the main process alone.

    `matches`: what each class begins with, for Transfer Init.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    with write_whole(config.out / CONFIG) as file:
        file.write(to_json(config).encode())
    record_start(config.out, environment(rank, step=step))
    if matches:
        with _renewed(config.out / STEM) as work:
            write_matches(matches, work, alpha=config.alpha)


@dataclass(frozen=True, eq=False)
class Result:
    """What a finished run leaves."""

    weights: Mapping[str, Tensor]
    """the moving average, under timm's names"""
    class_names: Sequence[str]
    numbers: Mapping[str, Any]
    """results.json"""
    page: str
    """results.md"""


def write_result(out: Path, pretrained: Pretrained, result: Result) -> None:
    """Write the model's folder, then the results; for the main process alone."""
    model = pretrained.model
    build = ModelSpec(
        architecture=pretrained.architecture,
        arguments=pretrained.arguments,
        preprocessing=pretrained.preprocessing,
        features=classifier_of(model, pretrained.architecture).in_features,
        global_pool=str(getattr(model, "global_pool", "token")),
        first_conv=first_conv_of(model),
    )
    fields = timm_fields(build, classes=len(result.class_names))
    fields["label_names"] = list(result.class_names)
    with _renewed(out / MODEL) as work:
        write_model(work, {name: tensor.detach().cpu() for name, tensor in result.weights.items()}, fields)
    with write_whole(out / TABLE) as file:
        file.write(result.page.encode())
    with write_whole(out / RESULTS) as file:
        file.write(to_sealed_json(result.numbers, indent=2).encode())


def _renewed(folder: Path) -> AbstractContextManager[Path]:
    """A folder to write into, in place of one that an earlier start of the same run wrote."""
    if folder.exists():
        shutil.rmtree(folder)
    return new_folder(folder)


def stored_config(out: Path) -> dict[str, Any] | None:
    """What config.json says; None where there is no run yet. Raises OutputExistsError for something that is no run."""
    if not out.exists() or (out.is_dir() and not entries(out)):
        return None
    try:
        stored = from_sealed_json(out / CONFIG, (out / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise _occupied(out, "no readable config.json") from error
    if not isinstance(stored, dict) or not {"model", "task", "init", "percent"} <= stored.keys():
        raise _occupied(out, "a config.json of something else")
    return stored


def _occupied(out: Path, found: str) -> OutputExistsError:
    kind = "a file" if out.is_file() else f"{counted(len(entries(out)), 'entry', 'entries')} and {found}"
    return OutputExistsError(
        out,
        found=kind,
        wanted="an empty or new directory, or a fine-tuning run to continue",
        remedy="Choose another --out, or remove this one.",
    )
