"""Held-out pictures with their caption, what they are labelled with and what the model sees in them.

In: an evaluation and the tars it read. Out: `Picture`s, small enough to stand inside a page.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass

import numpy as np
from PIL import Image

from trainer.batches import Source
from trainer.evaluation import Evaluation
from trainer.images import decode
from trainer.shards import Sample, index_tar, read_member

THUMBNAIL = 256
MAX_CAPTION_BYTES = 1 << 20
MAX_CAPTION_SHOWN = 240


@dataclass(frozen=True)
class Guess:
    """One predicted synset."""

    name: str
    probability: float
    right: bool
    """whether the caption names it too"""


@dataclass(frozen=True)
class Picture:
    """One card of the gallery."""

    key: str
    """shard/key"""
    jpeg: str
    """base64"""
    caption: str
    labelled: list[str]
    predicted: list[Guess]


def pictures(source: Source, result: Evaluation, *, count: int, predictions: int) -> list[Picture]:
    """`count` labelled held-out images, evenly spaced over the evaluation, whatever the model makes of them."""
    labelled = [image for image in range(len(result.samples)) if result.classes_of(image)]
    places = np.linspace(0, len(labelled), min(count, len(labelled)), endpoint=False).astype(int)
    indices: dict[int, list[Sample]] = {}
    shown: list[Picture] = []
    for image in (labelled[place] for place in places):
        tar, index = result.samples[image]
        if tar not in indices:
            indices[tar] = index_tar(source.tars[tar], max_member_bytes=source.max_member_bytes)
        shown.append(_picture(source, result, image, tar, indices[tar][index], predictions))
    return shown


def _picture(source: Source, result: Evaluation, image: int, tar: int, sample: Sample, predictions: int) -> Picture:
    names, classes = source.vocabulary.names, result.classes_of(image)
    probability, best = result.logits[image].sigmoid().topk(min(predictions, len(names)))
    pairs = zip(probability.tolist(), best.tolist(), strict=True)
    return Picture(
        key=f"{source.shards[tar]}/{sample.key}",
        jpeg=_thumbnail(source, tar, sample),
        caption=_caption(source, tar, sample),
        labelled=[names[label] for label in classes],
        predicted=[Guess(names[label], share, label in classes) for share, label in pairs],
    )


def _thumbnail(source: Source, tar: int, sample: Sample) -> str:
    assert sample.image is not None  # it was scored
    image = decode(read_member(source.tars[tar], sample.image), max_pixels=source.max_pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return base64.b64encode(buffer.getvalue()).decode()


def _caption(source: Source, tar: int, sample: Sample) -> str:
    """The .txt member, else "caption" of the .json member, else nothing; shortened."""
    member = sample.members.get("txt") or sample.members.get("json")
    if member is None or member.size > MAX_CAPTION_BYTES:
        return ""
    text = read_member(source.tars[tar], member).decode("utf-8", "replace")
    if "txt" not in sample.members:
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            return ""
        text = str(record.get("caption") or "") if isinstance(record, dict) else ""
    text = " ".join(text.split())
    return text if len(text) <= MAX_CAPTION_SHOWN else text[: MAX_CAPTION_SHOWN - 1] + "…"
