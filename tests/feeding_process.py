"""One rank that only takes batches and writes down what it saw, for test_trainer_feed_kills.py.

usage under torchrun: feeding_process.py CORPUS RUN STEPS BATCH LOADERS

RUN/state.json is the checkpoint, RUN/pids-RANK.json the processes, RUN/seen.jsonl a line for each step of each rank.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch.distributed as dist

from tests.corpus import Corpus
from trainer.data.feed import Feed
from trainer.data.resolution import FixedResolution
from trainer.data.source import from_state, to_state
from vocab.store.files import write_whole

CHECKPOINT_EVERY = 3


def main(root: Path, run: Path, steps: int, batch: int, loaders: int) -> None:
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo")
    source = Corpus(root / "images", root / "labels", root / "vocabulary.parquet").source()
    kept = run / "state.json"
    start = from_state(json.loads(kept.read_text()), source, teams=1) if kept.exists() else None
    done = start.step if start is not None else 0
    with Feed(source, FixedResolution(16, batch), rank=rank, world=world, workers=loaders, start=start) as feed:
        for taken in feed:
            runners = feed._pool._runners if feed._pool is not None else []
            pids = {"rank": os.getpid(), "loaders": [runner.pid for runner in runners]}
            with write_whole(run / f"pids-{rank}.json") as file:
                file.write(json.dumps(pids).encode())
            done += 1
            line = {"step": done, "world": world, "rank": rank, "samples": taken.samples}
            with (run / "seen.jsonl").open("a") as lines:
                lines.write(json.dumps(line) + "\n")
            # Everybody has written the step down before it is checkpointed.
            dist.barrier()
            if rank == 0 and done % CHECKPOINT_EVERY == 0:
                with write_whole(kept) as file:
                    file.write(json.dumps(to_state([taken.position], source, teams=1)).encode())
            if done == steps:
                break
            time.sleep(0.05)  # time for whoever kills
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
