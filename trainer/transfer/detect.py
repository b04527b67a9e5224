"""Detection, from top to bottom: a pre-trained model and images with objects in, their boxes and masks out.

In: a `DetectConfig`. Out: a run directory (`trainer/records/run_directory.py`) with the detector and its results.

The loop is `Run.train` (`trainer/run.py`), the same as that of pre-training and of fine-tuning.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float64
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from trainer.config import OptimConfig
from trainer.data.batch import Batch
from trainer.data.decoding import Decoding
from trainer.data.labelled_images import Read
from trainer.dense.annotated_images import content_of_objects
from trainer.dense.batches import TrainingSample, batches
from trainer.dense.coco_tools import evaluator
from trainer.dense.detect_objective import BOXES, MASKS, DetectObjective, DetectorLayers, detection_flops
from trainer.dense.detect_start import start_rows
from trainer.dense.detect_task import DetectData, open_detect_task
from trainer.dense.maps import FeatureMaps, count_maps
from trainer.dense.mask_rcnn import Detector, HeadSizes
from trainer.dense.objects import DRAWS, MASK_SIDE, Jitter, Viewer, objects_in, view_of
from trainer.dense.windows import use_windows
from trainer.distributed import Rank, on_main, set_up_torch
from trainer.model.backbone import architecture_of, checkpoint_activations
from trainer.model.objective import by_channel, scaled
from trainer.model.per_image import set_drop_path
from trainer.optim.optimiser import lr_scales
from trainer.probe.linear import Head
from trainer.records import run_lock
from trainer.records.record import Record
from trainer.records.run_directory import RunKind, stored_config
from trainer.speed.flops import cost
from trainer.step.step import Step
from trainer.step.training import training_of
from trainer.transfer.batches import EpochPlan
from trainer.transfer.config import CHANGEABLE_DENSE
from trainer.transfer.detect_config import DetectConfig
from trainer.transfer.detect_results import DetectInputs, DetectResults, notes_at_start
from trainer.transfer.task_plan import PlannedStep, tell_plan
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
from trainer.transfer.transfer_init import transfer_head
from trainer.weights.pretrained import WHITE, Pretrained, open_pretrained, require_vocabulary
from vocab.errors import InputError
from vocab.pages.text import tell
from vocab.store.locations import refuse_unwritable

DETECTION = RunKind("a detection run", frozenset({"model", "task", "recipe", "head_width", "checkpoint_every"}))
STAGES = (4, 8, 16, 32)
"""strides of the maps that a pyramid takes from a model of several stages"""


def detect(config: DetectConfig) -> int:
    """Train, evaluate, and leave a run directory; continue the run if `config.out` already holds it.

    Return 0, or 128 + the number of the signal that stopped it before the last step, with a checkpoint to go on from.
    Raises a CatlipError before the first step for whatever can be known by then, MissingRequirementError without the
    extra `dense` among them.
    """
    return carry_out(config, detect_on)


def detect_records(config: DetectConfig, rank: Rank, *, task: str) -> list[Record]:
    """Detect as `detect` does and return the result; nothing on ranks other than the main one. All must call it.

    `task`: its name in the table. Ends the process with the status of a signal that stopped the run.
    """
    return detect_on(config, rank).records(task)


def detect_on(config: DetectConfig, rank: Rank) -> TaskOutcome:
    """Detect as `detect` does, on one rank; all must call it."""
    on_main(lambda: refuse_unwritable(config.out), rank)
    evaluator()  # before a training that ends with it
    config, inputs = open_inputs(config)
    config.check(world=rank.world)
    config = config.timed(steps=inputs.plan.steps)
    if config.plan:
        return planned(config, inputs, rank)
    if rank.is_main:
        tell("".join(f"{note}\n" for note in notes_at_start(config, inputs)))
    set_up_torch(config.threads, rank)
    on_main(lambda: stored_config(config.out, DETECTION), rank)
    with run_lock.held(config.out, rank):
        return _detect(config, inputs, rank)


def _detect(config: DetectConfig, inputs: DetectInputs, rank: Rank) -> TaskOutcome:
    pretrained, train, test = inputs.pretrained, inputs.data.train, inputs.data.test
    contents = content_of(train.images, test.images), content_of_objects(train, test)
    fingerprint = on_main(lambda: fingerprint_of(inputs, *contents), rank)
    resume = on_main(
        lambda: find_start(
            config, fingerprint, kind=DETECTION, changeable=CHANGEABLE_DENSE, contents="images, objects"
        ),
        rank,
    )
    matches = matches_of(config, inputs, rank)
    head: Head | None = None
    if matches:
        # Before the backbone's maps take the place of the classifier.
        head = transfer_head(pretrained.classifier, pretrained.vocabulary, matches, seed=config.seed)
    objective = objective_of(config, inputs).to(rank.device)
    viewer = viewer_of(config, inputs.pretrained)
    # The weights of a resumed run are those of its checkpoint.
    if head is not None and resume.checkpoint is None:
        start_rows(objective, head, inputs.data.train, rank, viewer=viewer, squash=bool(config.squash))
    optim = config.optim(steps=inputs.plan.steps)
    operations = detection_flops(objective.detector, sizes_of(config), size=config.image_size)
    if rank.is_main:
        tell(f"{cost(operations, steps=inputs.plan.steps, batch=inputs.plan.batch)}\n")
    training = training_of(objective, optim, rank.device, lr_scales=scales_of(objective, optim))
    step = Step(training, rank, optim, bfloat16=config.is_bfloat16(rank.device.type))
    results = DetectResults(
        config, rank, inputs, matches, training, viewer, eval_transform(config, rank, size=config.image_size)
    )
    made = training_batches(
        config, inputs, rank, viewer=viewer, after=batches_taken(resume), decoding=results.transform.decoding
    )
    job = job_of(results, step, made, operations=lambda batch: len(batch) * operations, fingerprint=fingerprint)
    return train_and_write(job, step, resume, results)


def planned(config: DetectConfig, inputs: DetectInputs, rank: Rank) -> TaskOutcome:
    """Tell what the run will cost."""
    objective, sizes = objective_of(config, inputs), sizes_of(config)
    step = PlannedStep(
        objective,
        objective.detector.backbone,
        DetectorLayers(objective.detector, sizes),
        operations=detection_flops(objective.detector, sizes, size=config.image_size),
        left_out="anchors, proposals, matching and losses, which depend on the objects of an image",
    )
    return tell_plan(config, inputs, step, rank, title="detection")


def open_inputs(config: DetectConfig) -> tuple[DetectConfig, DetectInputs]:
    """Open the model and the images, complete the options by the recipe and the model, and plan the epochs."""
    pretrained = open_pretrained(config.model, image_size=config.image_size)
    if config.init == "transfer":
        require_vocabulary(pretrained.classes, pretrained.source)
    plain = isinstance(pretrained.model, VisionTransformer)
    depth, stages = count_maps(pretrained.model) if plain else 0, len(blocks_for_pyramid(pretrained.model))
    config = config.completed(depth=depth, stages=stages)
    data = open_task_of(config)
    assert config.batch is not None
    assert config.epochs is not None
    plan = EpochPlan(
        images=len(data.train),
        batch=config.batch,
        epochs=config.epochs,
        seed=config.seed,
        image_size=config.image_size,
        min_crop_area=1.0,
        flip=config.flip,
    )
    return config, DetectInputs(pretrained, data, plan, masks=data.masks)


def open_task_of(config: DetectConfig) -> DetectData:
    """Open the images and objects of a run."""
    return open_detect_task(
        config.task.train,
        config.task.test,
        class_names=config.task.class_names,
        masks={"auto": None, "on": True, "off": False}[config.masks],
        max_bad_share=config.task.max_bad_share,
        percent=config.percent,
        seed=config.seed,
        train_list=config.task.train_list,
        test_list=config.task.test_list,
    )


def objective_of(config: DetectConfig, inputs: DetectInputs) -> DetectObjective:
    """Build the objective of a run."""
    return build_objective(config, inputs.pretrained, classes=len(inputs.task.class_names), masks=inputs.masks)


def build_objective(config: DetectConfig, pretrained: Pretrained, *, classes: int, masks: bool) -> DetectObjective:
    """Build the backbone with pyramid and heads, on the CPU. `masks`: learn masks as well as boxes.

    Raises InputError for options that the model cannot have, and for an image size that its pyramid does not divide.
    """
    torch.manual_seed(config.seed)
    model = pretrained.model
    assert config.drop_path is not None
    if config.drop_path > 0:
        set_drop_path(model, config.drop_path)
    if config.activation_checkpointing:
        checkpoint_activations(model)
    backbone = FeatureMaps(model, size=config.image_size, blocks=blocks_for_pyramid(model))
    if config.attention == "windows":
        use_windows(backbone.model)
    detector = Detector(
        backbone,
        classes=classes,
        sizes=sizes_of(config),
        masks=masks,
        top_down=bool(config.top_down),
        rows=config.init == "transfer",
    )
    check_strides(detector, size=config.image_size)
    seen = pretrained.preprocessing
    return DetectObjective(detector, mean=scaled(seen.mean, WHITE), std=scaled(seen.std, WHITE))


def blocks_for_pyramid(model: nn.Module) -> list[int]:
    """Choose the maps that a pyramid begins with: the last where all have one stride, else those of stride 4 to 32."""
    count_maps(model)
    strides = [int(each["reduction"]) for each in model.feature_info]  # type: ignore[union-attr]
    if len(set(strides)) == 1:
        return [-1]
    return [number for number, stride in enumerate(strides) if stride in STAGES]


def check_strides(detector: Detector, *, size: int) -> None:
    """Raise InputError unless every map of the pyramid lies evenly over the image, at a stride that is a power of 2."""
    strides = detector.pyramid.strides
    finest, coarsest = strides[0], strides[-1]
    name = architecture_of(detector.backbone.model)
    if any(later != 2 * earlier for earlier, later in pairwise(strides)) or finest & (finest - 1):
        raise InputError(
            "the model",
            found=f"{name}, whose maps have strides of {', '.join(map(str, strides))} pixels",
            wanted="powers of 2, each twice the one before, as with patches of 16 pixels",
            remedy="Choose a model with patches of 8, 16 or 32 pixels, or of stages.",
        )
    if size % coarsest:
        raise InputError(
            "--image-size",
            found=f"{size} for {name}, whose pyramid has strides of {finest} to {coarsest} pixels",
            wanted=f"a multiple of {coarsest}",
            remedy=f"Choose {max(1, round(size / coarsest)) * coarsest}.",
        )


def sizes_of(config: DetectConfig) -> HeadSizes:
    """Sizes of the parts above the backbone."""
    return HeadSizes(config.head_width, config.head_convolutions, config.proposals, config.boxes)


def scales_of(objective: DetectObjective, optim: OptimConfig) -> dict[str, float]:
    """Factor on the learning rate of each parameter: the backbone's by its layers, 1 for pyramid and heads."""
    detector = objective.detector
    own = lr_scales(detector.backbone.model, layer_decay=optim.layer_decay)
    prefix = "backbone.model."
    return {
        name: own.get(name.removeprefix(prefix), 1.0) if name.startswith(prefix) else 1.0
        for name, _ in detector.named_parameters()
    }


