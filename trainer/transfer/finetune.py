"""Fine-tuning, from top to bottom: a pre-trained model and a task's images in, a model of the task's classes out.

In: a `FinetuneConfig`. Out: a run directory (`trainer/records/run_directory.py`) with the model and its results.

The loop is `Run.train` (`trainer/run.py`), the same as that of pre-training.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from trainer.config import OptimConfig
from trainer.data.decoding import EvalTransform
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Rank, on_main, set_up_torch
from trainer.loss.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy
from trainer.model.backbone import checkpoint_activations, meta_copy, replace_classifier
from trainer.model.mixing import Mixing
from trainer.model.objective import Objective, scaled
from trainer.model.per_image import set_drop_path
from trainer.probe.linear import Head, random_head
from trainer.probe.measures import outputs
from trainer.records import run_lock
from trainer.records.record import Record
from trainer.records.run_directory import RunKind, stored_config
from trainer.speed.flops import image_flops
from trainer.step.step import Step
from trainer.step.training import Training, training_of
from trainer.transfer.batches import EpochPlan, batches
from trainer.transfer.config import CHANGEABLE, PLACES, FinetuneConfig
from trainer.transfer.finetune_results import FinetuneInputs, FinetuneResults, notes_at_start
from trainer.transfer.task_training import (
    TaskOutcome,
    batches_taken,
    carry_out,
    eval_transform,
    find_start,
    fingerprint_of,
    job_of,
    matches_of,
    train_and_write,
)
from trainer.transfer.tasks.files import content_of
from trainer.transfer.tasks.opening import open_task, subset
from trainer.transfer.transfer_init import ClassMatch, scale_head, transfer_head
from trainer.weights.pretrained import WHITE, Pretrained, open_pretrained, require_vocabulary
from vocab.pages.text import tell
from vocab.store.locations import refuse_unwritable

# A probe's folder has model, task, init and percent as well.
FINETUNING = RunKind("a fine-tuning run", frozenset({"model", "task", "init", "percent", "checkpoint_every"}))
LOGITS_CHUNK = 1024
"""images whose logits exist at a time"""
MOST_SCALED = 20_000
"""images whose features say where a transferred classifier's logits lie: a mean and a scale need no more"""


def finetune(config: FinetuneConfig) -> int:
    """Train, evaluate, and leave a run directory; continue the run if `config.out` already holds it.

    Return 0, or 128 + the number of the signal that stopped it before the last step, with a checkpoint to go on from.
    Raises a CatlipError before the first step for whatever can be known by then.
    """
    return carry_out(config, tune)


def finetune_records(config: FinetuneConfig, rank: Rank, *, task: str) -> list[Record]:
    """Fine-tune as `finetune` does and return the result; nothing on ranks other than the main one. All must call it.

    `task`: its name in the table. Ends the process with the status of a signal that stopped the run.
    """
    return tune(config, rank).records(task)


def tune(config: FinetuneConfig, rank: Rank) -> TaskOutcome:
    """Fine-tune as `finetune` does, on one rank; all must call it."""
    config.check(world=rank.world)
    on_main(lambda: refuse_unwritable(config.out), rank)
    inputs = open_inputs(config)
    train, plan = inputs.train_images, inputs.plan
    config = config.completed(multi_label=train.multi_label, image_size=plan.image_size, steps=plan.steps)
    if rank.is_main:
        tell("".join(f"{note}\n" for note in notes_at_start(config, inputs)))
    set_up_torch(config.threads, rank)
    # Before the directory is locked: no lock file in a directory that is not a run.
    on_main(lambda: stored_config(config.out, FINETUNING), rank)
    with run_lock.held(config.out, rank):
        return _tune(config, inputs, rank)


def _tune(config: FinetuneConfig, inputs: FinetuneInputs, rank: Rank) -> TaskOutcome:
    pretrained, train, task = inputs.pretrained, inputs.train_images, inputs.task
    fingerprint = on_main(lambda: fingerprint_of(inputs, content_of(train, task.test)), rank)
    # The fingerprint says what model and images are, so that they may lie elsewhere now.
    changeable = CHANGEABLE | PLACES
    resume = on_main(
        lambda: find_start(config, fingerprint, kind=FINETUNING, changeable=changeable, contents="images"), rank
    )
    seen = pretrained.preprocessing
    transform = eval_transform(config, rank, size=seen.image_size, crop=seen.crop)
    matches = matches_of(config, inputs, rank)
    # The weights of a resumed run are those of its checkpoint.
    transferred = matches if resume.checkpoint is None else []
    head = first_classifier(pretrained, train, transferred, rank, transform=transform, seed=config.seed)
    optim = config.optim(steps=inputs.plan.steps)
    training = build_finetuning(config, optim, pretrained, head, rank, several=train.multi_label)
    model = meta_copy(training.model)
    if config.activation_checkpointing:
        checkpoint_activations(model, enable=False)  # recomputed blocks do not count as work of the model
    step = Step(training, rank, optim, compiled=config.compile, bfloat16=transform.bfloat16)
    results = FinetuneResults(config, rank, inputs, matches, training, transform)
    flops, size = image_flops(lambda: model), inputs.plan.image_size
    made = batches(
        train,
        inputs.plan,
        rank,
        after=batches_taken(resume),
        decoding=transform.decoding,
        pin=rank.device.type == "cuda",
    )
    job = job_of(results, step, made, operations=lambda batch: len(batch) * flops(size, 1.0), fingerprint=fingerprint)
    return train_and_write(job, step, resume, results)


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
