"""Zero-shot scores of a task's classes, by the pre-trained classifier's rows of their synsets; and their accuracy.

    "dog"              the row of dog; with hyponyms also those of poodle, husky, ... that the vocabulary has
    "airplane cabin"   two synsets, since WordNet has no such noun: the mean of the scores of airplane and cabin
    "zzyzx"            no row: cannot be scored

The meaning of a row's logit depends on the loss of the pre-training:

    binary cross entropy    the log-odds that a caption names the synset, each by itself
    softmax                 less the logarithm of the sum of exp over the vocabulary: the log of the share that the
                            synset has of the caption's labels

With one class an image, a choice is wanted. Test sets have about equally many images of each class, so a word that is
frequent in captions should have no advantage over a rare one. Therefore the prior of each synset, by its frequency in
the corpus, is subtracted ("remove"): by Bayes' rule, the rest is how much likelier the image makes the synset. For a
mean average precision over several classes an image, scores rank the pairs as they are ("keep").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor, nn

from trainer.config import LossName
from trainer.data.labelled_images import LabelledImages
from trainer.loss.losses import inverse_document_frequency, is_softmax
from trainer.metrics import average_precision, micro_average_precision
from trainer.probe.measures import TOP, accuracies_of, ranks_of
from trainer.transfer.transfer_init import ClassMatch
from vocab import taxonomy, wordnet
from vocab.errors import InputError
from vocab.pages.text import counted
from vocab.vocabulary import Vocabulary

Prior = Literal["keep", "remove"]

# Logits in float64 that exist at a time.
CHUNK_ELEMENTS = 1 << 23


@dataclass(frozen=True)
class ClassRows:
    """Rows of the pre-trained classifier that score a class."""

    groups: tuple[tuple[int, ...], ...]
    """for each synset of the class that has any: its own row and its hyponyms', ascending"""

    @property
    def scorable(self) -> bool:
        """True if any row scores the class."""
        return bool(self.groups)


def rows_of_classes(
    matches: Sequence[ClassMatch], vocabulary: Vocabulary, *, alpha: float, hyponyms: bool, one_class: bool
) -> list[ClassRows]:
    """Find the rows of each class. `alpha`: the one that the matches were made with.

    With `hyponyms`, rows of all synsets of the vocabulary below a class's count for it, so that a class without a row
    of its own may have some. Where an image has `one_class`, what lies at or below a more specific class of the task is
    that class's alone: beside "poodle", "dog" is every other dog.
    """
    nearest = {
        synset: best
        for match in matches
        for synset, best in zip(match.synsets, match.nearest, strict=True)
        if best[1] >= np.float32(alpha)
    }
    wnids = sorted({synset for match in matches for synset in match.synsets})
    positions = {wnid: position for position, wnid in enumerate(wnids)}
    labels = {
        wordnet.wnid_of(synset): label
        for synset, label in zip(*map(np.ndarray.tolist, vocabulary.members), strict=True)
    }
    below = _below(wnids, vocabulary) if hyponyms else None
    found = []
    for match in matches:
        groups: dict[tuple[int, ...], None] = {}
        for synset in match.synsets:
            rows = {labels[nearest[synset][0]]} if synset in nearest else set()
            if below is not None:
                labels_below, synsets_below = below[positions[synset]]
                inside = set(labels_below)
                for other in synsets_below - {positions[own] for own in match.synsets} if one_class else ():
                    inside -= below[other][0] | {labels.get(wnids[other], -1)}
                rows |= inside
            if rows:
                groups[tuple(sorted(rows))] = None
        found.append(ClassRows(tuple(groups)))
    return found


