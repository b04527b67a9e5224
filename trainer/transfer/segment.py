"""Segmentation, from top to bottom: a pre-trained model and images with masks in, the class of every pixel out.

In: a `SegmentConfig`. Out: a run directory (`trainer/records/run_directory.py`) with the model and its results.

The loop is `Run.train` (`trainer/run.py`), the same as that of pre-training and of fine-tuning.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from dataclasses import replace
from functools import cache, partial

import numpy as np
import torch
from jaxtyping import Float64
from torch.utils.flop_counter import FlopCounterMode

from trainer.config import OptimConfig
from trainer.data.decoding import Decoding, EvalTransform
from trainer.data.draws import draws, shard_hash
from trainer.data.labelled_images import Read
from trainer.data.resolution import FixedResolution
from trainer.dense.batches import Sample, batches
from trainer.dense.heads import DeepLabHead, LinearHeads, LinearSetting, blocks_of_choice
from trainer.dense.label_maps import IGNORED
from trainer.dense.maps import FeatureMaps, block_number, count_maps, has_plain_patches, set_stride
from trainer.dense.masks import MaskedImages, open_masks
from trainer.dense.segment_evaluation import SegmentTransform, load_pair
from trainer.dense.segment_start import start_heads
from trainer.dense.segment_views import CROP_DRAWS, CropRule, random_crop
from trainer.dense.segmenter import MASKS, SegmentObjective
from trainer.distributed import Rank, join_processes, on_main, set_up_torch
from trainer.job import Job
from trainer.model.backbone import checkpoint_activations, meta_copy, patch_of
from trainer.model.objective import scaled
from trainer.model.per_image import set_drop_path
from trainer.optim.optimiser import lr_scales
from trainer.probe.linear import Head
from trainer.records import run_lock
from trainer.records.record import Record
from trainer.records.run_directory import ResumePoint, RunKind, find_resume_point, stored_config
from trainer.run import Run, stopped
from trainer.speed.flops import TRAINING_OVER_FORWARD, cost
from trainer.speed.peak import peaks_of
from trainer.step.step import Step
from trainer.step.training import Training, training_of
from trainer.transfer.batches import EpochPlan
from trainer.transfer.class_tables import match_summary
from trainer.transfer.dense_config import SEGMENT_CHANGEABLE, SEGMENT_PLACES, SegmentConfig
from trainer.transfer.finetune import FinetuneOutcome
from trainer.transfer.segment_results import SegmentInputs, SegmentResults, notes_at_start, settings_of
from trainer.transfer.segment_zero_shot import segment_zero_shot
from trainer.transfer.tasks.files import FileStore, content_of
from trainer.transfer.transfer_init import ClassMatch, match_classes, transfer_head
from trainer.weights.pretrained import WHITE, open_pretrained, require_vocabulary
from vocab.errors import InputError, MismatchError
from vocab.pages.text import tell
from vocab.store.locations import refuse_unwritable
from vocab.store.secrets import without_secrets

SEGMENTATION = RunKind("a segmentation run", frozenset({"model", "task", "head", "slide_stride", "checkpoint_every"}))
FEWEST_TO_HOLD_OUT = 20
"""training images below which none are held out, and no setting is chosen"""
MIDDLE_RATE = 1e-3
"""learning rate that is taken where there are too few images to choose one by"""


def segment(config: SegmentConfig) -> int:
    """Train, evaluate, and leave a run directory; continue the run if `config.out` already holds it.

    Return 0, or 128 + the number of the signal that stopped it before the last step, with a checkpoint to go on from.
    Raises a CatlipError before the first step for whatever can be known by then.
    """
    with join_processes(config.device) as rank:
        outcome = segment_on(config, rank)
        if rank.is_main:
            tell(f"{outcome.summary}\n")
        return outcome.status


def segment_records(config: SegmentConfig, rank: Rank, *, task: str) -> list[Record]:
    """Segment as `segment` does and return the result; nothing on ranks other than the main one. All must call it.

    `task`: its name in the table. Ends the process with the status of a signal that stopped the run.
    """
    outcome = segment_on(config, rank)
    if outcome.status:
        raise SystemExit(outcome.status)
    return [replace(outcome.record, task=task)] if outcome.record is not None else []


def segment_on(config: SegmentConfig, rank: Rank) -> FinetuneOutcome:
    """Segment as `segment` does, on one rank; all must call it."""
    config = config.for_head()
    config.check(world=rank.world)
    on_main(lambda: refuse_unwritable(config.out), rank)
    if config.head == "zero-shot":
        set_up_torch(config.threads, rank)
        record, summary = segment_zero_shot(config, rank, transform_of(config, rank))
        return FinetuneOutcome(0, record, summary)
    inputs = open_inputs(config, rank)
    config = config.completed(steps=inputs.plan.steps)
    if rank.is_main:
        tell("".join(f"{note}\n" for note in notes_at_start(config, inputs)))
    set_up_torch(config.threads, rank)
    on_main(lambda: stored_config(config.out, SEGMENTATION), rank)
    with run_lock.held(config.out, rank):
        return _segment(config, inputs, rank)


def _segment(config: SegmentConfig, inputs: SegmentInputs, rank: Rank) -> FinetuneOutcome:
    fingerprint = on_main(lambda: fingerprint_of(inputs), rank)
    resume = on_main(lambda: find_start(config, fingerprint), rank)
    matches: list[ClassMatch] = []
    if config.init == "transfer":
        matches = match_classes(inputs.data.task.class_names, inputs.pretrained.vocabulary, alpha=config.alpha)
        if rank.is_main:
            tell("".join(f"{line}\n" for line in match_summary(matches, alpha=config.alpha)))
    transform, first = transform_of(config, rank), first_classifier(config, inputs, matches)
    objective = build_objective(config, inputs).to(rank.device)
    # The weights of a resumed run are those of its checkpoint.
    if first is not None and resume.checkpoint is None:
        start_heads(objective, first, inputs.train, rank, transform=transform)
    optim = config.optim(steps=inputs.plan.steps)
    training = training_of(objective, optim, rank.device, lr_scales=scales_of(objective, optim))
    step = Step(training, rank, optim, bfloat16=transform.plain.bfloat16)
    if rank.is_main:
        operations = operations_of(training, size=config.image_size)
        tell(f"{cost(operations, steps=inputs.plan.steps, batch=inputs.plan.batch)}\n")
    results = SegmentResults(config, rank, inputs, matches, training, transform)
    job = job_of(config, inputs, resume, step, results, fingerprint=fingerprint)
    run = Run(job, step, rank, nonce=on_main(lambda: secrets.token_hex(4), rank))
    with run.open(resume):
        status = run.train()
        if status:
            return FinetuneOutcome(status, None, stopped(run))
        evaluated, weights = run.evaluate(), run.last_average()
        if evaluated is None or weights is None:
            return FinetuneOutcome(status, None, "")
        return FinetuneOutcome(status, *results.write(weights, evaluated, run.progress))


def open_inputs(config: SegmentConfig, rank: Rank) -> SegmentInputs:
    """Open the model and the images with their masks, hold images out for the choice, and plan the epochs."""
    assert config.epochs is not None
    assert config.batch is not None
    pretrained = open_pretrained(config.model, image_size=config.image_size)
    if config.init == "transfer":
        require_vocabulary(pretrained.classes, pretrained.source)
    data = open_masks(config.task, rank, percent=config.percent, seed=config.seed)
    settings = settings_of(config)
    train, held_out = data.train, None
    if len(settings) > 1 and config.holdout > 0 and len(train) >= FEWEST_TO_HOLD_OUT:
        train, held_out = hold_out(data.train, share=config.holdout, seed=config.seed)
    elif len(settings) > 1:
        settings = [middle_of(settings)]
    plan = EpochPlan(
        images=len(train), batch=config.batch, epochs=config.epochs, seed=config.seed, image_size=config.image_size
    )
    return SegmentInputs(pretrained, data, train, held_out, tuple(settings), plan)


def middle_of(settings: list[LinearSetting]) -> LinearSetting:
    """Choose the setting that is taken where none can be held out: the first blocks, and the usual learning rate."""
    return min(settings, key=lambda each: (settings[0].blocks != each.blocks, abs(each.learning_rate - MIDDLE_RATE)))


def hold_out(images: MaskedImages, *, share: float, seed: int) -> tuple[MaskedImages, MaskedImages]:
    """Split training images into those that are trained on and those that are held out, at least one."""
    shards = np.full(len(images), shard_hash("holdout"), np.uint64)
    luck = draws(seed=seed, epoch=0, shards=shards, indices=images.images.rows, count=1)[:, 0]
    order = np.argsort(luck, kind="stable")
    count = max(1, round(share * len(images)))
    return images.select(np.sort(order[count:])), images.select(np.sort(order[:count]))


def fingerprint_of(inputs: SegmentInputs) -> str:
    """Take the sha256 of what a run learns from: first weights, images, masks, and names of classes."""
    data = inputs.data
    masks = (data.train.fingerprint, data.test.fingerprint)
    known = [inputs.pretrained.fingerprint, content_of(data.train.images, data.test.images), *masks]
    return hashlib.sha256("\0".join([*known, *data.task.class_names]).encode()).hexdigest()


def find_start(config: SegmentConfig, fingerprint: str) -> ResumePoint:
    """Find where an earlier start left off. Writes nothing.

    Raises as `find_resume_point`, and MismatchError for a checkpoint of another model or other images.
    """
    resume = find_resume_point(config.out, config, SEGMENTATION, changeable=SEGMENT_CHANGEABLE | SEGMENT_PLACES)
    if resume.checkpoint is not None and resume.checkpoint.fingerprint != fingerprint:
        raise MismatchError(
            resume.checkpoint.path,
            found="a checkpoint of other weights to begin with, other images, masks or names of classes",
            wanted=f"those of {config.model}, {without_secrets(config.task.train)} and "
            f"{without_secrets(config.task.test)} as they are now",
            remedy="Put them back as they were when the run was started, or choose another --out.",
        )
    return resume


def transform_of(config: SegmentConfig, rank: Rank) -> SegmentTransform:
    """Decide how images are shown in evaluation."""
    assert config.batch is not None
    plain = EvalTransform(
        size=config.image_size,
        crop=1.0,
        batch=max(1, config.batch // rank.world // config.accumulate),
        decoding=Decoding(
            config.workers, config.prefetch, config.task.max_pixels, take_truncated=config.task.take_truncated
        ),
        bfloat16=config.is_bfloat16(rank.device.type),
    )
    return SegmentTransform(config.image_size, config.slide_stride, plain)


def first_classifier(config: SegmentConfig, inputs: SegmentInputs, matches: list[ClassMatch]) -> Head | None:
    """Take the pre-trained classifier's rows of the classes' synsets, for Transfer Init; None without matches."""
    if not matches:
        return None
    pretrained = inputs.pretrained
    return transfer_head(pretrained.classifier, pretrained.vocabulary, matches, seed=config.seed)


def build_objective(config: SegmentConfig, inputs: SegmentInputs) -> SegmentObjective:
    """Build the backbone with its heads, on the CPU. Raises InputError for blocks and strides that it cannot have."""
    torch.manual_seed(config.seed)
    pretrained, classes = inputs.pretrained, len(inputs.data.task.class_names)
    model, linear = pretrained.model, config.head == "linear"
    if not linear:
        patch = patch_of(model)
        overlapping = has_plain_patches(model) and patch % 4 == 0
        stride = config.stride or (patch // 2 if overlapping else patch)
        if stride != patch:
            set_stride(model, stride, size=config.image_size)
        if config.drop_path > 0:
            set_drop_path(model, config.drop_path)
        if config.activation_checkpointing:
            checkpoint_activations(model)
    count = count_maps(model)
    choices = {
        each.blocks: [block_number(block, count, model) for block in blocks_of_choice(each.blocks, count)]
        for each in inputs.settings
    }
    _require_different(choices)
    blocks = sorted({block for own in choices.values() for block in own})
    backbone = FeatureMaps(model, size=config.image_size, blocks=blocks)
    positions = {choice: [blocks.index(block) for block in own] for choice, own in choices.items()}
    widths = {choice: sum(backbone.specs[each].channels for each in own) for choice, own in positions.items()}
    head: LinearHeads | DeepLabHead
    if linear:
        head = LinearHeads(inputs.settings, widths, classes=classes, dropout=config.dropout, seed=config.seed)
    else:
        ((choice, width),) = widths.items()
        finest = min(backbone.specs[each].stride for each in positions[choice])
        head = DeepLabHead(
            width, stride=finest, classes=classes, width=config.head_width, dropout=config.dropout, seed=config.seed
        )
    seen = pretrained.preprocessing
    return SegmentObjective(
        backbone,
        head,
        list(positions.values()),
        frozen=linear,
        mean=scaled(seen.mean, WHITE),
        std=scaled(seen.std, WHITE),
    )


def _require_different(choices: dict[str, list[int]]) -> None:
    """Raise InputError for two choices that mean the same blocks."""
    meant = [tuple(blocks) for blocks in choices.values()]
    same = [choice for choice, blocks in choices.items() if meant.count(tuple(blocks)) > 1]
    if same:
        raise InputError(
            "--blocks",
            found=f"{' '.join(same)}, which are the same blocks of this model",
            wanted="each choice once",
            remedy="Leave one of them out.",
        )


def scales_of(objective: SegmentObjective, optim: OptimConfig) -> dict[str, float]:
    """Factor on the learning rate of each parameter: a setting's own, or that of a layer of the backbone."""
    if objective.frozen:
        assert isinstance(objective.model, LinearHeads)
        return objective.model.lr_scales()
    backbone = objective.backbone_maps.model
    below = lr_scales(backbone, layer_decay=optim.layer_decay)
    return {
        name: below.get(name.removeprefix("backbone.model."), 1.0) for name, _ in objective.model.named_parameters()
    }


