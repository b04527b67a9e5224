"""Example captions for synsets.

A label directory holds no captions, so a sample of them is read again (`caption_sample`) and labelled by the same
labeler, which gives the same labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.caption_sample import CaptionSample, sample_captions
from vocab.labeler_record import record_of
from vocab.store.label_shards import LabelShards


@dataclass(frozen=True, eq=False)
class LabelledSample:
    """Sample of a corpus's captions with their labels."""

    sample: CaptionSample
    lists: pa.ListArray
    """[texts] synsets of each text: list<int32>"""


@dataclass(frozen=True)
class Examples:
    """Captions by the synset that they hold."""

    captions: dict[int, list[str]]
    """synset -> captions; a synset that no caption of the sample holds is left out"""
    sample: CaptionSample


def label_again(labels: LabelShards, locations: tuple[str, ...], *, apart_from: str | None = None) -> LabelledSample:
    """Label a bounded sample of the input files' captions as the job did that made the labels.

    Raises MismatchError if this installation would label captions differently, or if the labels were made from other
    files, and what `load_labeler` and `sample_captions` raise.
    """
    labeler = record_of(labels).load(thing="captions beside these labels", otherwise="leave --captions out")
    sample = sample_captions(labels.manifest, locations, apart_from=apart_from)
    return LabelledSample(sample, labeler.label(pa.array(sample.texts, pa.string())))


def examples_of(labelled: LabelledSample, synsets: NDArray[np.int32], *, count: int) -> Examples:
    """Take up to `count` captions of the sample for each synset."""
    texts = labelled.sample.texts
    chosen = choose(labelled.lists, synsets, count=count)
    return Examples({synset: [texts[text] for text in found] for synset, found in chosen.items()}, labelled.sample)


def choose(lists: pa.ListArray, synsets: NDArray[np.int32], *, count: int) -> dict[int, list[int]]:
    """Choose up to `count` lists that hold a synset, spread evenly from the first to the last: synset -> list numbers.

    Synsets that no list holds are left out.
    """
    values = lists.flatten().to_numpy()
    wanted = np.isin(values, synsets)
    values, numbers = values[wanted], pc.list_parent_indices(lists).to_numpy()[wanted]
    order = np.argsort(values, kind="stable")
    found, starts, sizes = np.unique(values[order], return_index=True, return_counts=True)
    chosen: dict[int, list[int]] = {}
    for synset, start, size in zip(found.tolist(), starts.tolist(), sizes.tolist(), strict=True):
        spread = np.unique(np.linspace(0, size - 1, min(count, size)).round().astype(int))
        chosen[synset] = numbers[order[start + spread]].tolist()
    return chosen
