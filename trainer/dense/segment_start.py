"""First weights of linear heads from the pre-trained classifier: Transfer Init for segmentation.

The pre-trained classifier reads pooled features; here its rows read each patch, behind the same norm. In a model that
averages its patches the mean of their logits is that of the image where the norm stands before the pooling, as in Swin,
and near it where the pooled mean is normed, as in ViT and ConvNeXt. Rows of a class-token model never read a patch.
As for images, the logits are centred and scaled on training images (`trainer/transfer/transfer_init.py:scale_head`):
here on the patches whose pixels are mostly of one class.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, Int16, Int64
from torch import Tensor

from trainer.data.images import BadImage
from trainer.data.labelled_images import LabelledImages
from trainer.dense.heads import LinearHeads
from trainer.dense.maps import require_pooled_map
from trainer.dense.masks import MaskedImages
from trainer.dense.segment_evaluation import SegmentTransform, load_pair, windows_of
from trainer.dense.segmenter import SegmentObjective
from trainer.distributed import Rank, exact_device
from trainer.model.objective import evaluating
from trainer.probe.linear import Head
from trainer.transfer.transfer_init import scale_head
from vocab.errors import InputError

MOST_IMAGES, MOST_PATCHES = 200, 20_000
"""training images, and patches of all of them, that say where logits lie"""
PURE_SHARE = 0.5
"""share of a patch's pixels, at least, that are of its class"""
VARIANCE_FLOOR = 1e-12


def start_heads(
    objective: SegmentObjective, head: Head, data: MaskedImages, rank: Rank, *, transform: SegmentTransform
) -> None:
    """Give linear heads a classifier of features, scaled on training images; the same on all ranks.

    Raises InputError if it cannot read the last map, and if none of these images has a patch of a class.
    """
    require_pooled_map(objective.backbone_maps, head.weight.shape[1], remedy="Use --init random.")
    features, classes = patches_of(objective, data, rank, transform=transform)
    patches = LabelledImages(
        store=data.images.store,
        rows=np.arange(len(classes)),
        names=tuple(map(str, range(len(classes)))),
        offsets=np.arange(len(classes) + 1),
        classes=classes,
        labels=data.images.labels,
        multi_label=False,
        fingerprint="",
    )
    scaled, _ = scale_head(head, features, patches)
    exact = features.to(exact_device(features.device)).double()
    deviation = exact.var(0, unbiased=False).clamp_min(VARIANCE_FLOOR).sqrt().float().to(features.device)
    mean = exact.mean(0).float().to(features.device)
    assert isinstance(objective.model, LinearHeads)
    device = features.device
    objective.model.begin_with(Head(scaled.weight.to(device), scaled.bias.to(device)), mean, deviation)


def patches_of(
    objective: SegmentObjective, data: MaskedImages, rank: Rank, *, transform: SegmentTransform
) -> tuple[Float32[Tensor, "patches width"], Int64[np.ndarray, " patches"]]:
    """Compute the features of patches of some images, each with the class of most of its pixels.

    Raises InputError if there are none.
    """
    count = min(MOST_IMAGES, len(data))
    chosen = (np.arange(count) * len(data) // count).tolist()
    how = transform.plain.decoding
    features: list[Tensor] = []
    classes: list[np.ndarray] = []
    with evaluating(objective), data.images.store.open() as read:
        for image in chosen:
            try:
                picture, labels = load_pair(
                    data, image, read, max_pixels=how.max_pixels, take_truncated=how.take_truncated
                )
            except BadImage:
                continue  # named when it is trained on
            pixels = torch.from_numpy(windows_of(picture, "squash", transform).pixels).to(rank.device)
            with torch.autocast(rank.device.type, torch.bfloat16, enabled=transform.plain.bfloat16):
                (found,) = objective.maps(pixels)
            own = classes_of_patches(labels, rows=found.shape[2], columns=found.shape[3])
            known = np.flatnonzero(own.ravel() >= 0)
            kept = min(MOST_PATCHES // count, len(known))
            known = known[np.arange(kept) * len(known) // max(1, kept)]
            features.append(found[0].flatten(1).T[torch.from_numpy(known).to(rank.device)].float())
            classes.append(own.ravel()[known])
    total = np.concatenate(classes) if classes else np.zeros(0, np.int64)
    if not len(total):
        raise InputError(
            "--task.train",
            found="no image with a patch that is mostly of one class",
            wanted="at least one, by which the logits of Transfer Init are scaled",
            remedy="Use --init random, or a smaller patch.",
        )
    return torch.cat(features), total


def classes_of_patches(
    labels: Int16[np.ndarray, "height width"], *, rows: int, columns: int
) -> Int64[np.ndarray, "rows columns"]:
    """Find the class of most pixels of each cell of a grid over a label map; -1 where none has `PURE_SHARE` of them."""
    down = np.arange(labels.shape[0]) * rows // labels.shape[0]
    across = np.arange(labels.shape[1]) * columns // labels.shape[1]
    cells = (down[:, None] * columns + across[None]).ravel()
    count = int(labels.max(initial=0)) + 2
    table = np.bincount(cells * count + labels.ravel() + 1, minlength=rows * columns * count).reshape(-1, count)
    best = table[:, 1:].argmax(1)
    pure = table[np.arange(len(table)), best + 1] >= PURE_SHARE * table.sum(1).clip(1)
    return np.where(pure, best, -1).reshape(rows, columns).astype(np.int64)
