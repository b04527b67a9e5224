"""Segmentation without training: the pre-trained classifier's rows of the classes' synsets, at every place of the map.

In: a `SegmentConfig` with `--head zero-shot`. Out: a folder with results.json, results.md and classes.csv.

A model that averages its patches was trained to give their mean a meaning, so that a patch is scored as an image is. A
class-token model never trained what its last block gives patches; there each patch takes its own value
(`trainer/dense/maps.py:OwnValues`). The prior of each synset is subtracted, as in zero-shot classification. Pixels of
classes without a row are ignored, and chance is given beside the score.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from trainer.dense.heads import put_classifier
from trainer.dense.label_maps import IGNORED, LabelMap, LabelMaps
from trainer.dense.maps import FeatureMaps, read_own_values, require_pooled_map
from trainer.dense.masks import MaskedImages, open_test_masks
from trainer.dense.segment_evaluation import SegmentEvaluation, SegmentTransform, evaluate
from trainer.dense.segment_scores import TRUE, SegmentScores
from trainer.dense.segmenter import SegmentObjective
from trainer.distributed import Rank, on_main
from trainer.model.objective import scaled
from trainer.probe.linear import Head
from trainer.records.classes import ClassScores
from trainer.records.record import INTERVAL, NO_INIT, NOTES, Record, named_bad, score_text, write_results
from trainer.transfer.class_tables import no_match_note, write_matches
from trainer.transfer.dense_config import SegmentConfig
from trainer.transfer.synset_scores import prior_of
from trainer.transfer.task_results import TABLE, markdown
from trainer.transfer.tasks.files import check_bad_share, left_out, undecoded
from trainer.transfer.transfer_init import ClassMatch, match_classes, transfer_head
from trainer.weights.folder import check_new, new_folder
from trainer.weights.pretrained import WHITE, Pretrained, open_pretrained, require_vocabulary
from vocab.errors import InputError
from vocab.pages.text import counted, tell
from vocab.store.files import write_whole
from vocab.store.secrets import without_secrets


class RowsHead(nn.Module):
    """The pre-trained classifier's rows as a 1x1 convolution."""

    align_corners = False

    def __init__(self, head: Head) -> None:
        super().__init__()
        classes, width = head.weight.shape
        self.classifier = nn.Conv2d(width, classes, 1)
        put_classifier(self.classifier, head.weight, head.bias)

    def forward(self, maps: list[Tensor], seeds: Tensor | None = None) -> list[Float[Tensor, "batch classes _ _"]]:
        """Logits, the only ones of a list."""
        (features,) = maps
        return [self.classifier(features)]


@dataclass(frozen=True, eq=False)
class SelectedMaps:
    """Label maps in which some of the classes are numbered anew, and the others ignored."""

    maps: LabelMaps
    numbers: Int64[np.ndarray, " classes"]
    """new number of each class; `IGNORED` for one that is left out"""

    def read(self, image: int, *, size: tuple[int, int] | None = None) -> LabelMap:
        labels = self.maps.read(image, size=size)
        # The last entry is for pixels that are ignored already.
        renumbered: LabelMap = np.append(self.numbers, IGNORED).astype(np.int16)[labels]
        return renumbered


def selected(data: MaskedImages, chosen: Int64[np.ndarray, " chosen"]) -> MaskedImages:
    """Keep some of the classes of a data set, and ignore the pixels of all others."""
    images = data.images
    numbers = np.full(len(images.labels), IGNORED, np.int64)
    numbers[chosen] = np.arange(len(chosen))
    renumbered = numbers[images.classes]
    owners = np.repeat(np.arange(len(images)), np.diff(images.offsets))[renumbered >= 0]
    left = replace(
        images,
        labels=tuple(images.labels[number] for number in chosen.tolist()),
        classes=renumbered[renumbered >= 0],
        offsets=np.searchsorted(owners, np.arange(len(images) + 1)).astype(np.int64),
    )
    dropped = int(data.pixels.sum() - data.pixels[chosen].sum())
    maps = SelectedMaps(data.maps, numbers)
    return replace(data, images=left, maps=maps, pixels=data.pixels[chosen], ignored=data.ignored + dropped)


def chance_of(scores: SegmentScores) -> float:
    """Compute the mIoU of predictions that are drawn evenly among the classes, over those that the images show."""
    true = scores.counts.sum(0)[TRUE].astype(np.float64)
    given = true.sum() / len(true)
    right = true / len(true)
    return float((right / (true + given - right))[true > 0].mean())