def viewer_of(config: DetectConfig, pretrained: Pretrained) -> Viewer:
    """Decide how images fill the model's square; the rest of it has the mean colour, which the model sees as 0."""
    red, green, blue = (round(each * WHITE) for each in by_channel(pretrained.preprocessing.mean))
    task = config.task
    return Viewer(config.image_size, (red, green, blue), task.max_pixels, take_truncated=task.take_truncated)


def sample_of(
    config: DetectConfig,
    inputs: DetectInputs,
    viewer: Viewer,
    read: Read,
    image: int,
    draws: Float64[np.ndarray, " draws"],
) -> TrainingSample:
    """Make a sample of a training image: its pixels under the view that the numbers draw, with the objects in it."""
    assert config.jitter is not None
    data = inputs.data.train
    jitter = Jitter(*config.jitter, squash=bool(config.squash), flip=config.flip)
    view = view_of(*data.sizes[image].tolist(), size=config.image_size, jitter=jitter, draws=draws)
    pixels = viewer.pixels(data, read, image, view)
    seen = objects_in(data, image, view, masks=inputs.masks)
    by_label = {BOXES: seen.boxes, **({} if seen.masks is None else {MASKS: seen.masks})}
    return TrainingSample(pixels, seen.classes, by_label=by_label)


def blank_of(config: DetectConfig, inputs: DetectInputs) -> TrainingSample:
    """Make the sample of an image that cannot be decoded: black, without objects."""
    nothing = {BOXES: np.zeros((0, 4), np.float32)}
    masks = {MASKS: np.zeros((0, MASK_SIDE, MASK_SIDE), np.uint8)} if inputs.masks else {}
    return TrainingSample(np.zeros((config.image_size, config.image_size, 3), np.uint8), by_label={**nothing, **masks})


def training_batches(
    config: DetectConfig, inputs: DetectInputs, rank: Rank, *, viewer: Viewer, after: int, decoding: Decoding
) -> Generator[Batch, None, None]:
    """Yield this rank's batches after the first `after`, without end. Close it to end its threads."""
    data = inputs.data.train
    with data.images.store.open() as read:
        yield from batches(
            data.images,
            inputs.plan,
            rank,
            partial(sample_of, config, inputs, viewer, read),
            blank=blank_of(config, inputs),
            count=DRAWS,
            after=after,
            decoding=decoding,
        )
