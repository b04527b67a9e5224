"""The real path from captioned tars to a pre-trained run: Spark labels, vocabulary, `python -m trainer pretrain`.

In: a `Corpus`. Out: a `Pretraining`, which names what each verb wrote.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measuring.setting import say
from benchmarks.transfer_study.corpus import Corpus, require_unseen
from trainer.config import DataConfig
from trainer.recipes.files import read_recipe
from trainer.records.record import read_results
from vocab.errors import InputError
from vocab.store.label_shards import LabelShards

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Path(__file__).with_name("recipe.py")
# Captions that a class of the vocabulary stands in at least (V_tau).
MIN_COUNT = 20


@dataclass(frozen=True)
class Pretraining:
    """Files that the verbs wrote, below one folder."""

    folder: Path

    @property
    def labels(self) -> Path:
        """Label shards of the captioned tars."""
        return self.folder / "labels"

    @property
    def test_labels(self) -> Path:
        """Label shards of the tars to evaluate on: apart, so that captions not trained on count for no class."""
        return self.folder / "labels_test"

    @property
    def vocabulary(self) -> Path:
        """Classes of the pre-training."""
        return self.folder / "vocabulary.parquet"

    @property
    def run(self) -> Path:
        """Run directory."""
        return self.folder / "run"


def label(corpus: Corpus) -> Pretraining:
    """Label the captions and prune a vocabulary. Raises MismatchError if a held-out class is among the labels."""
    made = Pretraining(corpus.folder)
    for tars, out in ((corpus.tars, made.labels), (corpus.test_tars, made.test_labels)):
        verb("pipeline", "label", "--captions", str(tars[0].parent), "--out", str(out), "--master", "local[2]")
    require_unseen(LabelShards.open(made.labels), corpus.unseen)
    pruned = ("--min-count", str(MIN_COUNT), "--out", str(made.vocabulary))
    verb("pipeline", "prune", "--labels", str(made.labels), *pruned)
    return made


def pretrain(
    corpus: Corpus, made: Pretraining, *, device: str, options: Sequence[str], out: Path | None = None
) -> dict[str, object]:
    """Train a run by the recipe; what results.json says of it.

    `options`: fields that are not the recipe's; `out`: run directory, where it is not `made.run`.
    """
    run = out or made.run
    data = data_of(corpus, made)
    verb(
        *("trainer", "pretrain", str(RECIPE)),
        *("--images", *data.images, "--eval-images", *data.eval_images),
        *("--labels", data.labels, "--eval-labels", str(data.eval_labels), "--vocabulary", data.vocabulary),
        *("--cache", str(data.cache), "--out", str(run), "--device", device),
        *options,
    )
    return results_of(run)


def results_of(run: Path) -> dict[str, object]:
    """Numbers and facts of a finished run's results.json."""
    results = read_results(run)
    return {**results.details, "seconds": results.records[0].seconds, "evaluation": results.records[0].extra}


def data_of(corpus: Corpus, made: Pretraining) -> DataConfig:
    """The recipe's data path on this corpus."""
    return replace(
        read_recipe(RECIPE)[1].data,
        images=tuple(map(str, corpus.tars)),
        eval_images=tuple(map(str, corpus.test_tars)),
        labels=str(made.labels),
        eval_labels=str(made.test_labels),
        vocabulary=str(made.vocabulary),
        cache=corpus.folder / "cache",
    )


def verb(room: str, *arguments: str) -> None:
    """Run a verb as users do. Raises InputError if it fails; what it says is on the terminal already."""
    say(f"$ python -m {room} {' '.join(arguments)}")
    # The rooms beside this file, whatever else is installed.
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", room, *arguments]
    done = subprocess.run(command, check=False, env=os.environ | {"PYTHONPATH": paths})
    if done.returncode:
        raise InputError(
            f"python -m {room} {arguments[0]}",
            found=f"status {done.returncode}",
            wanted="0",
            remedy="Its message stands above.",
        )
