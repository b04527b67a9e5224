"""What a run reads: training and held-out tars, their labels, the vocabulary; found to fit before any step is taken.

In: a `PretrainConfig`. Out: `Inputs`, two sources of batches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from trainer.batches import Source
from trainer.config import PretrainConfig
from trainer.distributed import Place
from trainer.labels import check_matched, check_vocabulary, find_shards
from trainer.shards import epoch_groups, list_tars
from vocab.errors import InputError
from vocab.label_shards import LabelShards
from vocab.vocabulary import Vocabulary


@dataclass(frozen=True)
class Inputs:
    """Sources of a run."""

    vocabulary: Vocabulary
    train: Source
    held_out: Source


def open_inputs(config: PretrainConfig, place: Place) -> Inputs:
    """Open and check everything, the join of the first tars included.

    Raises FormatError for labels or a vocabulary that are not whole, MismatchError for labels of other images or a
    vocabulary of other labels, InputError for tars that are not there or not enough.
    """
    data = config.data
    train_tars, held_out_tars = split_tars(config)
    # Checksums read every byte of the labels: once for the run is enough.
    labels = LabelShards.open(data.labels, checksums=place.main)
    held_out_labels = LabelShards.open(data.eval_labels, checksums=place.main) if data.eval_labels else labels
    vocabulary = Vocabulary.load(data.vocabulary)
    check_vocabulary(labels, vocabulary, allow_foreign=data.allow_foreign_vocabulary)
    shards = find_shards(labels, train_tars)
    held_out_shards = find_shards(held_out_labels, held_out_tars)
    train = Source(
        tars=tuple(train_tars),
        shards=tuple(shards[tar] for tar in train_tars),
        labels=labels,
        vocabulary=vocabulary,
        image_size=data.image_size,
        batch_size=data.batch_size // place.world,
        seed=config.run.seed,
        min_crop_area=data.min_crop_area,
        flip=data.flip,
        eval_crop=data.eval_crop,
        unlabelled=data.unlabelled,
        shuffle_shards=data.shuffle_shards,
        max_pixels=data.max_pixels,
        max_member_bytes=data.max_member_bytes,
        max_bad_share=data.max_bad_share,
    )
    held_out = replace(
        train,
        tars=tuple(held_out_tars),
        shards=tuple(held_out_shards[tar] for tar in held_out_tars),
        labels=held_out_labels,
        batch_size=max(1, train.batch_size // config.optim.accumulate),
        train=False,
    )
    first = epoch_groups(len(train_tars), seed=config.run.seed, epoch=0, size=data.shuffle_shards)[0]
    for source, tars in [(train, first), (held_out, [0])]:
        joined = dict(zip((source.tars[tar] for tar in tars), source.read_group(tars).joined, strict=True))
        check_matched(joined, place=source.labels.place, max_unmatched_share=data.max_unmatched_share)
    return Inputs(vocabulary, train, held_out)


def split_tars(config: PretrainConfig) -> tuple[list[Path], list[Path]]:
    """Training and held-out tars. Raises InputError if nothing is left to train on, or a tar is on both sides."""
    data = config.data
    tars = list_tars(data.images)
    if data.eval_images:
        held_out = list_tars(data.eval_images)
        shared = {tar.resolve() for tar in tars} & {tar.resolve() for tar in held_out}
        if shared:
            raise InputError(
                "--eval-images",
                found=f"{min(shared)}, which --images names too",
                wanted="tars that are not trained on",
                remedy="Leave it out of one of the two.",
            )
        return tars, held_out
    if len(tars) <= data.holdout_shards:
        raise InputError(
            "--holdout-shards",
            found=f"{data.holdout_shards} of {len(tars)} tars",
            wanted="at least one tar left to train on",
            remedy="Lower --holdout-shards, name more --images, or give --eval-images.",
        )
    return tars[: -data.holdout_shards], tars[-data.holdout_shards :]
