"""Fine-tuning, from top to bottom: a pre-trained model and a task's images in, a model of the task's classes out.

In: a `FinetuneConfig`. Out: a run directory (`trainer/records/run_directory.py`) with the model and its results.

The loop is `Run.train` (`trainer/run.py`), the same as that of pre-training.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from trainer.config import OptimConfig
from trainer.data.decoding import Decoding, EvalTransform
from trainer.data.labelled_images import LabelledImages
from trainer.data.resolution import FixedResolution
from trainer.distributed import Rank, join_processes, on_main, set_up_torch
from trainer.job import Job
from trainer.loss.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy
from trainer.model.backbone import checkpoint_activations, meta_copy, replace_classifier
from trainer.model.mixing import Mixing
from trainer.model.objective import Objective, scaled
from trainer.model.per_image import set_drop_path
from trainer.probe.linear import Head, random_head
from trainer.probe.measures import outputs
from trainer.records import run_lock
from trainer.records.record import Record
from trainer.records.run_directory import ResumePoint, RunKind, find_resume_point, stored_config
from trainer.run import Run, stopped
from trainer.speed.flops import image_flops
from trainer.speed.peak import peaks_of
from trainer.step.step import Step
from trainer.step.training import Training, training_of
from trainer.transfer.batches import EpochPlan, batches
from trainer.transfer.class_tables import match_summary
from trainer.transfer.config import CHANGEABLE, PLACES, FinetuneConfig
from trainer.transfer.finetune_results import FinetuneInputs, FinetuneResults, notes_at_start
from trainer.transfer.tasks.files import content_of
from trainer.transfer.tasks.opening import open_task, subset
from trainer.transfer.transfer_init import ClassMatch, match_classes, scale_head, transfer_head
from trainer.weights.pretrained import WHITE, Pretrained, open_pretrained, require_vocabulary
from vocab.errors import MismatchError
from vocab.pages.text import tell
from vocab.store.locations import refuse_unwritable
from vocab.store.secrets import without_secrets

# A probe's folder has model, task, init and percent as well.
FINETUNING = RunKind("a fine-tuning run", frozenset({"model", "task", "init", "percent", "checkpoint_every"}))
LOGITS_CHUNK = 1024
"""images whose logits exist at a time"""
MOST_SCALED = 20_000
"""images whose features say where a transferred classifier's logits lie: a mean and a scale need no more"""


@dataclass(frozen=True)
class FinetuneOutcome:
    """Outcome of a fine-tuning run."""

    status: int
    """0, or 128 + the number of the signal that stopped the run"""
    record: Record | None
    """result; None for a stopped run, and on ranks other than the main one"""
    summary: str


def finetune(config: FinetuneConfig) -> int:
    """Train, evaluate, and leave a run directory; continue the run if `config.out` already holds it.

    Return 0, or 128 + the number of the signal that stopped it before the last step, with a checkpoint to go on from.
    Raises a CatlipError before the first step for whatever can be known by then.
    """
    with join_processes(config.device) as rank:
        outcome = tune(config, rank)
        if rank.is_main:
            tell(f"{outcome.summary}\n")
        return outcome.status


def finetune_records(config: FinetuneConfig, rank: Rank, *, task: str) -> list[Record]:
    """Fine-tune as `finetune` does and return the result; nothing on ranks other than the main one. All must call it.

    `task`: its name in the table. Ends the process with the status of a signal that stopped the run.
    """
    outcome = tune(config, rank)
    if outcome.status:
        raise SystemExit(outcome.status)
    return [replace(outcome.record, task=task)] if outcome.record is not None else []


def tune(config: FinetuneConfig, rank: Rank) -> FinetuneOutcome:
    """Fine-tune as `finetune` does, on one rank; all must call it."""
    config.check(world=rank.world)
    on_main(lambda: refuse_unwritable(config.out), rank)
    inputs = open_inputs(config)
    train, plan = inputs.train, inputs.plan
    config = config.completed(multi_label=train.multi_label, image_size=plan.image_size, steps=plan.steps)
    if rank.is_main:
        tell("".join(f"{note}\n" for note in notes_at_start(config, inputs)))
    set_up_torch(config.threads, rank)
    # Before the directory is locked: no lock file in a directory that is not a run.
    on_main(lambda: stored_config(config.out, FINETUNING), rank)
    with run_lock.held(config.out, rank):
        return _tune(config, inputs, rank)