def synset_scores(
    features: Float32[Tensor, "images width"],
    classifier: nn.Linear,
    vocabulary: Vocabulary,
    classes: Sequence[ClassRows],
    *,
    prior: Prior,
    combine: Literal["max", "any"],
    loss: LossName,
) -> Float32[Tensor, "images classes"]:
    """Compute scores of scorable classes, on the CPU; some images at a time, on the features' device, in float64.

    Over a synset's rows: the largest ("max"), or what the rows say together ("any"): by `loss` the log-odds that at
    least one of them is there (`any_of`), or the log of the sum of their shares (`sum_of`). Over a class's synsets: the
    mean. Where the prior is removed, it is taken off each row before the largest is sought, and off "any" as the same
    formula gives it from the frequencies.
    """
    device, shares = features.device, is_softmax(loss)
    groups = [group for rows in classes for group in rows.groups]
    flat = np.array([label for group in groups for label in group], np.int64)
    # Shares need the logits of all classes of the vocabulary; log-odds only those of the rows.
    used, positions = (np.arange(len(vocabulary)), flat) if shares else np.unique(flat, return_inverse=True)
    at, positions_at = (torch.from_numpy(each).to(device) for each in (used, positions))
    weight, bias = classifier.weight.detach().to(device)[at], classifier.bias.detach().to(device)[at]
    frequency = prior_of(vocabulary, loss)[flat].to(device)[:, None]
    sizes = torch.tensor([len(group) for group in groups], device=device)
    counts = torch.tensor([len(rows.groups) for rows in classes], device=device)
    together = sum_of if shares else any_of
    scores = torch.empty(len(features), len(classes))
    chunk = max(1, CHUNK_ELEMENTS // max(len(used), len(flat)))
    for start in range(0, len(features), chunk):
        logits = torch.addmm(bias, features[start : start + chunk], weight.T).double()
        rows = (logits.log_softmax(1) if shares else logits).T[positions_at]
        match combine:
            case "max":
                off = torch.zeros_like(frequency) if prior == "keep" else frequency
                by_group = torch.segment_reduce(rows - off, "max", lengths=sizes)
            case "any":
                by_group = together(rows, sizes) - (together(frequency, sizes) if prior == "remove" else 0)
        by_class = torch.segment_reduce(by_group, "mean", lengths=counts)
        scores[start : start + chunk] = by_class.T.float().cpu()
    return scores


def prior_of(vocabulary: Vocabulary, loss: LossName) -> Float64[Tensor, " classes"]:
    """Prior of each row: the log-odds of its synset's frequency among captions, or the log of its share of all labels,
    weighted as the loss weights them.
    """
    if not is_softmax(loss):
        return torch.from_numpy(vocabulary.log_odds)
    labels = torch.from_numpy(vocabulary.captions).double()
    if loss == "softmax-idf":
        labels *= inverse_document_frequency(vocabulary)
    # A class that was never a target counts as if it had been once: its logarithm is a number.
    labels = labels.clamp_min(1)
    return (labels / labels.sum()).log()


def any_of(
    log_odds: Float64[Tensor, "rows images"], sizes: Int64[Tensor, " groups"]
) -> Float64[Tensor, "groups images"]:
    """Compute the log-odds that at least one row of a group is true, as if independent; groups lie one after another.

    With l the log-odds of a row, 1 - p = exp(-softplus(l)); so the odds of a group are exp(s) - 1, s the sum over its
    rows of softplus(l). Near 0 and 1 that loses no digits, where 1 - prod(1 - p) would.
    """
    total = torch.segment_reduce(torch.nn.functional.softplus(log_odds), "sum", lengths=sizes)
    total = total.clamp_min(torch.finfo(total.dtype).tiny)
    return total + torch.log(-torch.expm1(-total))


def sum_of(
    log_shares: Float64[Tensor, "rows images"], sizes: Int64[Tensor, " groups"]
) -> Float64[Tensor, "groups images"]:
    """Compute the log of the sum of a group's shares: each label of an image is one class, so that shares add up."""
    largest = torch.segment_reduce(log_shares, "max", lengths=sizes)
    parts = (log_shares - largest.repeat_interleave(sizes, 0)).exp()
    return largest + torch.segment_reduce(parts, "sum", lengths=sizes).log()


def _below(wnids: list[str], vocabulary: Vocabulary) -> list[tuple[frozenset[int], frozenset[int]]]:
    """Find what lies below each synset: classes of the vocabulary, and positions of the synsets themselves."""
    offsets = np.array([wordnet.synset_of_wnid(wnid) for wnid in wnids], np.int32)
    members, labels = vocabulary.members
    found = taxonomy.hyponyms_in(wordnet.load(), offsets, np.concatenate([members, offsets]))
    size = len(members)
    return [
        (
            frozenset(labels[positions[positions < size]].tolist()),
            frozenset((positions[positions >= size] - size).tolist()),
        )
        for positions in found
    ]


@dataclass(frozen=True)
class ZeroShotReport:
    """Shares of images, or mean average precisions where an image shows any number of classes."""

    images: int
    """number of images that could be decoded"""
    bad_images: int
    classes: int
    scorable_classes: int
    """number of classes with a row of their own or, if hyponyms are asked for, of a hyponym"""
    scorable_images: int
    """number of images that show a class that can be scored. Accuracies are over these images; average precisions are
    over all, since a class should not come first where it is not shown either"""
    top1: float | None = None
    """share of the scorable images whose class comes first among the scorable classes; None with one such class"""
    top5: float | None = None
    """share whose class is among the first five; None with five scorable classes or fewer"""
    top1_all: float | None = None
    """share of all images, where images of unscorable classes count as wrong"""
    top5_all: float | None = None
    map_macro: float | None = None
    """mean of the average precisions of the scorable classes that an image shows"""
    map_micro: float | None = None
    """average precision of all pairs of an image and a scorable class, as one ranking"""
    map_macro_all: float | None = None
    """mean over all classes that an image shows, where unscorable classes have precision 0"""
    map_micro_all: float | None = None
    """average precision of all pairs, where pairs of unscorable classes are never found"""

    @property
    def metric(self) -> tuple[str, float]:
        """Name and value of the main metric: over all images and classes, as a probe's."""
        if self.top1_all is not None:
            return "top1", self.top1_all
        assert self.map_macro_all is not None
        return "map_macro", self.map_macro_all


@dataclass(frozen=True, eq=False)
class ZeroShotResult:
    """Numbers of the report, and of each class and image."""

    report: ZeroShotReport
    by_class: tuple[float | None, ...]
    """top-1 accuracy or average precision of each class; None for a class without images, and for an unscorable one"""
    images_by_class: Int64[np.ndarray, " classes"]
    """number of images that show each class"""
    correct: Bool[np.ndarray, " images"] | None
    """True for each image whose class comes first; None where images have several classes"""


def evaluate(
    scores: Float32[Tensor, "images scorable"], classes: Sequence[ClassRows], images: LabelledImages, *, bad_images: int
) -> ZeroShotResult:
    """Compare scores of the scorable ones of `classes`, in their order, with what the images show.

    Of equal scores the class of the lower number comes first. Raises InputError for scores that are not finite,
    and where no image shows a class that can be scored.
    """
    bad = int((~scores.isfinite()).any(1).sum())
    if bad:
        raise InputError(
            "the model's features",
            found=f"{bad:,} of {len(scores):,} images with scores that are not finite",
            wanted="numbers",
            remedy="Look at the model's run: its loss may have become NaN.",
        )
    scorable = np.array([rows.scorable for rows in classes], np.bool_)
    owners = np.repeat(np.arange(len(images)), np.diff(images.offsets))
    report = ZeroShotReport(
        images=len(images),
        bad_images=bad_images,
        classes=len(classes),
        scorable_classes=int(scorable.sum()),
        scorable_images=len(np.unique(owners[scorable[images.classes]])),
    )
    if not report.scorable_images:
        raise InputError(
            "the test images",
            found=f"{report.images:,} that show none of "
            f"{counted(report.scorable_classes, 'class', 'classes')} that can be scored",
            wanted="at least one image of such a class",
            remedy="Name the classes by --task.class-names FILE, or give images of these classes.",
        )
    # A class's position among the scorable ones, -1 for the others.
    positions = np.where(scorable, np.cumsum(scorable) - 1, -1)
    return (_several if images.multi_label else _one)(scores, positions, images, report)


def _one(
    scores: Float32[Tensor, "images scorable"],
    positions: Int64[np.ndarray, " classes"],
    images: LabelledImages,
    report: ZeroShotReport,
) -> ZeroShotResult:
    own = torch.from_numpy(positions[images.one_class])
    known = (own >= 0).numpy()
    ranks = torch.full((len(images),), len(positions))
    ranks[known] = ranks_of(scores[known], own[known])
    found, among = accuracies_of(ranks, images), (ranks[known] < TOP).double()
    assert found.correct is not None
    assert found.by_class is not None
    several = report.scorable_classes > TOP
    report = replace(
        report,
        top1=float(found.correct[known].mean()) if report.scorable_classes > 1 else None,
        top5=float(among.mean()) if several else None,
        top1_all=found.top1,
        top5_all=float((ranks < TOP).double().mean()) if several else None,
    )
    scored = (positions >= 0) & (images.images_by_class > 0)
    by_class = [value if each else None for value, each in zip(found.by_class.tolist(), scored.tolist(), strict=True)]
    return ZeroShotResult(report, tuple(by_class), images.images_by_class, found.correct)


def _several(
    scores: Float32[Tensor, "images scorable"],
    positions: Int64[np.ndarray, " classes"],
    images: LabelledImages,
    report: ZeroShotReport,
) -> ZeroShotResult:
    kept = positions[images.classes] >= 0
    before = np.concatenate([[0], np.cumsum(kept)])
    offsets, positives = torch.from_numpy(before[images.offsets]), torch.from_numpy(positions[images.classes[kept]])
    average = average_precision(scores, offsets, positives)
    by_class = [None if place < 0 or average[place].isnan() else float(average[place]) for place in positions.tolist()]
    found = [precision for precision in by_class if precision is not None]
    counts = images.images_by_class
    shown = int((counts > 0).sum())
    micro = micro_average_precision(scores, offsets, positives)
    report = replace(
        report,
        map_macro=sum(found) / len(found),
        map_micro=micro,
        map_macro_all=sum(found) / shown,
        map_micro_all=micro * float(kept.mean()),
    )
    return ZeroShotResult(report, tuple(by_class), counts, None)
