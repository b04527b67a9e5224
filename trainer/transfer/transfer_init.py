"""Transfer Init: a new classifier that starts from rows of the pre-trained one, by what its classes are called.

    class name  ->  synsets          by the labeler of captions; a wnid is one itself   (vocab/class_names.py)
    synset      ->  row              of the vocabulary's synset at the highest path similarity, if that is >= alpha
    rows        ->  row of the head  their mean; scaled and centred by `scale_head` to suit the task's images

The paper (CatLIP, arXiv 2404.15653) has the first three steps; scaling is ours, since theirs was not released. One
number (two, for several classes an image) is fitted by maximum likelihood: a convex problem for Newton's method, in
float64. A few images may all be classified rightly, and then no finite number is the best; targets therefore stop short
of 1 and 0, by less the more images there are (Platt 1999).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor, nn

from trainer.data.labelled_images import LabelledImages
from trainer.probe.linear import Head, check_fit, check_numbers
from vocab import taxonomy, wordnet
from vocab.class_names import synsets_of_class_names
from vocab.errors import MismatchError
from vocab.pages.text import counted
from vocab.vocabulary import Vocabulary

NO_SYNSET, BELOW_ALPHA = "no synset", "below alpha"
RANDOM_SHARE = 0.1
"""length of a random row's own part, over how far the pre-trained rows typically lie from their mean"""
FIT_IMAGES, FIT_ELEMENTS = 20_000, 1 << 25
"""images, and logits, that one or two numbers are fitted on at most: more would not move them"""
SCALE_BOUNDS = (0.0, 100.0)
"""smallest and largest fitted scale; a scale below 0 would invert what was learnt"""
NEWTON_STEPS = 100
TOLERANCE = 1e-9
CHUNK_ELEMENTS = 1 << 21
"""logits in float64 that exist at a time"""
RIDGE = 1e-12
"""far below any curvature that matters; stands for the curvature where a scale makes no difference at all"""

Nearest = tuple[str, float]
"""wnid of a class of the vocabulary, and its path similarity"""


@dataclass(frozen=True)
class ClassMatch:
    """Pre-trained rows that a class of a task starts from."""

    name: str
    synsets: tuple[str, ...]
    """wnids of what the name means"""
    matches: tuple[Nearest, ...]
    """the vocabulary's classes whose rows are averaged, each once, by the order of `synsets`"""
    reason: str | None
    """why there are none, so that the class starts at random: "no synset" or "below alpha" """
    shared_with: tuple[str, ...]
    """names of other classes with the same synsets"""
    nearest: tuple[Nearest, ...] = ()
    """the best match of each synset, even below alpha"""
    starts_like: tuple[str, ...] = ()
    """names of other classes with the same rows, those of `shared_with` included: at first nothing tells them apart"""


def match_classes(class_names: Sequence[str], vocabulary: Vocabulary, *, alpha: float) -> list[ClassMatch]:
    """Match each class with pre-trained rows. `alpha`, in (0, 1]: least path similarity; 1 takes the same synset alone.

    Of equally similar classes of the vocabulary the most frequent is taken. Synsets of a name whose best match is below
    alpha are left out. A wnid that WordNet 3.0 does not have is a name without a synset.
    """
    synsets = read_names(class_names, vocabulary)
    nearest = _nearest(sorted({synset for own in synsets for synset in own}), vocabulary)
    found = []
    for name, own in zip(class_names, synsets, strict=True):
        best = [nearest[synset] for synset in own]
        matches: dict[str, float] = {}
        for wnid, similarity in best:
            if similarity >= np.float32(alpha):
                matches[wnid] = max(similarity, matches.get(wnid, 0.0))
        reason = None if matches else BELOW_ALPHA if own else NO_SYNSET
        wnids = tuple(wordnet.wnid_of(synset) for synset in own)
        found.append(ClassMatch(name, wnids, tuple(matches.items()), reason, (), tuple(best)))
    return _with_others(found)