def _tune(config: FinetuneConfig, inputs: FinetuneInputs, rank: Rank) -> FinetuneOutcome:
    fingerprint = on_main(lambda: fingerprint_of(inputs), rank)
    resume = on_main(lambda: find_start(config, fingerprint), rank)
    pretrained, train, task = inputs.pretrained, inputs.train, inputs.task
    transform = transform_of(config, pretrained, rank)
    matches: list[ClassMatch] = []
    if config.init == "transfer":
        matches = match_classes(task.class_names, pretrained.vocabulary, alpha=config.alpha)
    # The weights of a resumed run are those of its checkpoint.
    transferred = matches if resume.checkpoint is None else []
    head = first_classifier(pretrained, train, transferred, rank, transform=transform, seed=config.seed)
    if rank.is_main and matches:
        tell("".join(f"{line}\n" for line in match_summary(matches, alpha=config.alpha)))
    optim = config.optim(steps=inputs.plan.steps)
    training = build_finetuning(config, optim, pretrained, head, rank, several=train.multi_label)
    model = meta_copy(training.model)
    if config.activation_checkpointing:
        checkpoint_activations(model, enable=False)  # recomputed blocks do not count as work of the model
    step = Step(training, rank, optim, compiled=config.compile, bfloat16=transform.bfloat16)
    results = FinetuneResults(config, rank, inputs, matches, training, transform)
    job = job_of(config, inputs, resume, step, results, flops=image_flops(lambda: model), fingerprint=fingerprint)
    run = Run(job, step, rank, nonce=on_main(lambda: secrets.token_hex(4), rank))
    with run.open(resume):
        status = run.train()
        if status:
            return FinetuneOutcome(status, None, stopped(run))
        evaluated, weights = run.evaluate(), run.last_average()
        if evaluated is None or weights is None:
            return FinetuneOutcome(status, None, "")
        return FinetuneOutcome(status, *results.write(weights, evaluated, run.progress))


def open_inputs(config: FinetuneConfig) -> FinetuneInputs:
    """Open the model and the task's images, and plan the epochs."""
    pretrained = open_pretrained(config.model, image_size=config.image_size)
    if config.init == "transfer":
        require_vocabulary(pretrained.classes, pretrained.source)
    task = open_task(config.task)
    train = subset(task.train, percent=config.percent, seed=config.seed)
    plan = EpochPlan(
        images=len(train),
        batch=config.batch,
        epochs=config.epochs,
        seed=config.seed,
        image_size=pretrained.preprocessing.image_size,
        min_crop_area=config.min_crop_area,
        flip=config.flip,
    )
    return FinetuneInputs(pretrained, task, train, plan)


def fingerprint_of(inputs: FinetuneInputs) -> str:
    """Take the sha256 of what a run learns from, wherever it lies: first weights, images, and names of classes."""
    names = inputs.task.class_names
    known = [inputs.pretrained.fingerprint, content_of(inputs.train, inputs.task.test), *names]
    return hashlib.sha256("\0".join(known).encode()).hexdigest()


def find_start(config: FinetuneConfig, fingerprint: str) -> ResumePoint:
    """Find where an earlier start left off. Writes nothing.

    Raises as `find_resume_point`, and MismatchError for a checkpoint of another model or other images.
    """
    # The fingerprint says what model and images are, so that they may lie elsewhere now.
    resume = find_resume_point(config.out, config, FINETUNING, changeable=CHANGEABLE | PLACES)
    if resume.checkpoint is not None and resume.checkpoint.fingerprint != fingerprint:
        raise MismatchError(
            resume.checkpoint.path,
            found="a checkpoint of other weights to begin with, other images or other names of classes",
            wanted=f"those of {config.model}, {without_secrets(config.task.train)} and "
            f"{without_secrets(config.task.test)} as they are now",
            remedy="Put them back as they were when the run was started, or choose another --out.",
        )
    return resume


def transform_of(config: FinetuneConfig, pretrained: Pretrained, rank: Rank) -> EvalTransform:
    """Decide how test images are shown to the model."""
    return EvalTransform(
        size=pretrained.preprocessing.image_size,
        crop=pretrained.preprocessing.crop,
        batch=config.batch // rank.world // config.accumulate,
        decoding=Decoding(
            config.workers, config.prefetch, config.task.max_pixels, take_truncated=config.task.take_truncated
        ),
        bfloat16=config.is_bfloat16(rank.device.type),
    )


