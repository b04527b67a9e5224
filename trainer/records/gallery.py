"""Held-out pictures with their captions, their labels and the model's predictions."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image
from torch import Tensor

from trainer.data.images import decode
from trainer.data.source import Source, path_of
from trainer.data.tar_index import IMAGE_EXTENSIONS, members_of
from trainer.evaluation import Evaluation
from trainer.records.log import Log
from vocab.store.tars import Member

Probabilities = Callable[[Tensor], Tensor]
"""logits of an image [classes] -> probabilities to show: the sigmoid of each, or a softmax over all"""

PREDICTIONS = 5
"""synsets that are shown of what the model sees in a picture"""
THUMBNAIL = 256
MAX_CAPTION_BYTES = 1 << 20
MAX_CAPTION_SHOWN = 240
LOGGED = 8
"""pictures sent to the log at each evaluation; TensorBoard keeps them all"""


@dataclass(frozen=True)
class Guess:
    """One predicted synset."""

    name: str
    probability: float
    right: bool
    """the caption names this synset too"""

    @property
    def percent(self) -> str:
        """88%; 3.1%, as a softmax over thousands of classes gives; <0.1%."""
        if self.probability < 0.001:
            return "<0.1%"
        return f"{self.probability:.0%}" if self.probability >= 0.1 else f"{self.probability:.1%}"


@dataclass(frozen=True)
class GalleryImage:
    """Held-out image with its captions, labels and guesses."""

    key: str
    """shard/key"""
    jpeg: str
    """base64"""
    caption: str
    labelled: list[str]
    predicted: list[Guess]


def pictures(source: Source, result: Evaluation, *, count: int, probabilities: Probabilities) -> list[GalleryImage]:
    """Take `count` labelled held-out images, evenly spaced over the evaluation, however well they are predicted."""
    labelled = [image for image in range(len(result.samples)) if result.classes_of(image)]
    positions = np.linspace(0, len(labelled), min(count, len(labelled)), endpoint=False).astype(int)
    images = [labelled[position] for position in positions]
    shown: dict[int, GalleryImage] = {}
    for tar in {result.samples[image][0] for image in images}:
        own = [image for image in images if result.samples[image][0] == tar]
        file, table = source.open_tar(tar)
        with file:
            members = members_of(path_of(file), [result.samples[image][1] for image in own])
            keys = dict(zip(table.indices.tolist(), table.keys, strict=True))
            for image in own:
                index = result.samples[image][1]
                key = f"{source.tars[tar].shard}/{keys[index]}"
                shown[image] = _picture(source, result, image, key, file, members[index], probabilities)
    return [shown[image] for image in images]


def log_pictures(log: Log, shown: Sequence[GalleryImage], *, step: int) -> None:
    """Record the first LOGGED pictures of a page in the log, with their captions, labels and guesses."""
    for number, picture in enumerate(shown[:LOGGED]):
        guesses = ", ".join(f"{guess.name} {guess.probability:.0%}" for guess in picture.predicted)
        caption = f"{picture.caption} | labelled: {', '.join(picture.labelled) or 'none'} | predicted: {guesses}"
        log.picture(f"held_out/{number}", base64.b64decode(picture.jpeg), step, caption=caption)


def _picture(
    source: Source,
    result: Evaluation,
    image: int,
    key: str,
    tar: BinaryIO,
    members: Mapping[str, Member],
    probabilities: Probabilities,
) -> GalleryImage:
    names, classes, how = source.vocabulary.names, result.classes_of(image), source.options
    probability, best = probabilities(result.logits[image]).topk(min(PREDICTIONS, len(names)))
    pairs = zip(probability.tolist(), best.tolist(), strict=True)
    pixels = next(members[name] for name in IMAGE_EXTENSIONS if name in members)
    return GalleryImage(
        key=key,
        jpeg=_thumbnail(decode(_read(tar, pixels), max_pixels=how.max_pixels, take_truncated=how.take_truncated)),
        caption=_caption(tar, members),
        labelled=[names[label] for label in classes],
        predicted=[Guess(names[label], share, label in classes) for share, label in pairs],
    )


def _thumbnail(image: Image.Image) -> str:
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return base64.b64encode(buffer.getvalue()).decode()


def _read(tar: BinaryIO, member: Member) -> bytes:
    tar.seek(member.offset)
    return tar.read(member.size)


def _caption(tar: BinaryIO, members: Mapping[str, Member]) -> str:
    """Shortened text of the .txt member, else of "caption" in the .json member, else nothing."""
    member = members.get("txt") or members.get("json")
    if member is None or member.size > MAX_CAPTION_BYTES:
        return ""
    text = _read(tar, member).decode("utf-8", "replace")
    if "txt" not in members:
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            return ""
        text = str(record.get("caption") or "") if isinstance(record, dict) else ""
        # JSON can escape half of a surrogate pair, which nothing that shows the caption could write.
        text = text.encode("utf-8", "replace").decode()
    text = " ".join(text.split())
    return text if len(text) <= MAX_CAPTION_SHOWN else text[: MAX_CAPTION_SHOWN - 1] + "…"