def read_names(class_names: Sequence[str], vocabulary: Vocabulary) -> list[list[int]]:
    """Synsets of each name, read with the labeler and the lexicon of the captions that the vocabulary was counted from.

    A vocabulary that does not tell its labeler, as an imported one, leaves this to our own.
    """
    record = vocabulary.labeler
    if record is None:
        return synsets_of_class_names(class_names)
    # Loaded only if a name needs it: wnids do not.
    return synsets_of_class_names(
        class_names, label=lambda texts: record.load_for_names().label(texts), lexicon=record.lexicon
    )


def transfer_head(classifier: nn.Linear, vocabulary: Vocabulary, matches: list[ClassMatch], *, seed: int) -> Head:
    """Average each class's rows and biases of the pre-trained classifier; float32 on the CPU.

    A class without any gets the mean of all rows of the vocabulary, which is what is common to them, and a random part
    a tenth as long as rows typically differ from that mean. So its logit follows those of the others from image to
    image and stands for none of them: a random row as long as the others would be right or wrong as loudly as they are,
    and one near zero would win wherever all of them are low. The random part, by `seed`, is what the paper has; it
    keeps two such classes apart.

    Raises MismatchError for a classifier or matches of another vocabulary.
    """
    rows, biases = classifier.weight.detach().double().cpu(), classifier.bias.detach().double().cpu()
    _check_classes(len(rows), vocabulary, matches)
    common = rows.mean(0)
    spread = (rows - common).square().mean().sqrt()
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(matches), rows.shape[1], generator=generator)
    weight = common + RANDOM_SHARE * spread * noise
    bias = biases.mean().expand(len(matches)).clone()
    for number, match in enumerate(matches):
        if match.matches:
            labels = torch.from_numpy(_labels_of(match, vocabulary))
            weight[number], bias[number] = rows[labels].mean(0), biases[labels].mean()
    return Head(weight.float(), bias.float())