def segment_zero_shot(config: SegmentConfig, rank: Rank, transform: SegmentTransform) -> tuple[Record | None, str]:
    """Measure, and write a new folder; return the record and a summary, on the main rank. All must call it.

    Raises a CatlipError, and writes nothing, if that is impossible.
    """
    on_main(lambda: check_new(config.out), rank)
    began = time.perf_counter()
    pretrained = open_pretrained(config.model, image_size=config.image_size)
    vocabulary = require_vocabulary(pretrained.classes, pretrained.source)
    data, names, notes = open_test_masks(config.task, rank)
    matches = match_classes(names, vocabulary, alpha=config.alpha)
    chosen = np.flatnonzero([bool(match.matches) for match in matches]).astype(np.int64)
    if not len(chosen):
        raise InputError(
            "the classes",
            found=f"none of {counted(len(names), 'class', 'classes')} with a row of the pre-trained classifier",
            wanted="at least one",
            remedy="Name the classes by --task.class-names, or lower --alpha.",
        )
    scorable = [matches[number] for number in chosen.tolist()]
    head = rows_of(pretrained, scorable)
    own_values = read_own_values(pretrained.model)
    seen = pretrained.preprocessing
    backbone = FeatureMaps(pretrained.model, size=config.image_size)
    require_pooled_map(backbone, head.weight.shape[1], remedy="Train a head: --head linear.")
    objective = SegmentObjective(
        backbone,
        RowsHead(head),
        [(0,)],
        frozen=True,
        mean=scaled(seen.mean, WHITE),
        std=scaled(seen.std, WHITE),
    ).to(rank.device)
    kept = selected(data, chosen)
    found = evaluate(objective, kept, rank, transform=transform, views=("slide", "squash"), heads=[0])
    if found is None:
        return None, ""
    check_bad_share("--task.test", len(found.images), found.skipped, config.task.max_bad_share)
    lacking = [match.name for match in matches if not match.matches]
    notes = (*notes, *no_match_note(matches), *undecoded(test=found.skipped))
    record = _record(config, found, kept, time.perf_counter() - began, notes, own_values=own_values)
    details = {"classes_that_cannot_be_scored": lacking, "own_values": own_values}
    _write(config, pretrained, record, found, kept, matches, details)
    chance = score_text("miou", record.extra["chance_miou"])
    return record, (
        f"zero-shot mIoU {score_text('miou', record.value)} over {counted(len(chosen), 'class', 'classes')} of "
        f"{len(names)} on {counted(record.images, 'test image')}; chance {chance}"
    )


def rows_of(pretrained: Pretrained, matches: list[ClassMatch]) -> Head:
    """Average the rows of each class, less the prior of its synsets."""
    vocabulary = pretrained.vocabulary
    prior = torch.from_numpy(np.asarray(prior_of(vocabulary, pretrained.loss))).float()
    without: Any = nn.Linear(pretrained.classifier.in_features, len(vocabulary))
    with torch.no_grad():
        without.weight.copy_(pretrained.classifier.weight)
        without.bias.copy_(pretrained.classifier.bias - prior.to(pretrained.classifier.bias.device))
    return transfer_head(without, vocabulary, matches, seed=0)


def _record(
    config: SegmentConfig,
    found: SegmentEvaluation,
    data: MaskedImages,
    seconds: float,
    notes: tuple[str, ...],
    *,
    own_values: bool,
) -> Record:
    scores = found.scores["slide", 0]
    extra = {
        **scores.numbers(data.pixels),
        "miou_slide": scores.miou,
        "miou_squash": found.scores["squash", 0].miou,
        "chance_miou": chance_of(scores),
        INTERVAL: list(scores.interval()),
        "head": config.head,
        "alpha": config.alpha,
        "own_values": own_values,
        NOTES: list(notes),
    }
    return Record(
        task=without_secrets(config.task.test),
        method="segment",
        init=NO_INIT,
        percent=0.0,
        seed=0,
        metric="miou",
        value=scores.miou,
        images=len(found.images),
        seconds=round(seconds, 1),
        extra=extra,
    )


def _write(
    config: SegmentConfig,
    pretrained: Pretrained,
    record: Record,
    found: SegmentEvaluation,
    data: MaskedImages,
    matches: list[ClassMatch],
    details: dict[str, Any],
) -> None:
    facts = {"test": without_secrets(config.task.test), "classes": len(matches)}
    with new_folder(config.out) as work:
        write_matches(matches, work, alpha=config.alpha)
        with write_whole(work / TABLE) as file:
            shown = {"model": pretrained.source, **facts, **vars(record), **record.extra}
            file.write(markdown(shown, record.extra[NOTES], title="Zero-shot segmentation").encode())
        rows = list(zip(data.images.labels, data.images.images_by_class.tolist(), strict=True))
        ClassScores(("class", "images", "iou"), rows, found.scores["slide", 0].iou.tolist()).write(work)
        write_results(
            work,
            [record],
            verb="segment",
            model=pretrained.source,
            fingerprint=pretrained.fingerprint,
            data=facts,
            notes=record.extra[NOTES],
            left_out=left_out(test=data.images),
            bad_images=named_bad(test=found.skipped),
            details=details,
        )
    tell(f"{config.out} has the results\n")
