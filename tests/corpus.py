"""A corpus small enough to train on in a test: coloured squares, their labels, their vocabulary; and runs on it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tests.labels import label_table
from tests.pictures import picture, write_tar
from tests.synsets import CAR, CAT, DOG
from trainer.config import DataConfig, LossConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig
from trainer.data.group import Tar
from trainer.data.labels import find_shards
from trainer.data.source import Source
from trainer.data.tar_cache import TarCache
from trainer.data.tar_locations import list_tars
from trainer.data.tar_tables import TarTables
from trainer.records.log import read_log
from vocab.store.label_shards import LabelShards
from vocab.store.label_writing import write_label_shards
from vocab.store.tars import split_name
from vocab.vocabulary import Vocabulary

COLOURS = {DOG: (200, 30, 30), CAT: (30, 200, 30), CAR: (30, 30, 200)}


@dataclass(frozen=True)
class Corpus:
    """Locations of the parts of a corpus."""

    images: Path
    labels: Path
    vocabulary: Path

    def source(self, **changes: Any) -> Source:
        """Open its tars as a source that shuffles two at a time; `changes` are of the source or of its options."""
        tars, labels = list_tars([str(self.images)]), LabelShards.open(self.labels)
        shards = find_shards(labels, tars)
        source = Source(
            tars=tuple(Tar(tar, shards[tar]) for tar in tars),
            labels=(labels,),
            vocabulary=Vocabulary.load(self.vocabulary),
            cache=TarCache(self.images.parent / "cache" / "tars", max_bytes=1 << 30),
            tables=TarTables(self.images.parent / "cache" / "tables"),
        )
        options = {name: changes.pop(name) for name in list(changes) if not hasattr(source, name)}
        return replace(source, options=DataConfig(**{"shuffle_shards": 2, **options}), **changes)

    def config(self, out: Path, **changes: Any) -> PretrainConfig:
        """Configure a run of six steps; `changes` go by field name to the part that has the field."""
        parts: dict[str, Any] = {
            "data": DataConfig(
                images=(str(self.images),),
                labels=str(self.labels),
                vocabulary=str(self.vocabulary),
                image_size=16,
                batch_size=8,
                workers=0,
                shuffle_shards=2,
                cache=self.images.parent / "cache",
            ),
            "model": ModelConfig(
                model="vit_tiny_patch16_224",
                patch_size=8,
                embed_dim=16,
                depth=1,
                num_heads=2,
                global_pool="token",
                drop_path=0.1,
            ),
            "loss": LossConfig(),
            "optim": OptimConfig(steps=6, warmup_steps=2, peak_lr=3e-3, ema_momentum=0.1),
            "run": RunConfig(out=out, log_every=1, checkpoint_every=2, eval_workers=0, gallery=3, device="cpu"),
        }
        for name, part in parts.items():
            parts[name] = replace(
                part, **{field: changes.pop(field) for field in list(changes) if hasattr(part, field)}
            )
        assert not changes
        return PretrainConfig(**parts)


def make_corpus(
    root: Path,
    *,
    tars: int = 4,
    samples: int = 13,
    extra: Mapping[str, bytes] | None = None,
    extra_labelled: bool = True,
) -> Corpus:
    """Write `tars` tars of `samples` squares each: red dogs, green cats and blue cars.

    The `extra` members end the first tar; their samples are labelled dogs, or have no row in the labels. Every fifth
    of the other samples has an empty label.
    """
    rows: list[tuple[str, str, list[int]]] = []
    for tar in range(tars):
        members: dict[str, bytes] = {}
        for number in range(samples):
            key, synset = f"{tar:05d}{number:04d}", (DOG, CAT, CAR)[number % 3]
            members[f"{key}.png"] = picture(COLOURS[synset])
            members[f"{key}.txt"] = f"<b>square</b> {number}".encode()
            rows.append((f"{tar:05d}", key, [] if number % 5 == 4 else [synset]))
        write_tar(root / "images" / f"{tar:05d}.tar", members | dict(extra or {} if tar == 0 else {}))
    strangers = {split_name(name)[0] for name in extra or {}} if extra_labelled else set()
    return label(root, rows + [("00000", key, [DOG]) for key in sorted(strangers)])


def label(root: Path, rows: list[tuple[str, str, list[int]]]) -> Corpus:
    """Write labels of (shard, key, synsets) rows and their vocabulary beside the images in `root`."""
    manifest = write_label_shards(root / "labels", label_table(*rows), labeler="test", fingerprint="f" * 64)
    labels = LabelShards.open(root / "labels")
    vocabulary = Vocabulary.from_counts(
        labels.counts(), rows=manifest.labelled + manifest.empty, min_count=1, sources=(labels.counts_sha256,)
    )
    vocabulary.save(root / "vocabulary.parquet")
    return Corpus(root / "images", root / "labels", root / "vocabulary.parquet")


def losses(run: Path) -> list[float]:
    """Read the losses that a run logged."""
    return [line["loss"] for line in read_log(run / "metrics.jsonl") if "loss" in line]


def same_weights(one: Path, other: Path) -> bool:
    """Compare the weights that two runs ended with."""
    ours, theirs = (load_file(run / "model.safetensors") for run in (one, other))
    return all(torch.equal(ours[name], theirs[name]) for name in ours.keys() | theirs.keys())


def command(config: PretrainConfig) -> list[str]:
    """Spell a configuration as a command line."""
    words = []
    for part in (config.data, config.model, config.loss, config.optim, config.run):
        for field in dataclasses.fields(part):
            name, value = field.name.replace("_", "-"), getattr(part, field.name)
            if isinstance(value, bool):
                words.append(f"--{name}" if value else f"--no-{name}")
            elif value not in (None, ()):
                words += [f"--{name}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return ["pretrain", "sample", *words]


def spikes(run: Path) -> list[dict[str, Any]]:
    """Lines of a run's spikes.jsonl."""
    return [json.loads(line) for line in (run / "spikes.jsonl").read_text().splitlines()]