def sample_of(
    data: MaskedImages, read: Read, rule: CropRule, decoding: Decoding, image: int, own: Float64[np.ndarray, " draws"]
) -> Sample:
    """Make a training sample of an image by its random numbers. Raises BadImage."""
    picture, labels = load_pair(
        data, image, read, max_pixels=decoding.max_pixels, take_truncated=decoding.take_truncated
    )
    crop = random_crop(picture, labels, own, rule)
    return Sample(crop.pixels, by_image={MASKS: crop.labels})


def blank(size: int) -> Sample:
    """Make the sample that takes the place of an image that cannot be decoded."""
    masks = np.full((size, size), IGNORED, np.int16)
    return Sample(np.zeros((size, size, 3), np.uint8), by_image={MASKS: masks})


def job_of(
    config: SegmentConfig,
    inputs: SegmentInputs,
    resume: ResumePoint,
    step: Step,
    results: SegmentResults,
    *,
    fingerprint: str,
) -> Job:
    assert config.scale is not None
    plan, train, rank, decoding = inputs.plan, inputs.train, step.rank, results.transform.plain.decoding
    rule = CropRule(config.image_size, config.scale, config.max_class_share, config.flip)
    # A run that went back to a checkpoint has taken more batches than steps.
    taken = resume.state["data"]["batches"] if resume.state else 0
    operations = cache(partial(operations_of, step.training, size=config.image_size))
    made = batches(
        train.images,
        plan,
        rank,
        partial(sample_of, train, read_of(train), rule, decoding),
        blank=blank(config.image_size),
        count=CROP_DRAWS,
        after=taken,
        decoding=decoding,
    )
    return Job(
        verb="segment",
        config=config,
        out=config.out,
        optim=step.optim,
        keeping=config,
        fingerprint=fingerprint,
        copied=("config.json",),
        batches=contextlib.closing(made),
        resolution=FixedResolution(plan.image_size, plan.batch),
        operations=lambda number, batch: len(batch) * operations(),
        peaks=peaks_of(config.peak_tflops, rank.device, bfloat16=step.bfloat16),
        data_state=lambda positions: {"batches": positions[0].step},
        sample_names=lambda _, images: [train.images.names[image] for image in images.tolist()],
        account={"bad_samples": "bad", "truncated_samples": "truncated"},
        check_account=results.check_training,
        line=lambda number: {"epoch": plan.epochs_seen(number)},
        write_start=results.write_start,
        evaluation_due=results.is_due,
        evaluate=results.evaluate,
        show=results.show,
    )


def read_of(data: MaskedImages) -> Read:
    """Return the function that reads the files of a data set."""
    assert isinstance(data.images.store, FileStore)
    return data.images.store.read


def operations_of(training: Training[SegmentObjective], *, size: int) -> int:
    """Count the operations of one training image, forward and backward; forward alone for a frozen backbone."""
    objective = training.objective
    copy = meta_copy(objective).eval()
    assert isinstance(copy, SegmentObjective)
    images = torch.empty(1, size, size, 3, dtype=torch.uint8, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        maps = copy.maps(images)
        below = int(counter.get_total_flops())
        copy.logits(maps)
    head = int(counter.get_total_flops()) - below
    return (1 if objective.frozen else TRAINING_OVER_FORWARD) * below + TRAINING_OVER_FORWARD * head
