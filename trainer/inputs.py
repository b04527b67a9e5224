"""Inputs of a run: training and held-out tars, their labels, the vocabulary, checked to fit before the first step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from trainer.config import DataConfig
from trainer.data.group import Tar
from trainer.data.labels import check_matched, check_vocabulary, find_shards
from trainer.data.source import Source, path_of
from trainer.data.tar_cache import cache_of, default_cache
from trainer.data.tar_index import index_tar
from trainer.data.tar_locations import label_path, list_tars, shown_tar
from trainer.data.tar_tables import TarTables
from trainer.records.run_data import RunData, in_recorded_order
from vocab.errors import InputError
from vocab.store.label_shards import LabelShards
from vocab.vocabulary import Vocabulary

TABLE_SHARE = 0.05
"""share of --cache-gb that tables of tars may take, at some 50 bytes a sample"""
MIN_TABLE_BYTES = 1 << 30
"""bytes that they may take in any case"""


@dataclass(frozen=True)
class Inputs:
    """Sources of a run."""

    vocabulary: Vocabulary
    train: Source
    held_out: Source


@dataclass(frozen=True)
class Corpus:
    """Tars of one of `--images`, and the labels that belong to them."""

    tars: tuple[str, ...]
    labels: str


def open_inputs(data: DataConfig, *, seed: int, thorough: bool = True, recorded: RunData | None = None) -> Inputs:
    """Open and check everything.

    `thorough`: read all labels once, and join the first tars; enough in one process of a run. `recorded`: what a run
    that goes on was started with; its tars keep their order and stay held out or not, wherever they lie now.
    Raises FormatError for labels or a vocabulary that are not whole, MismatchError for labels of other images, a
    vocabulary of other labels or tars other than the recorded ones, InputError for tars that are not there or not
    enough.
    """
    train, held_out = split_corpora(data)
    vocabulary = Vocabulary.load(data.vocabulary)
    labels = {
        location: LabelShards.open(location, checksums=thorough)
        for location in dict.fromkeys(corpus.labels for corpus in (*train, *held_out))
    }
    for corpus in train:
        check_vocabulary(labels[corpus.labels], vocabulary, allow_foreign=data.allow_foreign_vocabulary)
    source = open_source(train, labels, vocabulary, data, seed=seed)
    evaluated = replace(
        open_source(held_out, labels, vocabulary, data, seed=seed), train=False, pools=(), weights=(1.0,)
    )
    if recorded is not None:
        source, evaluated = in_recorded_order(source, evaluated, recorded)
    if thorough:
        for each in (source, evaluated):
            check_first_tars(each)
    return Inputs(vocabulary, source, evaluated)


def open_source(
    corpora: Sequence[Corpus], labels: dict[str, LabelShards], vocabulary: Vocabulary, data: DataConfig, *, seed: int
) -> Source:
    """The tars of some corpora as one source, a pool of each where they have weights."""
    locations = list(dict.fromkeys(corpus.labels for corpus in corpora))
    tars: list[Tar] = []
    pools: list[tuple[int, ...]] = []
    for corpus in corpora:
        shards = find_shards(labels[corpus.labels], [label_path(tar) for tar in corpus.tars])
        pools.append(tuple(range(len(tars), len(tars) + len(corpus.tars))))
        tars += [Tar(tar, shards[label_path(tar)], locations.index(corpus.labels)) for tar in corpus.tars]
    _refuse_shared_shards(tars, locations)
    return Source(
        tars=tuple(tars),
        labels=tuple(labels[location] for location in locations),
        vocabulary=vocabulary,
        cache=cache_of(data),
        tables=TarTables(
            default_cache(data.cache) / "tables", max(MIN_TABLE_BYTES, int(data.cache_gb * 1e9 * TABLE_SHARE))
        ),
        pools=tuple(pools) if data.source_weights else (),
        weights=weights_of(data.source_weights, len(pools)) if data.source_weights else (1.0,),
        seed=seed,
        options=data,
    )


def split_corpora(data: DataConfig) -> tuple[list[Corpus], list[Corpus]]:
    """Training and held-out tars; none of the latter without `holdout_shards`.

    Raises InputError if nothing is left to train on, or a tar is on both sides.
    """
    corpora = [_list(pattern, data.labels, data) for pattern in data.images]
    if data.eval_images:
        held_out = [_list(pattern, data.eval_labels or data.labels, data) for pattern in data.eval_images]
        _refuse_trained_on(corpora, held_out, "--eval-images", remedy="Leave it out of one of the two.")
        return corpora, held_out
    if not data.source_weights and len({corpus.labels for corpus in corpora}) == 1:
        # Patterns of one data set: what is held out comes from the end of all of them together.
        everything = sorted({tar for corpus in corpora for tar in corpus.tars})
        corpora = [Corpus(tuple(everything), corpora[0].labels)]
    if data.holdout_shards == 0:
        return corpora, []
    for pattern, corpus in zip(data.images, corpora, strict=False):
        if len(corpus.tars) <= data.holdout_shards:
            raise InputError(
                "--holdout-shards",
                found=f"{data.holdout_shards} of {len(corpus.tars)} tars of {pattern}",
                wanted="at least one tar left to train on",
                # One tar cannot be on both sides, however many are held out.
                remedy="Lower --holdout-shards, name more --images, or give --eval-images."
                if len(corpus.tars) > 1
                else "Name more --images, or give --eval-images (of a sample: draw it with --samples-per-shard).",
            )
    train = [replace(corpus, tars=corpus.tars[: -data.holdout_shards]) for corpus in corpora]
    held_out = [replace(corpus, tars=corpus.tars[-data.holdout_shards :]) for corpus in corpora]
    # The last tar of one pattern can be in the middle of another.
    _refuse_trained_on(train, held_out, "--holdout-shards", remedy="Name each tar once, or give --eval-images.")
    return train, held_out


def _refuse_trained_on(train: Sequence[Corpus], held_out: Sequence[Corpus], option: str, *, remedy: str) -> None:
    shared = {tar for corpus in train for tar in corpus.tars} & {tar for corpus in held_out for tar in corpus.tars}
    if shared:
        raise InputError(
            option,
            found=f"{shown_tar(min(shared))}, which is trained on too",
            wanted="tars that are not trained on",
            remedy=remedy,
        )


def check_first_tars(source: Source) -> None:
    """Raise MismatchError if most samples of the first tars have no row in their labels, or most rows no sample."""
    for pool, order in enumerate(source.orders):
        tars = [source.pool_tars[pool][tar] for tar in order.tars_of(0)]
        source.cache.fetch_ahead([source.tars[tar].location for tar in tars])
        for labels in {source.tars[tar].labels for tar in tars}:
            accounts = {
                shown_tar(source.tars[tar].location): source.table_of(tar).account
                for tar in tars
                if source.tars[tar].labels == labels
            }
            check_matched(
                accounts,
                location=source.labels[labels].location,
                max_unmatched_share=source.options.max_unmatched_share,
                keys=partial(_keys, source, [tar for tar in tars if source.tars[tar].labels == labels]),
            )


def _keys(source: Source, tars: Sequence[int]) -> tuple[list[str], list[str]]:
    """Read the keys of the tar with the most samples without a row, and of its rows in the labels."""
    named = source.tars[max(tars, key=lambda tar: source.table_of(tar).account["unmatched"])]
    with source.cache.open(named.location) as file:
        index = index_tar(
            path_of(file), max_member_bytes=source.options.max_member_bytes, location=shown_tar(named.location)
        )
    return index.keys, source.labels[named.labels].read_shard(named.shard)["key"].to_pylist()


def weights_of(shares: Sequence[float], count: int) -> tuple[float, ...]:
    """Normalise the weights of `count` pools. Raises InputError unless there is a positive, finite one for each."""
    if len(shares) != count or any(not 0 < share < math.inf for share in shares):
        raise InputError(
            "--source-weights",
            found=f"{' '.join(map(str, shares))} for {count} --images",
            wanted="one number above 0 for each",
            remedy="Give as many weights as --images, in the same order, or none.",
        )
    total = sum(shares)
    return tuple(share / total for share in shares)


def _list(pattern: str, labels: str, data: DataConfig) -> Corpus:
    """List the tars of one of `--images`: "IMAGES" with the labels of all, or "IMAGES::LABELS"."""
    images, _, own = pattern.partition("::")
    if not (own or labels):
        raise InputError(
            "--images",
            found=f"{pattern} without labels",
            wanted="IMAGES::LABELS, or --labels",
            remedy="Name the label shards of these images.",
        )
    return Corpus(tuple(list_tars([images], allow_pipe=data.allow_pipe)), own or labels)


def _refuse_shared_shards(tars: Sequence[Tar], locations: Sequence[str]) -> None:
    """Raise InputError if two tars have the same labels: nothing would tell their samples apart."""
    owners: dict[tuple[int, str], str] = {}
    for tar in tars:
        other = owners.setdefault((tar.labels, tar.shard), tar.location)
        if other != tar.location:
            raise InputError(
                shown_tar(tar.location),
                found=f"shard {tar.shard!r} of {locations[tar.labels]}, which {shown_tar(other)} has as well",
                wanted="one tar for each shard",
                remedy="Name each tar in one of --images alone.",
            )
