"""The files whose bytes are flipped, one or more of each kind that the programs write, and who reads them.

In: an empty folder. Out: `Flipped`s, made by the programs themselves on a drawn corpus of 90 images: labels with the
job's own folder, a vocabulary, a run, an export, a suite of all transfer methods, a probe, and the packed tables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.claim import Owner
from pipeline.config import Label, Prune, SampleConfig
from pipeline.counts import add_counts
from pipeline.finishing import write_finished
from pipeline.job import begun_plan, finished_tasks, write_plan
from pipeline.planning import plan_tasks
from pipeline.prune import open_corpora, prune, rows_of
from pipeline.reading.captions import reading_of
from pipeline.reading.inputs import list_inputs
from pipeline.rewriting import Rewritten
from pipeline.run import labeler_of, plan_of
from pipeline.sample.draw import draw_sample
from pipeline.task import JOB, JobSettings, run_task
from trainer.__main__ import main as trainer
from trainer.checkpoints.checkpoint import open_checkpoint
from trainer.data.batch import Skipped
from trainer.data.tar_tables import TableInputs, make_table, read_table, write_table
from trainer.pretrain import PRETRAINING
from trainer.probe import feature_files
from trainer.records import run_directory
from trainer.records.environment import read_starts
from trainer.records.ledger import Ledger, read_bad_samples
from trainer.records.log import read_log
from trainer.records.record import read_records
from trainer.transfer import suite_folder
from trainer.transfer.finetune import FINETUNING
from trainer.transfer.suite_folder import recorded
from trainer.weights.export import results_of
from trainer.weights.pretrained import open_pretrained
from trainer.weights.run_model import read_weights, stored_config
from vocab import packing, senses, tagger, wordnet
from vocab.packing import unpack
from vocab.store.label_shards import LabelShards
from vocab.vocabulary import Vocabulary

TASKS = """
[[task]]
name = "squares"
train = "{root}/train"
test = "{root}/test"
methods = ["zeroshot", "knn", "probe", "finetune"]
percents = [100]
seeds = [0]
[task.probe]
epochs = 2
train_batch = 8
neighbours = 3
[task.finetune]
epochs = 2
batch = 8
"""
TINY = (
    "--model vit_tiny_patch16_224 --patch-size 8 --embed-dim 32 --depth 1 --num-heads 2 --image-size 32 "
    "--batch-size 16 --workers 0"
)
SHORT = "--steps 4 --warmup-steps 1 --log-every 1 --checkpoint-every 4 --eval-workers 0 --device cpu"


@dataclass(frozen=True)
class Flipped:
    """A file, and the cheapest of its readers in the programs."""

    kind: str
    file: Path
    read: Callable[[], object]
    """raises a CatlipError, or returns None, for a file that it does not use; else all that it takes from the file"""


def make_files(root: Path) -> list[Flipped]:
    """Run the programs, and say what they left."""
    labels, begun, job = _label(root)
    vocabulary = root / "vocabulary.parquet"
    prune(Prune((str(labels),), vocabulary, min_count=2))
    for seed, side in enumerate(("train", "test")):
        _draw_squares(root / side, seed)
    run, export, suite, probed = (root / name for name in ("run", "export", "suite", "probe"))
    data = ("--images", root / "corpus", "--labels", labels, "--vocabulary", vocabulary)
    _run("pretrain", "sample", *data, "--out", run, *TINY.split(), *SHORT.split())
    Ledger(run).add([Skipped("00000", f"{key}", "broken_image") for key in range(4)])
    _run("export", run, "--out", export)
    (root / "tasks.toml").write_text(TASKS.format(root=root))
    cpu = ("--workers", 0, "--device", "cpu", "--features", root / "features")
    _run("transfer", run, "--tasks", root / "tasks.toml", "--out", suite, *cpu)
    task = ("--task.train", root / "train", "--task.test", root / "test")
    _run("probe", run, *task, "--out", probed, "--epochs", 2, "--train-batch", 8, *cpu)
    return [
        *_of_labels(labels, begun, job, vocabulary),
        *_of_run(run),
        *_of_folder("export", export),
        *_of_transfer(suite, probed, root / "features"),
        *_of_tar(root, labels, Vocabulary.load(vocabulary)),
        *_of_tables(root / "tables"),
    ]


def _label(root: Path) -> tuple[Path, Path, JobSettings]:
    """A finished label directory, one whose tasks alone are done, and its job. Spark is slow to start: none runs."""
    draw_sample(SampleConfig(root / "corpus", samples=90, samples_per_shard=30, size=48, processes=1))
    finished, begun = root / "labels", root / "begun"
    for out in (finished, begun):
        options = Label((str(root / "corpus"),), str(out))
        inputs, load = list_inputs(options.captions, options.format), labeler_of(options)
        plan = replace(plan_of(options, inputs, load()), tasks=plan_tasks(inputs, cores=1, task_bytes=1))
        Owner(str(out), "me").claim()
        write_plan(str(out), plan)
        job = JobSettings(str(out), reading_of(options, inputs), load, options.max_caption_bytes, 10**6, plan.id)
        done = [run_task(task, job) for task in plan.tasks]
        if out == finished:
            write_finished(str(out), plan, done, [Rewritten(each.parts) for each in done])
    return finished, begun, job


def _of_labels(labels: Path, begun: Path, job: JobSettings, vocabulary: Path) -> Iterator[Flipped]:
    def opened(*, checksums: bool) -> LabelShards:
        return LabelShards.open(labels, checksums=checksums)

    def counted() -> object:
        corpora = open_corpora((str(labels),))
        return add_counts(corpus.counts() for corpus in corpora), rows_of(corpora)

    def finish() -> object:
        plan = begun_plan(str(begun))
        assert plan is not None
        found = finished_tasks(str(begun), plan.id)
        # A task whose marker is damaged is done again, under other names of files.
        done = [found.get(task.number) or run_task(task, job) for task in plan.tasks]
        manifest = write_finished(str(begun), plan, done, [Rewritten(each.parts) for each in done])
        return manifest.rows, manifest.labelled, manifest.empty, manifest.rejected, LabelShards.open(begun).read_all()

    part = next(labels.glob("part-*"))
    yield Flipped("label part", part, lambda: opened(checksums=True).read_all())
    yield Flipped("label part, streamed", part, lambda: list(opened(checksums=False).synset_lists()))
    yield Flipped("counts", labels / "counts.parquet", counted)
    yield Flipped("rejects", labels / "rejects.parquet", lambda: opened(checksums=False).rejects())
    yield Flipped("manifest", labels / "manifest.json", lambda: opened(checksums=False).manifest)
    for name in ("plan.json", "task-00000.json"):
        yield Flipped(f"job: {name}", begun / JOB / name, finish)
    yield Flipped("job: owner.json", begun / JOB / "owner.json", Owner(str(begun), "me").check)
    yield Flipped("job: part", next(begun.glob("part-*")), finish)
    for kind in ("counts", "rejects"):
        for file in list((begun / JOB).glob(f"{kind}-*"))[:1]:
            yield Flipped(f"job: {kind}", file, finish)
    yield Flipped("vocabulary", vocabulary, lambda: _vocabulary(vocabulary))


def _of_run(run: Path) -> Iterator[Flipped]:
    checkpoint = open_checkpoint(next((run / "checkpoints").iterdir()))
    run_directory.write_rollback(run, checkpoint, checkpoint.state)

    def restored() -> object:
        found = open_checkpoint(checkpoint.path)
        return found.manifest, _bytes(found.load("ema")), _bytes(found.load("model"))

    yield from (Flipped(f"checkpoint: {file.name}", file, restored) for file in sorted(checkpoint.path.iterdir()))
    result = run / "model.safetensors"
    yield Flipped("run: model", result, lambda: _bytes(read_weights(run, kind="ema", step=None).tensors))
    config = run / "config.json"
    yield Flipped(
        "run: config.json", config, lambda: (run_directory.stored_config(run, PRETRAINING), stored_config(run))
    )
    yield Flipped("run: results.json", run / "results.json", lambda: results_of(run))
    yield Flipped("run: rollback.json", run / "rollback.json", lambda: run_directory.rollback_to(checkpoint, run))
    yield from _of_account("run", run)


def _of_account(kind: str, run: Path) -> Iterator[Flipped]:
    """Files that pre-training and fine-tuning write while they go."""
    yield Flipped(f"{kind}: metrics.jsonl", run / "metrics.jsonl", lambda: read_log(run / "metrics.jsonl"))
    yield Flipped(f"{kind}: environment.json", run / "environment.json", lambda: read_starts(run))
    bad = run / "bad_samples.jsonl"
    if bad.stat().st_size:
        yield Flipped(f"{kind}: bad_samples.jsonl", bad, lambda: read_bad_samples(run))


def _of_folder(kind: str, folder: Path) -> Iterator[Flipped]:
    def opened() -> object:
        model = open_pretrained(folder)
        return model.fingerprint, model.preprocessing, model.loss, model.arguments, _values(model.vocabulary)

    for name in ("model.safetensors", "config.json", "vocabulary.parquet"):
        yield Flipped(f"{kind}: {name}", folder / name, opened)


def _of_transfer(suite: Path, probed: Path, features: Path) -> Iterator[Flipped]:
    yield Flipped("suite: records.jsonl", suite / "records.jsonl", lambda: recorded(suite))
    yield Flipped("suite: config.json", suite / "config.json", lambda: suite_folder.read_config(suite))
    yield Flipped("suite: results.json", suite / "results.json", lambda: read_records(suite))
    tuned = next((suite / "finetune").iterdir())
    yield Flipped(
        "finetune: config.json", tuned / "config.json", lambda: run_directory.stored_config(tuned, FINETUNING)
    )
    for kind, folder in (("finetune", tuned), ("probe", probed)):
        yield Flipped(f"{kind}: results.json", folder / "results.json", partial(read_records, folder))
    yield from _of_account("finetune", tuned)
    file = min(features.glob("*.safetensors"))
    key, width = _described(file)
    yield Flipped("features", file, lambda: _stored(feature_files.read(file, key, width=width)))


def _of_tar(root: Path, labels: Path, vocabulary: Vocabulary) -> Iterator[Flipped]:
    made, tar = root / "table.arrow", root / "corpus" / "00000.tar"
    of = TableInputs(str(tar), "00000", LabelShards.open(labels), vocabulary, max_member_bytes=1 << 30)
    write_table(made, make_table(tar, of))

    def read() -> object:
        table = read_table(made)
        return None if table is None else (table.keys, *map(np.ndarray.tolist, (table.offsets, table.sizes)))

    yield Flipped("tar table", made, read)


def _of_tables(folder: Path) -> Iterator[Flipped]:
    folder.mkdir()
    for table in (wordnet, senses, tagger):
        file = folder / table.PACKED.file
        file.write_bytes(packing.read(table.PACKED))
        yield Flipped("packed table", file, partial(_tables, table.PACKED, file))


def _tables(kind: packing.Kind, file: Path) -> object:
    tables, about = unpack(kind, file.read_bytes())
    arrays = {name: np.asarray(table) for name, table in tables.items()}
    # Lists of all numbers would take longer than the reading.
    return {name: each.tolist() if each.dtype == object else each.tobytes() for name, each in arrays.items()}, about


def _vocabulary(path: Path) -> object:
    return _values(Vocabulary.load(path))


def _values(vocabulary: Vocabulary) -> object:
    return vocabulary.wnids, vocabulary.captions.tolist(), vocabulary.rows, vocabulary.min_count, vocabulary.sources


def _bytes(tensors: dict[str, Any]) -> object:
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def _described(file: Path) -> tuple[str, int]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return opened.metadata()[feature_files.KEY], opened.get_tensor("values").shape[1]


def _stored(found: feature_files.Stored | None) -> object:
    return None if found is None else (found.rows.tolist(), found.values.numpy().tobytes())


def _draw_squares(folder: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    for place, name in enumerate(("dog", "cat", "bird")):
        (folder / name).mkdir(parents=True)
        for number in range(6):
            pixels = generator.integers(0, 90, (32, 32, 3), np.uint8)
            pixels[..., place] += 120
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def _run(*words: object) -> None:
    """A command of the trainer, in this process."""
    with _arguments(["trainer", *map(str, words)]):
        try:
            trainer()
        except SystemExit as error:
            if error.code:
                raise


@contextmanager
def _arguments(words: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, words
    try:
        yield
    finally:
        sys.argv = before
