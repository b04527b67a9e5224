"""Scores of a task's classes from the pre-trained classifier alone: each class by the rows of its synsets.

In: what each class matches, features, the classifier. Out: a score for each image and class.

    "dog"              the row of dog; with hyponyms also those of poodle, husky, ... that the vocabulary has
    "airplane cabin"   two synsets, since WordNet has no such noun: the mean of what airplane and cabin get
    "zzyzx"            no row: cannot be scored

What a row's logit says depends on the loss of the pre-training:

    binary cross entropy    the log-odds that a caption names the synset, each by itself
    softmax                 less the logarithm of the sum of exp over the vocabulary: the log of the share that the
                            synset has of the caption's labels

Of one class an image a choice is wanted, and where test sets have equally many images of each class, a word that
captions use often should have no start over a rare one. The same of each synset's frequency in the corpus is therefore
taken off ("remove"): by Bayes' rule what stays is how much likelier the image makes the synset than it was before. For
a mean average precision over several classes an image what the rows say ranks the pairs as it is ("keep").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor, nn

from trainer.config import LossName
from trainer.loss.losses import inverse_document_frequency, is_softmax
from trainer.transfer.transfer_init import ClassMatch
from vocab import taxonomy, wordnet
from vocab.vocabulary import Vocabulary

Prior = Literal["keep", "remove"]
Hyponyms = Literal["none", "max", "any"]

# Logits in float64 that exist at a time.
CHUNK_ELEMENTS = 1 << 23


@dataclass(frozen=True)
class ClassRows:
    """The rows of the pre-trained classifier that a class is scored by."""

    groups: tuple[tuple[int, ...], ...]
    """for each synset of the class that has any: its own row and its hyponyms', ascending"""

    @property
    def scorable(self) -> bool:
        """Whether there are any."""
        return bool(self.groups)


def rows_of_classes(
    matches: Sequence[ClassMatch], vocabulary: Vocabulary, *, alpha: float, hyponyms: bool, one_class: bool
) -> list[ClassRows]:
    """The rows of each class. `alpha`: as the matches were made with.

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
    places = {wnid: place for place, wnid in enumerate(wnids)}
    labels = {wnid: label for label, wnid in enumerate(vocabulary.wnids)}
    below = _below(wnids, vocabulary) if hyponyms else None
    found = []
    for match in matches:
        groups: dict[tuple[int, ...], None] = {}
        for synset in match.synsets:
            rows = {labels[nearest[synset][0]]} if synset in nearest else set()
            if below is not None:
                own = {places[other] for other in match.synsets}
                rows |= below.of(places[synset], own=own, one_class=one_class)
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
    """Scores of classes that can be scored, on the CPU; some images at a time, on the features' device, in float64.

    Over a synset's rows: the largest ("max"), or what the rows say together ("any"): by `loss` the log-odds that at
    least one of them is there (`any_of`), or the log of the sum of their shares (`sum_of`). Over a class's synsets: the
    mean. Where the prior is removed, it is taken off each row before the largest is sought, and off "any" as the same
    formula gives it from the frequencies.
    """
    device, shares = features.device, is_softmax(loss)
    groups = [group for rows in classes for group in rows.groups]
    flat = np.array([label for group in groups for label in group], np.int64)
    # Shares are of all classes of the vocabulary; of log-odds those of the rows are enough.
    used, places = (np.arange(len(vocabulary)), flat) if shares else np.unique(flat, return_inverse=True)
    at, places_at = (torch.from_numpy(each).to(device) for each in (used, places))
    weight, bias = classifier.weight.detach().to(device)[at], classifier.bias.detach().to(device)[at]
    frequency = prior_of(vocabulary, loss)[flat].to(device)[:, None]
    sizes = torch.tensor([len(group) for group in groups], device=device)
    counts = torch.tensor([len(rows.groups) for rows in classes], device=device)
    together = sum_of if shares else any_of
    scores = torch.empty(len(features), len(classes))
    chunk = max(1, CHUNK_ELEMENTS // max(len(used), len(flat)))
    for start in range(0, len(features), chunk):
        logits = torch.addmm(bias, features[start : start + chunk], weight.T).double()
        rows = (logits.log_softmax(1) if shares else logits).T[places_at]
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
    """What the rows say of an image that nobody has seen: log-odds of each class's frequency among captions, or the log
    of its share of all labels, weighted as the loss weights them.
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
    """The log-odds that at least one of a group's rows is true, as if independent: groups lie one after another.

    With l the log-odds of a row, 1 - p = exp(-softplus(l)); so the odds of a group are exp(s) - 1, s the sum over its
    rows of softplus(l). Near 0 and 1 that loses no digits, where 1 - prod(1 - p) would.
    """
    total = torch.segment_reduce(torch.nn.functional.softplus(log_odds), "sum", lengths=sizes)
    total = total.clamp_min(torch.finfo(total.dtype).tiny)
    return total + torch.log(-torch.expm1(-total))


def sum_of(
    log_shares: Float64[Tensor, "rows images"], sizes: Int64[Tensor, " groups"]
) -> Float64[Tensor, "groups images"]:
    """The log of the sum of a group's shares: of an image's labels each is one class, so that shares add up."""
    largest = torch.segment_reduce(log_shares, "max", lengths=sizes)
    parts = (log_shares - largest.repeat_interleave(sizes, 0)).exp()
    return largest + torch.segment_reduce(parts, "sum", lengths=sizes).log()


@dataclass(frozen=True, eq=False)
class _Below:
    """What lies below each synset of the classes."""

    labels: list[frozenset[int]]
    """classes of the vocabulary, by place of the synset"""
    synsets: list[frozenset[int]]
    """places of the classes' own synsets"""
    itself: list[frozenset[int]]
    """the vocabulary's class of the synset itself, if there is one"""

    def of(self, place: int, *, own: set[int], one_class: bool) -> set[int]:
        """Rows below a synset, of a class with the synsets `own`."""
        rows = set(self.labels[place])
        if one_class:
            for other in self.synsets[place] - own:
                rows -= self.labels[other] | self.itself[other]
        return rows


def _below(wnids: list[str], vocabulary: Vocabulary) -> _Below:
    offsets = np.array([wordnet.synset_of_wnid(wnid) for wnid in wnids], np.int32)
    among = np.concatenate([vocabulary.synsets, offsets])
    found = taxonomy.hyponyms_in(wordnet.load(), offsets, among)
    size = len(vocabulary)
    return _Below(
        labels=[frozenset(places[places < size].tolist()) for places in found],
        synsets=[frozenset((places[places >= size] - size).tolist()) for places in found],
        itself=[frozenset({label} if label >= 0 else ()) for label in vocabulary.classes_of(offsets).tolist()],
    )
