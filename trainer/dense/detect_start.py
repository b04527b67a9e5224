"""First weights of a detector's classifier of boxes from the pre-trained one: Transfer Init for detection.

A class's row scores the mean of the backbone's last map inside a box as it scored that of a whole image. As for images,
the logits are centred and scaled on what is trained on (`trainer/transfer/transfer_init.py:scale_head`): here on the
objects of some training images.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from trainer.data.images import BadImage
from trainer.data.labelled_images import LabelledImages
from trainer.dense.annotated_images import AnnotatedImages
from trainer.dense.detect_evaluation import whole_view
from trainer.dense.detect_objective import DetectObjective
from trainer.dense.maps import require_pooled_map
from trainer.dense.mask_rcnn import LAST_MAP, BoxRows
from trainer.dense.objects import Viewer, objects_in
from trainer.distributed import Rank
from trainer.model.objective import evaluating, prepare
from trainer.probe.linear import Head
from trainer.transfer.transfer_init import scale_head
from vocab.errors import InputError

MOST_IMAGES = 200
"""training images whose objects say where logits lie"""


def start_rows(
    objective: DetectObjective, head: Head, data: AnnotatedImages, rank: Rank, *, viewer: Viewer, squash: bool
) -> None:
    """Give the classifier of boxes these rows, scaled on training objects; the same on all ranks.

    Raises InputError if the rows cannot read the last map, and if none of these images shows an object.
    """
    require_pooled_map(objective.detector.backbone, head.weight.shape[1], remedy="Use --init random.")
    features, classes = objects_of(objective, data, rank, viewer=viewer, squash=squash)
    objects = LabelledImages(
        store=data.images.store,
        rows=np.arange(len(classes)),
        names=tuple(map(str, range(len(classes)))),
        offsets=np.arange(len(classes) + 1),
        classes=classes,
        labels=data.images.labels,
        multi_label=False,
        fingerprint="",
    )
    scaled, _ = scale_head(head, features, objects)
    with torch.no_grad():
        linear = rows_of(objective).linear
        linear.weight.copy_(scaled.weight)
        linear.bias.copy_(scaled.bias)


def rows_of(objective: DetectObjective) -> BoxRows:
    """The classifier that Transfer Init begins."""
    rows = objective.detector.heads.rows
    assert isinstance(rows, BoxRows)
    return rows


def objects_of(
    objective: DetectObjective, data: AnnotatedImages, rank: Rank, *, viewer: Viewer, squash: bool
) -> tuple[Float32[Tensor, "objects channels"], Int64[np.ndarray, " objects"]]:
    """Compute the features of the objects of some images, with their classes. Raises InputError if there are none."""
    count = min(MOST_IMAGES, len(data))
    features: list[Tensor] = []
    classes: list[np.ndarray] = []
    with evaluating(objective), data.images.store.open() as read:
        for image in (np.arange(count) * len(data) // count).tolist():
            view = whole_view(*data.sizes[image].tolist(), size=viewer.size, squash=squash)
            seen = objects_in(data, image, view, masks=False)
            try:
                pixels = torch.from_numpy(viewer.pixels(data, read, image, view)[None]).to(rank.device)
            except BadImage:
                continue  # named when it is trained on
            if len(seen.boxes):
                shown = prepare(pixels, None, mean=objective.mean, std=objective.std)
                _, maps = objective.detector.maps(shown)
                boxes = [torch.from_numpy(seen.boxes).to(rank.device)]
                features.append(rows_of(objective).features(maps[LAST_MAP], boxes).float())
                classes.append(seen.classes)
    if not classes:
        raise InputError(
            "--task.train",
            found="no object in the images by which the logits of Transfer Init are scaled",
            wanted="at least one",
            remedy="Use --init random.",
        )
    return torch.cat(features), np.concatenate(classes)
