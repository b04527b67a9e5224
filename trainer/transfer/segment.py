"""Segmentation, from top to bottom: a pre-trained model and images with masks in, the class of every pixel out.

In: a `SegmentConfig`. Out: a run directory (`trainer/records/run_directory.py`) with the model and its results.

The loop is `Run.train` (`trainer/run.py`), the same as that of pre-training and of fine-tuning.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float64
from torch.utils.flop_counter import FlopCounterMode

from trainer.config import OptimConfig
from trainer.data.batch import Batch
from trainer.data.decoding import Decoding
from trainer.data.draws import draws, shard_hash
from trainer.data.labelled_images import Read
from trainer.dense.batches import TrainingSample, batches
from trainer.dense.heads import DeepLabHead, LinearHeads, LinearSetting, blocks_of_choice
from trainer.dense.label_maps import IGNORED
from trainer.dense.maps import FeatureMaps, block_number, count_maps, has_plain_patches, set_stride
from trainer.dense.masks import MaskedImages, open_masks
from trainer.dense.segment_evaluation import SegmentTransform, load_pair
from trainer.dense.segment_start import start_heads
from trainer.dense.segment_views import CROP_DRAWS, CropRule, random_crop
from trainer.dense.segmenter import MASKS, BlackStep, SegmentObjective, logits_bytes
from trainer.distributed import Rank, on_main, set_up_torch
from trainer.model.backbone import checkpoint_activations, meta_copy, patch_of
from trainer.model.objective import scaled
from trainer.model.per_image import set_drop_path
from trainer.optim.optimiser import lr_scales
from trainer.probe.linear import Head
from trainer.records import run_lock
from trainer.records.record import Record
from trainer.records.run_directory import RunKind, stored_config
from trainer.speed.flops import TRAINING_OVER_FORWARD, cost
from trainer.step.step import Step
from trainer.step.training import training_of
from trainer.transfer.batches import EpochPlan
from trainer.transfer.config import CHANGEABLE_DENSE
from trainer.transfer.dense_config import SegmentConfig
from trainer.transfer.segment_results import SegmentInputs, SegmentResults, notes_at_start, settings_of
from trainer.transfer.segment_zero_shot import segment_zero_shot
from trainer.transfer.task_plan import PlannedStep, tell_plan
from trainer.transfer.task_training import (
    TaskOutcome,
    batches_taken,
    carry_out,
    eval_transform,
    find_start,
    fingerprint_of,
    images_at_once,
    job_of,
    matches_of,
    train_and_write,
)
from trainer.transfer.tasks.files import FileStore, content_of
from trainer.transfer.transfer_init import ClassMatch, transfer_head
from trainer.weights.pretrained import WHITE, Pretrained, open_pretrained, require_vocabulary
from vocab.errors import InputError
from vocab.pages.text import tell
from vocab.store.locations import refuse_unwritable

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
    return carry_out(config, segment_on)


def segment_records(config: SegmentConfig, rank: Rank, *, task: str) -> list[Record]:
    """Segment as `segment` does and return the result; nothing on ranks other than the main one. All must call it.

    `task`: its name in the table. Ends the process with the status of a signal that stopped the run.
    """
    return segment_on(config, rank).records(task)


def segment_on(config: SegmentConfig, rank: Rank) -> TaskOutcome:
    """Segment as `segment` does, on one rank; all must call it."""
    config = config.for_head()
    config.check(world=rank.world)
    on_main(lambda: refuse_unwritable(config.out), rank)
    if config.head == "zero-shot":
        set_up_torch(config.threads, rank)
        record, summary = segment_zero_shot(config, rank, transform_of(config, rank))
        return TaskOutcome(0, record, summary)
    inputs = open_inputs(config, rank)
    config = config.completed(steps=inputs.plan.steps)
    if config.plan:
        return planned(config, inputs, rank)
    if rank.is_main:
        tell("".join(f"{note}\n" for note in notes_at_start(config, inputs)))
    set_up_torch(config.threads, rank)
    on_main(lambda: stored_config(config.out, SEGMENTATION), rank)
    with run_lock.held(config.out, rank):
        return _segment(config, inputs, rank)


def _segment(config: SegmentConfig, inputs: SegmentInputs, rank: Rank) -> TaskOutcome:
    train, test = inputs.data.train, inputs.data.test
    fingerprint = on_main(
        lambda: fingerprint_of(inputs, content_of(train.images, test.images), train.fingerprint, test.fingerprint), rank
    )
    resume = on_main(
        lambda: find_start(
            config, fingerprint, kind=SEGMENTATION, changeable=CHANGEABLE_DENSE, contents="images, masks"
        ),
        rank,
    )
    matches = matches_of(config, inputs, rank)
    transform, first = transform_of(config, rank), first_classifier(config, inputs, matches)
    objective = objective_of(config, inputs).to(rank.device)
    check_places(config, objective, images=images_at_once(config, rank))
    # The weights of a resumed run are those of its checkpoint.
    if first is not None and resume.checkpoint is None:
        start_heads(objective, first, inputs.train, rank, transform=transform)
    optim = config.optim(steps=inputs.plan.steps)
    training = training_of(objective, optim, rank.device, lr_scales=scales_of(objective, optim))
    step = Step(training, rank, optim, bfloat16=transform.plain.bfloat16)
    operations = operations_of(objective, size=config.image_size)
    if rank.is_main:
        tell(f"{cost(operations, steps=inputs.plan.steps, batch=inputs.plan.batch)}\n")
    results = SegmentResults(config, rank, inputs, matches, training, transform)
    made = training_batches(config, inputs, rank, after=batches_taken(resume), decoding=transform.plain.decoding)
    job = job_of(results, step, made, operations=lambda batch: len(batch) * operations, fingerprint=fingerprint)
    return train_and_write(job, step, resume, results)


def planned(config: SegmentConfig, inputs: SegmentInputs, rank: Rank) -> TaskOutcome:
    """Tell what the run will cost."""
    objective, classes = objective_of(config, inputs), len(inputs.task.class_names)
    check_places(config, objective, images=images_at_once(config, rank))
    step = PlannedStep(
        objective,
        objective.backbone_maps,
        BlackStep(objective),
        operations=operations_of(objective, size=config.image_size),
        logits=logits_bytes(images_at_once(config, rank), classes=classes, size=config.image_size),
        frozen=objective.frozen,
    )
    return tell_plan(config, inputs, step, rank, title="segmentation")


def open_inputs(config: SegmentConfig, rank: Rank) -> SegmentInputs:
    """Open the model and the images with their masks, hold images out for the choice, and plan the epochs."""
    assert config.epochs is not None
    assert config.batch is not None
    pretrained = open_pretrained(config.model, image_size=config.image_size)
    if config.init == "transfer":
        require_vocabulary(pretrained.classes, pretrained.source)
    data = open_masks(config.task, rank, percent=config.percent, seed=config.seed, read=not config.plan)
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


def transform_of(config: SegmentConfig, rank: Rank) -> SegmentTransform:
    """Decide how images are shown in evaluation."""
    return SegmentTransform(
        config.image_size, config.slide_stride, eval_transform(config, rank, size=config.image_size)
    )


def first_classifier(config: SegmentConfig, inputs: SegmentInputs, matches: list[ClassMatch]) -> Head | None:
    """Take the pre-trained classifier's rows of the classes' synsets, for Transfer Init; None without matches."""
    if not matches:
        return None
    pretrained = inputs.pretrained
    return transfer_head(pretrained.classifier, pretrained.vocabulary, matches, seed=config.seed)


def objective_of(config: SegmentConfig, inputs: SegmentInputs) -> SegmentObjective:
    """Build the objective of a run."""
    return build_objective(config, inputs.pretrained, inputs.settings, classes=len(inputs.task.class_names))


def build_objective(
    config: SegmentConfig, pretrained: Pretrained, settings: Sequence[LinearSetting], *, classes: int
) -> SegmentObjective:
    """Build the backbone with its heads, on the CPU. `settings`: those that are trained.

    Raises InputError for blocks and strides that the model cannot have.
    """
    torch.manual_seed(config.seed)
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
        for each in settings
    }
    _require_different(choices)
    blocks = sorted({block for own in choices.values() for block in own})
    backbone = FeatureMaps(model, size=config.image_size, blocks=blocks)
    positions = {choice: [blocks.index(block) for block in own] for choice, own in choices.items()}
    widths = {choice: sum(backbone.specs[each].channels for each in own) for choice, own in positions.items()}
    head: LinearHeads | DeepLabHead
    if linear:
        head = LinearHeads(settings, widths, classes=classes, dropout=config.dropout, seed=config.seed)
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


def check_places(config: SegmentConfig, objective: SegmentObjective, *, images: int) -> None:
    """Raise InputError where a linear head's batch norm sees one place of one image. `images`: those at a time."""
    specs = objective.backbone_maps.specs
    coarsest = max(min(specs[each].stride for each in choice) for choice in objective.choices)
    config.require(
        "batch",
        config.head != "linear" or images > 1 or config.image_size // coarsest > 1,
        f"{config.batch}, which is 1 image at a time, whose map has a single place",
        "two places or more, over which the batch norm of a linear head is computed",
        remedy="Raise --batch or --image-size, lower --accumulate, or take fewer processes.",
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
) -> TrainingSample:
    """Make a training sample of an image by its random numbers. Raises BadImage."""
    picture, labels = load_pair(
        data, image, read, max_pixels=decoding.max_pixels, take_truncated=decoding.take_truncated
    )
    crop = random_crop(picture, labels, own, rule)
    return TrainingSample(crop.pixels, by_image={MASKS: crop.labels})


