"""Both sides of the CLIP benchmark, ready to take steps on made-up images.

In: an architecture and sizes of batches. Out: `Sides`, whose towers are proven to be the same.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.clip_race.ours import Catlip, batch_of
from benchmarks.clip_race.peer import Clip, Images, Tokens
from benchmarks.clip_race.towers import CLIP_VOCABULARY, Architecture, build_clip, require_same_towers, training_gflops
from benchmarks.measuring.setting import say
from trainer.data.batch import Batch
from trainer.distributed import Rank
from trainer.model.objective import prepare
from vocab import wordnet
from vocab.vocabulary import Vocabulary

CLASSES = 24_320
# Classes an image has at most; as real captions have them.
MOST_POSITIVES = 6


@dataclass
class Sides:
    """Both, and what they are given."""

    clip: Clip
    catlip: Catlip
    images: Images
    """floats, as CLIP takes them; of one part"""
    tokens: Tokens
    batch: Batch
    """bytes and classes, as CatLIP takes them; of the large batch"""
    parts: int
    """in which CatLIP takes the large batch"""
    clip_parts: int
    """in which CLIP takes it: more where its loss does not fit otherwise"""

    def catlip_small(self) -> None:
        """A step of CatLIP's on one part."""
        self.catlip.take(self.batch.part(0, self.parts))

    def catlip_large(self, *, patch_keep: float = 1.0) -> None:
        """A step of CatLIP's on the large batch."""
        self.catlip.take(self.batch, parts=self.parts, patch_keep=patch_keep)

    def clip_small(self) -> None:
        """A step of CLIP's on one part."""
        self.clip.take(self.images, self.tokens)

    def clip_large(self) -> None:
        """A step of CLIP's on the large batch; each part the same images, for making more of them is not measured."""
        count = len(self.images) * self.parts // self.clip_parts
        self.clip.take_parts([(self.images[:count], self.tokens[:count])] * self.clip_parts)


def build_sides(architecture: Architecture, *, batch: int, parts: int, rank: Rank) -> tuple[Sides, dict[str, Any]]:
    """Both sides for steps of `batch` images and of `parts` times as many, and what an image takes of arithmetic.

    Raises MismatchError if their image towers are not the same.
    """
    compiled = rank.device.type == "cuda"
    size = architecture.image_size
    vocabulary = made_up_vocabulary()
    torch.manual_seed(0)
    clip = Clip(build_clip(architecture), rank, compile=compiled)
    catlip = Catlip(architecture, vocabulary, rank, compile=compiled)
    clip_tower, catlip_tower = require_same_towers(clip.trunk, catlip.model, image_size=size)
    tokens = torch.randint(CLIP_VOCABULARY - 2, (batch, architecture.tokens), device=rank.device)
    whole = {
        "clip": training_gflops(lambda images: clip.model(images, tokens[:1]), clip.model, size),
        "catlip": training_gflops(catlip.model, catlip.model, size),
    }
    made_up = made_up_batch(parts * batch, size, seed=rank.index).to(rank.device)
    images = prepare(made_up.images[:batch], None)
    say(
        f"{architecture.model} at {size} pixels, GFLOP an image in training: tower {clip_tower:.4g} as CLIP computes "
        f"it, {catlip_tower:.4g} as CatLIP does; with all else CLIP {whole['clip']:.4g}, CatLIP {whole['catlip']:.4g}"
    )
    about = {
        "gflop_clip_tower": round(clip_tower, 3),
        "gflop_catlip_tower": round(catlip_tower, 3),
        "gflop_clip": round(whole["clip"], 3),
        "gflop_catlip": round(whole["catlip"], 3),
        "ratio_arithmetic": round(whole["clip"] / whole["catlip"], 3),
    }
    return Sides(clip, catlip, images, tokens, made_up, parts, parts), about


def fit_clip(sides: Sides) -> None:
    """Find how many parts CLIP needs on a GPU, where its loss holds all similarities beside a part's activations.

    Raises torch.OutOfMemoryError if a part of 16 images is still too large.
    """
    while sides.clip.rank.device.type == "cuda":
        try:
            sides.clip_large()
            return
        except torch.OutOfMemoryError:
            if len(sides.images) * sides.parts < 32 * sides.clip_parts:
                raise
        sides.clip.optimizer.zero_grad()
        gc.collect()
        torch.cuda.empty_cache()
        sides.clip_parts *= 2
        say(f"  CLIP does not fit; in {sides.clip_parts} parts instead")


def made_up_vocabulary() -> Vocabulary:
    """Make up as many classes as CatLIP has, with frequencies by Zipf's law."""
    captions = 10_000_000 // np.arange(1, CLASSES + 1)
    return Vocabulary(wordnet.load().synsets[:CLASSES], captions.astype(np.int64), rows=20_000_000, min_count=500)


def made_up_batch(count: int, image_size: int, *, seed: int) -> Batch:
    """Noise, with up to six classes an image."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(MOST_POSITIVES + 1, (count, 1), generator=generator)
    # Steps of a prime: no class stands twice in an image.
    classes = torch.randint(CLASSES, (count, 1), generator=generator) + 4001 * torch.arange(MOST_POSITIVES)
    return batch_of(
        torch.randint(256, (count, image_size, image_size, 3), generator=generator, dtype=torch.uint8),
        torch.rand(count, generator=generator) < 0.5,
        torch.cat([torch.zeros(1, dtype=torch.int64), lengths.flatten().cumsum(0)]),
        (classes % CLASSES)[torch.arange(MOST_POSITIVES) < lengths],
        seeds=torch.arange(count),
    )
