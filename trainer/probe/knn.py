"""Nearest neighbours (k-NN): training images vote for the classes of others; nothing is trained, nothing is tuned.

As DINO has it (arXiv 2104.14294, section 4.1 and eval_knn.py): cosine similarity, votes of exp(similarity /
temperature).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64
from torch import Tensor

from trainer.data.labelled_images import LabelledImages

# Similarities that exist at a time.
CHUNK_ELEMENTS = 1 << 26
QUERIES = 1024


def votes(
    memory: Float32[Tensor, "images width"],
    images: LabelledImages,
    queries: Float32[Tensor, "others width"],
    *,
    neighbours: int,
    temperature: float,
) -> Iterator[Float32[Tensor, "some classes"]]:
    """Yield scores of each class for some queries after others, on the CPU: its images' share of the votes.

    `images`: whose features `memory` has. All of them vote if they are fewer than `neighbours`.
    """
    memory = F.normalize(memory, dim=1)
    for first in range(0, len(queries), QUERIES):
        some = F.normalize(queries[first : first + QUERIES], dim=1)
        similarity, nearest = _nearest(some, memory, min(neighbours, len(memory)))
        # Of the largest: the shares are the same, and no temperature is too low for float32.
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        yield _counted((weights / weights.sum(1, keepdim=True)).cpu(), nearest.cpu(), images)


def _nearest(
    queries: Float32[Tensor, "some width"], memory: Float32[Tensor, "images width"], count: int
) -> tuple[Float32[Tensor, "some count"], Int64[Tensor, "some count"]]:
    """Find the most similar images, and their similarities in descending order; some of the memory at a time."""
    best, positions = queries.new_empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    positions = positions.to(queries.device)
    rows = max(count, CHUNK_ELEMENTS // QUERIES)
    for first in range(0, len(memory), rows):
        similarity = queries @ memory[first : first + rows].T
        found, where = similarity.topk(min(count, similarity.shape[1]))
        best, positions = torch.cat([best, found], 1), torch.cat([positions, where + first], 1)
        best, kept = best.topk(min(count, best.shape[1]))
        positions = positions.gather(1, kept)
    return best, positions


def _counted(
    weights: Float32[Tensor, "some count"], nearest: Int64[Tensor, "some count"], images: LabelledImages
) -> Float32[Tensor, "some classes"]:
    """Sum the neighbours' weights by the classes that they show."""
    offsets, classes = torch.from_numpy(images.offsets), torch.from_numpy(images.classes)
    chosen = nearest.flatten()
    lengths = offsets.diff()[chosen]
    ends = lengths.cumsum(0)
    positions = torch.arange(int(lengths.sum())) + (offsets[chosen] - ends + lengths).repeat_interleave(lengths)
    queries = torch.arange(len(nearest)).repeat_interleave(nearest.shape[1]).repeat_interleave(lengths)
    scores = torch.zeros(len(nearest), len(images.labels))
    scores.view(-1).index_add_(
        0, queries * len(images.labels) + classes[positions], weights.flatten().repeat_interleave(lengths)
    )
    return scores