def first_classifier(
    pretrained: Pretrained,
    images: LabelledImages,
    matches: list[ClassMatch],
    rank: Rank,
    *,
    transform: EvalTransform,
    seed: int,
) -> Head:
    """Make the first classifier, the same on all ranks, which all must call: random, or by the classes' matches.

    For Transfer Init the model goes to the rank's device. Raises InputError if none of the images that the classifier
    is scaled by can be decoded.
    """
    if not matches:
        return random_head(len(images.labels), pretrained.classifier.in_features, seed=seed)
    some = images.select(_some(len(images), seed=seed))
    pretrained.model.to(rank.device)
    found = outputs(lambda pixels, _: pretrained.embed(pixels).float(), some, rank, transform=transform)

    def scaled() -> Head:
        assert found is not None
        head = transfer_head(pretrained.classifier, pretrained.vocabulary, matches, seed=seed)
        return scale_head(head, found.values, some.select(found.decoded))[0]

    return on_main(scaled, rank)


def _some(images: int, *, seed: int) -> Int64[np.ndarray, " some"]:
    """Choose the images that a classifier is scaled by: at most MOST_SCALED, at random, in their order."""
    if images <= MOST_SCALED:
        return np.arange(images)
    return np.sort(np.random.default_rng(seed).choice(images, MOST_SCALED, replace=False))


def build_finetuning(
    config: FinetuneConfig, optim: OptimConfig, pretrained: Pretrained, head: Head, rank: Rank, *, several: bool
) -> Training[Objective]:
    """Build model, average and optimiser at step 0, on the rank's device; the pre-trained model itself learns.

    `several`: an image may have several classes. Raises InputError for options that the model cannot have.
    """
    assert config.label_smoothing is not None
    model, seen = pretrained.model, pretrained.preprocessing
    replace_classifier(model, head.weight, head.bias)
    if config.drop_path > 0:
        set_drop_path(model, config.drop_path)
    if config.activation_checkpointing:
        checkpoint_activations(model)
    mixed = config.mixup > 0 or config.cutmix > 0
    objective = Objective(
        model,
        None,
        loss_of_task(smoothing=config.label_smoothing, several=several),
        chunk=LOGITS_CHUNK,
        mean=scaled(seen.mean, WHITE),
        std=scaled(seen.std, WHITE),
        mix=Mixing(mixup=config.mixup, cutmix=config.cutmix) if mixed else None,
        keep_statistics=True,
    ).to(rank.device)
    return training_of(objective, optim, rank.device)


def loss_of_task(*, smoothing: float, several: bool) -> Loss:
    """Make softmax cross entropy for one class an image; for several, binary cross entropy, summed over classes."""
    return BinaryCrossEntropy(smoothing=smoothing) if several else SoftmaxCrossEntropy(smoothing=smoothing)


def job_of(
    config: FinetuneConfig,
    inputs: FinetuneInputs,
    resume: ResumePoint,
    step: Step,
    results: FinetuneResults,
    *,
    flops: Callable[[int, float], int],
    fingerprint: str,
) -> Job:
    plan, rank = inputs.plan, step.rank
    # A run that went back to a checkpoint has taken more batches than steps.
    taken = resume.state["data"]["batches"] if resume.state else 0
    made = batches(
        inputs.train,
        plan,
        rank,
        after=taken,
        decoding=results.transform.decoding,
        pin=rank.device.type == "cuda",
    )

    return Job(
        verb="finetune",
        config=config,
        out=config.out,
        optim=step.optim,
        keeping=config,
        fingerprint=fingerprint,
        copied=("config.json",),
        batches=contextlib.closing(made),
        resolution=FixedResolution(plan.image_size, plan.batch),
        operations=lambda number, batch: len(batch) * flops(plan.image_size, 1.0),
        peaks=peaks_of(config.peak_tflops, rank.device, bfloat16=step.bfloat16),
        data_state=lambda positions: {"batches": positions[0].step},
        sample_names=lambda _, images: [inputs.train.names[image] for image in images.tolist()],
        account={"bad_samples": "bad", "truncated_samples": "truncated"},
        check_account=results.check_training,
        line=lambda number: {"epoch": plan.epochs_seen(number)},
        write_start=results.write_start,
        evaluation_due=results.is_due,
        evaluate=results.evaluate,
        show=results.show,
    )
