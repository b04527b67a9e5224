"""Transfer Init: a new classifier that starts from rows of the pre-trained one, by what its classes are called.

In: the names of a task's classes, the vocabulary, the pre-trained classifier. Out: for each class what was found, as
`ClassMatch`, and the new classifier, as `Head`.

    class name  ->  synsets          by the labeler of captions; a wnid is one itself   (vocab/class_names.py)
    synset      ->  row              of the vocabulary's synset at the highest path similarity, if that is >= alpha
    rows        ->  row of the head  their mean; scaled and centred by `scale_head` to suit the task's images

The paper (CatLIP, arXiv 2404.15653) has the first three steps; scaling is ours, for nobody has released theirs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from trainer.data.labelled_images import LabelledImages
from trainer.probe.linear import Head
from trainer.transfer.scaling import fit_sigmoid, fit_softmax
from vocab import taxonomy, wordnet
from vocab.class_names import WNID, synsets_of_class_names
from vocab.errors import InputError, MismatchError
from vocab.vocabulary import Vocabulary

NO_SYNSET, BELOW_ALPHA = "no synset", "below alpha"
RANDOM_SHARE = 0.1
"""length of a random row's own part, over how far the pre-trained rows typically lie from their mean"""
FIT_IMAGES, FIT_ELEMENTS = 20_000, 1 << 25
"""images, and logits, that one or two numbers are fitted on at most: more would not move them"""

Nearest = tuple[str, float]
"""wnid of a class of the vocabulary, and its path similarity"""


@dataclass(frozen=True)
class ClassMatch:
    """What a class of a task starts from."""

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
    """What each class starts from. `alpha`, in (0, 1]: least path similarity; 1 takes the same synset alone.

    Of equally similar classes of the vocabulary the most frequent is taken. Synsets of a name whose best match is below
    alpha are left out. A wnid that WordNet 3.0 does not have is a name without a synset. Raises InputError for an alpha
    that is none.
    """
    if not 0 < alpha <= 1:
        raise InputError(
            "--alpha",
            found=f"{alpha}",
            wanted="a path similarity above 0 and at most 1",
            remedy="1 takes the same synset alone, 0.5 its hypernyms and hyponyms as well.",
        )
    synsets = _synsets_of(class_names)
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


def transfer_head(classifier: nn.Linear, vocabulary: Vocabulary, matches: list[ClassMatch], *, seed: int) -> Head:
    """The mean of each class's rows and biases, as they are in the pre-trained classifier; float32 on the CPU.

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
    """The head as training should begin with it, on the features of training images, and what rows were multiplied by.

    The rows come from a sum of binary cross entropies: each logit is the log-odds that a caption names the class, in
    the corpus's frequencies. A task of one class an image asks for a choice among its classes instead. Therefore

    - each logit is moved so that its mean over the images is 0, each class of images counting alike: the bias is minus
      that mean. That takes out how often captions name the class, and how high it is in all of the task's images.
    - all logits are multiplied by one number, that of the highest likelihood (`scaling.fit_softmax`): rows that know
      the images well start sure of themselves, and rows that know nothing start at 0, where all classes are alike.

    Tasks of several classes an image ask for log-odds, as the rows give them: they keep their biases, and get one scale
    and one offset by Platt's method (`scaling.fit_sigmoid`).

    The fit is sound with one image for each class, and with fewer: it is one number, or two, and the rows have never
    seen a label of these images. Raises InputError for features that are no numbers, MismatchError for those of others.
    """
    _check_features(features, head, images)
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


def _synsets_of(class_names: Sequence[str]) -> list[list[int]]:
    """Offsets for each name; none for a wnid that is none."""
    known = set(wordnet.load().synsets.tolist())
    names = [name.strip() for name in class_names]
    return synsets_of_class_names(
        ["" if WNID.fullmatch(name) and wordnet.synset_of_wnid(name) not in known else name for name in names]
    )


def _nearest(synsets: list[int], vocabulary: Vocabulary) -> dict[int, Nearest]:
    """The vocabulary's class at the highest similarity to each synset, the most frequent of several."""
    nouns, nearest = wordnet.load(), {}
    # The vocabulary is most frequent first, and argmax takes the first of equals. Some at a time: a matrix of all may
    # have billions of entries.
    for start in range(0, len(synsets), taxonomy.COLUMNS):
        some = synsets[start : start + taxonomy.COLUMNS]
        similarity = taxonomy.path_similarity(nouns, np.array(some), vocabulary.synsets)
        for synset, row, label in zip(some, similarity, similarity.argmax(1).tolist(), strict=True):
            nearest[synset] = (vocabulary.wnids[label], float(row[label]))
    return nearest


def _with_others(matches: list[ClassMatch]) -> list[ClassMatch]:
    """The same, with the names of the classes that have the same synsets, or the same rows."""
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
        wanted=f"the {len(vocabulary):,} classes of the vocabulary",
        remedy="Use the vocabulary that the model was trained with.",
    )


def _check_features(features: Float32[Tensor, "images width"], head: Head, images: LabelledImages) -> None:
    have, want = (len(features), *head.weight.shape), (len(images), len(images.labels), features.shape[1])
    if have[0] != want[0] or have[1:] != want[1:]:
        raise MismatchError(
            "the features",
            found=f"{have[0]:,} of width {want[2]:,}, for a classifier of {have[1]:,} classes and width {have[2]:,}",
            wanted=f"those of {want[0]:,} images with {want[1]:,} classes",
            remedy="Compute features and classifier from the same model and images.",
        )
    bad = int((~features.isfinite()).any(1).sum())
    if bad or not len(features):
        raise InputError(
            "the features",
            found=f"{bad:,} of {len(features):,} images with values that are no finite numbers" if bad else "none",
            wanted="numbers, of at least one image",
            remedy="Look at the model's run: its loss may have become no number. Or give other images.",
        )


def _balanced_mean(features: Float32[Tensor, "images width"], classes: Int64[Tensor, " images"], count: int) -> Tensor:
    """Mean [width] of the classes' means, of those that have images; float64."""
    images = torch.bincount(classes, minlength=count)
    weights = 1 / images[classes].double()
    mean = features.new_zeros(features.shape[1], dtype=torch.float64)
    for start in range(0, len(features), FIT_IMAGES):
        mean += weights[start : start + FIT_IMAGES] @ features[start : start + FIT_IMAGES].double()
    return mean / (images > 0).sum()
