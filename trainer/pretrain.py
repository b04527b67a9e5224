"""Pre-training, from top to bottom: images and the nouns of their captions in, an image model out.

In: a `PretrainConfig`. Out: a run directory (`trainer/records/run_directory.py`); its page.html shows what was learnt.

The loop is `Run.train` (`trainer/run.py`), one optimisation step `Step.take` (`trainer/step/step.py`).
"""

from __future__ import annotations

import math
import secrets
from typing import Any

from trainer.config import CHANGEABLE, PLACES, PretrainConfig, check
from trainer.data.batch import Batch
from trainer.data.feed import Feed, check_bad_share
from trainer.data.resolution import Resolution, resolution_of
from trainer.data.source import Source, from_state, to_state
from trainer.distributed import Rank, join_processes, on_every, on_main, set_up_torch
from trainer.inputs import Inputs, open_inputs
from trainer.job import Job
from trainer.model.backbone import on_meta, patch_of
from trainer.probe.probe import open_probe
from trainer.records import run_lock
from trainer.records.ledger import FILE as BAD_SAMPLES
from trainer.records.results import Results
from trainer.records.run_data import RunData, read_run_data, run_data_of
from trainer.records.run_directory import ResumePoint, RunKind, find_resume_point, has_learnt, stored_config
from trainer.run import Run, stopped
from trainer.speed.flops import image_flops
from trainer.speed.peak import peaks_of
from trainer.step.step import Step
from trainer.step.training import Training, build_training
from trainer.weights.sources import SourceWeights, read_source
from vocab.errors import MismatchError
from vocab.pages.text import counted, tell
from vocab.store.locations import refuse_unwritable

PRETRAINING = RunKind("a run", frozenset({"data", "model", "optim", "run"}))
# Names in the log of what loaders count.
ACCOUNT = {
    "bad_samples": "bad",
    "truncated_samples": "truncated",
    "unmatched_samples": "unmatched",
    "surplus_labels": "surplus_labels",
}


def pretrain(config: PretrainConfig) -> int:
    """Train, evaluate, and leave a run directory; continue the run if `config.run.out` already holds it.

    Return 0, or 128 + the number of the signal that stopped it before the last step, with a checkpoint to go on from.
    Raises a CatlipError before the first step for whatever can be known by then.
    """
    with join_processes(config.run.device) as rank:
        check(config, world=rank.world)
        on_main(lambda: refuse_unwritable(config.run.out), rank)
        set_up_torch(config.run.threads, rank)
        # Before the directory is locked: no lock file in a directory that is not a run.
        recorded = on_main(lambda: recorded_data(config), rank)
        inputs = open_inputs(config.data, seed=config.run.seed, thorough=rank.is_main, recorded=recorded)
        with run_lock.held(config.run.out, rank):
            return _pretrain(config, rank, inputs)


def _pretrain(config: PretrainConfig, rank: Rank, inputs: Inputs) -> int:
    resume, data = on_main(lambda: find_start(config, inputs), rank)
    bfloat16 = config.run.is_bfloat16(rank.device.type)
    training = build_training(config, inputs.vocabulary, rank, first=first_weights(config, resume, rank))
    feed = open_feed(config, inputs.train, training, rank, resume)
    step = Step(training, rank, config.optim, model=config.model, compiled=config.run.compile, bfloat16=bfloat16)
    step.check(feed.resolution)
    results = Results(config, rank, inputs, training, open_probe(config.data, config.run), bfloat16)
    job = job_of(config, inputs, data, feed, step, results)
    run = Run(job, step, rank, nonce=on_main(lambda: secrets.token_hex(4), rank))
    with run.open(resume):
        status = run.train()
        summary = stopped(run)
        if status == 0:
            evaluated = run.evaluate()
            weights = run.last_average()
            if evaluated is not None and weights is not None:
                summary = results.write(weights, evaluated, run.progress)
    if rank.is_main:
        tell(f"{summary}\n")
    return status


def recorded_data(config: PretrainConfig) -> RunData | None:
    """Read the data of a run that has learnt something; None where there is none.

    Raises as `stored_config`, and FormatError for a data.json that cannot be read.
    """
    out = config.run.out
    return read_run_data(out) if stored_config(out, PRETRAINING) is not None and has_learnt(out) else None