def scale_head(head: Head, features: Float32[Tensor, "images width"], images: LabelledImages) -> tuple[Head, float]:
    """Scale and centre the head on the features of training images; return it, and the factor of its rows.

    The rows come from a sum of binary cross entropies: each logit is the log-odds that a caption names the class, in
    the corpus's frequencies. A task of one class an image asks for a choice among its classes instead. Therefore

    - each logit is centred: its bias is minus its mean over the images, each class of images counting alike. This
      removes how often captions name the class, and how high its logit is on all of the task's images.
    - all logits are multiplied by one number of the highest likelihood (`fit_softmax`): rows that classify the images
      well start with a large scale, and rows that know nothing with 0, where all classes are alike.

    Tasks of several classes an image ask for log-odds, as the rows give them: they keep their biases, and get one scale
    and one offset by Platt's method (`fit_sigmoid`).

    The fit is sound with one image for each class, and with fewer: it is one number, or two, and the rows have never
    seen a label of these images.

    Raises InputError for features that are not finite, MismatchError for features of other images.
    """
    check_fit(features, images, head)
    check_numbers(features, "the training images")
    device = features.device
    weight, bias = head.weight.to(device), head.bias.to(device)
    count = len(bias)
    most = max(1, min(len(features), FIT_IMAGES, FIT_ELEMENTS // count))
    some = np.arange(most) * len(features) // most  # evenly spaced: of all classes, where they are in order
    rows = features[torch.from_numpy(some).to(device)]
    chosen = images.select(some)
    if images.multi_label:
        offsets, positives = torch.from_numpy(chosen.offsets), torch.from_numpy(chosen.classes)
        scale, offset = fit_sigmoid(Head(weight, bias).logits(rows), offsets.to(device), positives.to(device))
        bias = scale * bias + offset
    else:
        centre = _balanced_mean(features, torch.from_numpy(images.one_class).to(device), count)
        bias = -(weight.double() @ centre).float()
        scale = fit_softmax(Head(weight, bias).logits(rows), torch.from_numpy(chosen.one_class).to(device))
        bias = scale * bias
    return Head((scale * weight).to(head.weight.device), bias.to(head.bias.device)), scale


def _nearest(synsets: list[int], vocabulary: Vocabulary) -> dict[int, Nearest]:
    """Find the vocabulary's class most similar to each synset; of several, the most frequent."""
    nouns, nearest = wordnet.load(), {}
    members, labels = vocabulary.members
    # Members are most frequent first, and argmax takes the first of equals. Some at a time: a matrix of all may
    # have billions of entries.
    for start in range(0, len(synsets), taxonomy.COLUMNS):
        some = synsets[start : start + taxonomy.COLUMNS]
        similarity = taxonomy.path_similarity(nouns, np.array(some), members)
        for synset, row, best in zip(some, similarity, similarity.argmax(1).tolist(), strict=True):
            nearest[synset] = (vocabulary.wnids[labels[best]], float(row[best]))
    return nearest


def _with_others(matches: list[ClassMatch]) -> list[ClassMatch]:
    """Add to each match the names of classes with the same synsets, or with the same rows."""
    alike: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, match in enumerate(matches):
        alike[("synsets", *match.synsets)].append(number)
        alike[("rows", *sorted(wnid for wnid, _ in match.matches))].append(number)

    def others(number: int, what: str, wnids: Sequence[str]) -> tuple[str, ...]:
        group = alike[(what, *wnids)] if wnids else []
        return tuple(matches[other].name for other in group if other != number)

    return [
        replace(
            match,
            shared_with=others(number, "synsets", match.synsets),
            starts_like=others(number, "rows", sorted(wnid for wnid, _ in match.matches)),
        )
        for number, match in enumerate(matches)
    ]


def _labels_of(match: ClassMatch, vocabulary: Vocabulary) -> Int64[np.ndarray, " rows"]:
    offsets = np.array([wordnet.synset_of_wnid(wnid) for wnid, _ in match.matches], np.int32)
    return vocabulary.classes_of(offsets).astype(np.int64)


def _check_classes(rows: int, vocabulary: Vocabulary, matches: list[ClassMatch]) -> None:
    strangers = [match.name for match in matches if (_labels_of(match, vocabulary) < 0).any()]
    if rows == len(vocabulary) and not strangers:
        return
    raise MismatchError(
        "the classes' matches" if strangers else "the pre-trained classifier",
        found=f"{strangers[0]!r} with a synset that the vocabulary lacks" if strangers else f"{rows:,} rows",
        wanted=f"the vocabulary's {counted(len(vocabulary), 'class', 'classes')}",
        remedy="Use the vocabulary that the model was trained with.",
    )


def _balanced_mean(features: Float32[Tensor, "images width"], classes: Int64[Tensor, " images"], count: int) -> Tensor:
    """Mean [width] of the classes' means, of those that have images; float64."""
    images = torch.bincount(classes, minlength=count)
    weights = 1 / images[classes].double()
    mean = features.new_zeros(features.shape[1], dtype=torch.float64)
    for start in range(0, len(features), FIT_IMAGES):
        mean += weights[start : start + FIT_IMAGES] @ features[start : start + FIT_IMAGES].double()
    return mean / (images > 0).sum()


def fit_softmax(logits: Float32[Tensor, "images classes"], classes: Int64[Tensor, " images"]) -> float:
    """Find the scale s, within SCALE_BOUNDS, at which softmax(s logits) makes the images' classes likeliest.

    The targets are 1 - e for an image's class and e / classes for each, e = 1 / (images + 2): what is minimised,

        f(s) = mean of  log sum_k exp(s z_k) - s t.z      f' = mean of  p.z - t.z      f'' = mean of the variance of z

    with p = softmax(s z) and t the target. By Newton's method, kept between two scales on whose sides f' differs.
    """
    low, high = SCALE_BOUNDS
    if _slope(logits, classes, low)[0] >= 0:
        return low
    if _slope(logits, classes, high)[0] <= 0:
        return high
    scale = 1.0
    for _ in range(NEWTON_STEPS):
        slope, curvature = _slope(logits, classes, scale)
        low, high = (low, scale) if slope > 0 else (scale, high)
        # Where Newton leaves the bracket, halve it.
        step = scale - slope / curvature if curvature > 0 else math.inf
        before, scale = scale, step if low < step < high else (low + high) / 2
        if abs(scale - before) <= TOLERANCE * scale:
            break
    return scale


def fit_sigmoid(
    logits: Float32[Tensor, "images classes"],
    offsets: Int64[Tensor, " images_plus_1"],
    positives: Int64[Tensor, " pos"],
) -> tuple[float, float]:
    """Find the scale a >= 0 and the offset c at which sigmoid(a logits + c) has the highest likelihood.

    Over all pairs of an image and a class, of which those of `positives` are true: image i shows
    positives[offsets[i] : offsets[i + 1]]. Targets are (P + 1) / (P + 2) for the P true pairs and 1 / (N + 2) for the N
    others. By Newton's method with halved steps (Lin, Lin and Weng 2007). Where a would be below 0 it is 0, and c the
    log-odds of the mean target.
    """
    true = len(positives)
    false = logits.numel() - true
    targets = (true + 1) / (true + 2), 1 / (false + 2)
    share = (true * targets[0] + false * targets[1]) / logits.numel()
    flat = math.log(share / (1 - share))
    scale, offset = 0.0, flat
    loss, gradient, hessian = _platt(logits, offsets, positives, targets, scale, offset)
    for _ in range(NEWTON_STEPS):
        if float(gradient.abs().max()) <= TOLERANCE:
            break
        step = torch.linalg.solve(hessian, gradient).tolist()
        stride = 1.0
        while stride > TOLERANCE:
            trial = scale - stride * step[0], offset - stride * step[1]
            reached = _platt(logits, offsets, positives, targets, *trial)
            if reached[0] < loss:
                break
            stride /= 2
        else:
            break
        (scale, offset), (loss, gradient, hessian) = trial, reached
    return (scale, offset) if scale > 0 else (0.0, flat)


def _slope(
    logits: Float32[Tensor, "images classes"], classes: Int64[Tensor, " images"], scale: float
) -> tuple[float, float]:
    """f' and f'' of `fit_softmax`."""
    images = len(logits)
    short = 1 / (images + 2)
    slope = curvature = 0.0
    for start, part in _parts(logits):
        own = part.gather(1, classes[start : start + len(part), None])[:, 0]
        chances = (scale * part).softmax(1)
        mean = (chances * part).sum(1)
        slope += float((mean - (1 - short) * own - short * part.mean(1)).sum())
        curvature += float((chances * (part - mean[:, None]).square()).sum())
    return slope / images, curvature / images


def _platt(
    logits: Float32[Tensor, "images classes"],
    offsets: Int64[Tensor, " images_plus_1"],
    positives: Int64[Tensor, " pos"],
    targets: tuple[float, float],
    scale: float,
    offset: float,
) -> tuple[float, Float64[Tensor, "2"], Float64[Tensor, "2 2"]]:
    """Mean loss over all pairs, its gradient and its Hessian, by scale and offset; on the CPU."""
    loss = 0.0
    gradient, hessian = torch.zeros(2, dtype=torch.float64), RIDGE * torch.eye(2, dtype=torch.float64)
    for start, part in _parts(logits):
        ends = offsets[start : start + len(part) + 1]
        rows = torch.arange(len(part), device=part.device).repeat_interleave(ends.diff())
        target = torch.full_like(part, targets[1])
        target[rows, positives[int(ends[0]) : int(ends[-1])]] = targets[0]
        moved = scale * part + offset
        loss += float((torch.nn.functional.softplus(moved) - target * moved).sum())
        chance = moved.sigmoid()
        error, weight = chance - target, chance * (1 - chance)
        gradient += torch.stack([(error * part).sum(), error.sum()]).cpu() / logits.numel()
        mixed = (weight * part).sum()
        entries = [(weight * part.square()).sum(), mixed, mixed, weight.sum()]
        hessian += torch.stack(entries).view(2, 2).cpu() / logits.numel()
    return loss / logits.numel(), gradient, hessian


def _parts(logits: Float32[Tensor, "images classes"]) -> Iterator[tuple[int, Float64[Tensor, "some classes"]]]:
    """Yield some rows at a time in float64, with the number of the first."""
    chunk = max(1, CHUNK_ELEMENTS // logits.shape[1])
    for start in range(0, len(logits), chunk):
        yield start, logits[start : start + chunk].double()