def blank(size: int) -> TrainingSample:
    """Make the sample that takes the place of an image that cannot be decoded."""
    masks = np.full((size, size), IGNORED, np.int16)
    return TrainingSample(np.zeros((size, size, 3), np.uint8), by_image={MASKS: masks})


def training_batches(
    config: SegmentConfig, inputs: SegmentInputs, rank: Rank, *, after: int, decoding: Decoding
) -> Generator[Batch, None, None]:
    """Yield this rank's batches after the first `after`, without end. Close it to end its threads."""
    assert config.scale is not None
    rule = CropRule(config.image_size, config.scale, config.max_class_share, config.flip)
    return batches(
        inputs.train.images,
        inputs.plan,
        rank,
        partial(sample_of, inputs.train, read_of(inputs.train), rule, decoding),
        blank=blank(config.image_size),
        count=CROP_DRAWS,
        after=after,
        decoding=decoding,
    )


def read_of(data: MaskedImages) -> Read:
    """Return the function that reads the files of a data set."""
    assert isinstance(data.images.store, FileStore)
    return data.images.store.read


def operations_of(objective: SegmentObjective, *, size: int) -> int:
    """Count the operations of one training image, forward and backward; forward alone for a frozen backbone."""
    copy = meta_copy(objective).eval()
    assert isinstance(copy, SegmentObjective)
    images = torch.empty(1, size, size, 3, dtype=torch.uint8, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        maps = copy.maps(images)
        below = int(counter.get_total_flops())
        copy.logits(maps)
    head = int(counter.get_total_flops()) - below
    return (1 if objective.frozen else TRAINING_OVER_FORWARD) * below + TRAINING_OVER_FORWARD * head