def find_start(config: PretrainConfig, inputs: Inputs) -> tuple[ResumePoint, RunData]:
    """Find where an earlier start left off, and describe the data as it is now. Writes nothing.

    Raises as `find_resume_point`, and MismatchError for another vocabulary or tars of other content.
    """
    recorded = recorded_data(config)
    # data.json says what the data is, so that it may lie elsewhere now.
    changeable = CHANGEABLE if recorded is None else (*CHANGEABLE, *PLACES)
    resume = find_resume_point(config.run.out, config, PRETRAINING, changeable=changeable)
    data = run_data_of(inputs.train, inputs.held_out, known=recorded)
    found, vocabulary = resume.checkpoint, inputs.vocabulary
    if found is not None and found.fingerprint != vocabulary.fingerprint:
        raise MismatchError(
            found.path,
            found=f"the classes of another vocabulary ({counted(len(found.vocabulary), 'class', 'classes')})",
            wanted=f"those of --vocabulary ({counted(len(vocabulary), 'class', 'classes')})",
            remedy=f"Resume with the vocabulary the run was started with ({config.run.out / 'vocabulary.parquet'}), or "
            "start a new run in another --out.",
        )
    return resume, data


def first_weights(config: PretrainConfig, resume: ResumePoint, rank: Rank) -> SourceWeights | None:
    """Read the weights that --init names; None for random ones, and for a resumed run. Raises as `read_source`."""
    init = config.model.init
    return on_every(lambda: read_source(init), rank) if init is not None and resume.checkpoint is None else None


def open_feed(config: PretrainConfig, source: Source, training: Training[Any], rank: Rank, resume: ResumePoint) -> Feed:
    """Open this rank's batches, from where the run stands."""
    data = config.data
    return Feed(
        source,
        resolution_for(config, world=rank.world, patch=patch_of(training.model)),
        rank=rank.index,
        world=rank.world,
        teams=data.tar_teams,
        workers=data.workers,
        loaders=data.loaders,
        prefetch=data.prefetch,
        start=from_state(resume.state["data"], source, teams=data.tar_teams) if resume.state else None,
        pin_memory=data.pin_memory and rank.device.type == "cuda",
    )


def resolution_for(config: PretrainConfig, *, world: int, patch: int) -> Resolution:
    """Choose the shape of every step: the same on all ranks, and divisible among them."""
    multiple = math.lcm(world, config.data.tar_teams) * config.optim.accumulate
    return resolution_of(config.data, steps=config.optim.steps, multiple=multiple, seed=config.run.seed, patch=patch)


def job_of(config: PretrainConfig, inputs: Inputs, data: RunData, feed: Feed, step: Step, results: Results) -> Job:
    run, vocabulary, source, device = config.run, inputs.vocabulary, inputs.train, step.rank.device
    model, size, one_size = config.model, config.data.image_size, config.data.one_size
    flops = image_flops(lambda: on_meta(model, classes=len(vocabulary), image_size=size, one_size=one_size))

    def operations(number: int, batch: Batch) -> int:
        return len(batch) * flops(batch.images.shape[1], step.patch_share(number))

    def write_start() -> None:
        data.write(run.out)
        vocabulary.save(run.out / "vocabulary.parquet")

    return Job(
        verb="pretrain",
        config=config,
        out=run.out,
        optim=config.optim,
        keeping=run,
        keep_every=run.keep_every,
        fingerprint=vocabulary.fingerprint,
        copied=("config.json", "vocabulary.parquet"),
        batches=feed,
        resolution=feed.resolution,
        operations=operations,
        peaks=peaks_of(run.peak_tflops, device, bfloat16=step.bfloat16),
        data_state=lambda positions: to_state(positions, source, teams=config.data.tar_teams),
        sample_names=source.sample_names,
        account=ACCOUNT,
        check_account=lambda totals, skipped, last: check_bad_share(
            totals, config.data.max_bad_share, examples=f", which {run.out / BAD_SAMPLES} names"
        ),
        write_start=write_start,
        evaluation_due=results.is_due,
        evaluate=lambda step: results.evaluate(),
        show=results.show,
    )
