"""Pre-training, from top to bottom: images and the nouns of their captions in, a vision transformer out.

In: a `PretrainConfig`. Out: a run directory (`trainer/records/run_directory.py`); its page.html shows what was learnt.
"""

from __future__ import annotations

import math
import secrets

import torch

from trainer.config import PretrainConfig, check
from trainer.data.feed import Feed
from trainer.data.resolution import Resolution, resolution_of
from trainer.data.source import from_state
from trainer.distributed import Rank, join_processes, on_main
from trainer.inputs import Inputs, open_inputs
from trainer.model.vit import patch_of
from trainer.records import run_directory, run_lock
from trainer.records.run_directory import Found
from trainer.run import Run
from trainer.step.training import Training, build_training
from vocab.pages.text import tell
from vocab.store.locations import refuse_unwritable


def pretrain(config: PretrainConfig) -> int:
    """Train, evaluate, and leave a run directory; continue the run if `config.run.out` already holds it.

    0, or 128 + the number of the signal that stopped it before the last step, with a checkpoint to go on from. Raises a
    CatlipError before the first step for whatever can be known by then.
    """
    with join_processes(config.run.device) as rank:
        check(config, world=rank.world)
        on_main(lambda: refuse_unwritable(config.run.out), rank)
        set_up_torch(config, rank)
        # Asked before the directory is locked: nothing is written to one that is no run.
        recorded = on_main(lambda: run_directory.recorded_data(config.run.out), rank)
        inputs = open_inputs(config.data, seed=config.run.seed, thorough=rank.is_main, recorded=recorded)
        with run_lock.held(config.run.out, rank):
            return _pretrain(config, rank, inputs)


def _pretrain(config: PretrainConfig, rank: Rank, inputs: Inputs) -> int:
    found = on_main(lambda: run_directory.examine(config, inputs), rank)
    training = build_training(config, inputs.vocabulary, rank)
    feed = open_feed(config, inputs, training, rank, found)
    run = Run(config, rank, inputs, training, feed, nonce=on_main(lambda: secrets.token_hex(4), rank))
    with run.open(found):
        status = run.train()
        if status == 0:
            run.finish()
    if rank.is_main:
        tell(f"{run.summary}\n")
    return status


def set_up_torch(config: PretrainConfig, rank: Rank) -> None:
    """Threads and precision of this process."""
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    if rank.device.type == "cuda":
        # What is left in float32 (gradients' sums are not products): TensorFloat-32 where the chip has it.
        torch.set_float32_matmul_precision("high")


def open_feed(config: PretrainConfig, inputs: Inputs, training: Training, rank: Rank, found: Found) -> Feed:
    """This rank's batches, from where the run stands."""
    data = config.data
    return Feed(
        inputs.train,
        resolution_for(config, world=rank.world, patch=patch_of(training.model)),
        rank=rank.index,
        world=rank.world,
        teams=data.tar_teams,
        workers=data.workers,
        loaders=data.loaders,
        prefetch=data.prefetch,
        start=from_state(found.state["data"], inputs.train, teams=data.tar_teams) if found.state else None,
        pin_memory=data.pin_memory and rank.device.type == "cuda",
    )


def resolution_for(config: PretrainConfig, *, world: int, patch: int) -> Resolution:
    """The shape of every step: the same on all ranks, and divisible among them."""
    data = config.data
    return resolution_of(
        data.resolution,
        image_size=data.image_size,
        batch_size=data.batch_size,
        schedule=data.resolution_schedule,
        sizes=data.resolution_sizes,
        steps=config.optim.steps,
        multiple=math.lcm(world, data.tar_teams) * config.optim.accumulate,
        seed=config.run.seed,
        patch=patch,
    )
