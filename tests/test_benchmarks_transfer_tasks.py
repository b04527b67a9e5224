"""The transfer benchmark's way through the verbs, on a run of coloured squares; and its options."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.feeding.corpus import write_tar
from benchmarks.transfer import CPU, CUDA, QUICK, TransferBenchmark, measure
from benchmarks.transfer_study.corpus import TaskTars
from benchmarks.transfer_study.report import gain_of
from benchmarks.transfer_study.tasks import Shares, records_of
from tests.corpus import make_corpus
from tests.pictures import picture
from trainer.distributed import Rank
from trainer.pretrain import pretrain
from trainer.transfer.report import results_table
from vocab.errors import OutputExistsError

HERE = Rank(0, 1, torch.device("cpu"))
DOG, CAT, CAR = "n02084071", "n02121620", "n02958343"


def task_of(folder: Path, name: str, wnids: tuple[str, ...]) -> TaskTars:
    """Ten squares of each class to train on, four to test on."""
    folder.mkdir(parents=True)
    for part, count in (("train", 10), ("test", 4)):
        members: dict[str, bytes] = {}
        for number in range(count * len(wnids)):
            label = number % len(wnids)
            colour = tuple(100 + 10 * (number % 5) if channel == label else 20 for channel in range(3))
            members |= {f"{number}.png": picture(colour), f"{number}.cls": str(label).encode()}
        write_tar(folder / f"{part}.tar", members)
    (folder / "classes.txt").write_text("\n".join(wnids))
    return TaskTars(name, folder, wnids)


def test_every_verb_gives_records_for_one_table(tmp_path: Path) -> None:
    assert pretrain(make_corpus(tmp_path / "corpus").config(tmp_path / "run")) == 0
    seen = task_of(tmp_path / "seen", "seen", (DOG, CAT, CAR))
    # A wolf is near a dog, a teapot near nothing.
    unseen = task_of(tmp_path / "unseen", "unseen", ("n02114100", "n04398044"))
    shares = Shares((10.0, 100.0), (0, 1), (2, 1), 8, 1e-3)
    parts = list(records_of(tmp_path / "run", (seen, unseen), shares, HERE, out=tmp_path / "out", finetune=True))
    records = [record for part in parts for record in part]
    assert len({record.key for record in records}) == len(records)
    counts = {
        (task, method): sum((record.task, record.method) == (task, method) for record in records)
        for task in ("seen", "unseen")
        for method in ("zeroshot", "knn", "probe", "finetune")
    }
    assert counts == {
        ("seen", "zeroshot"): 1,
        ("seen", "knn"): 4,
        ("seen", "probe"): 8,
        ("seen", "finetune"): 8,
        ("unseen", "zeroshot"): 1,
        ("unseen", "knn"): 4,
        ("unseen", "probe"): 8,
        ("unseen", "finetune"): 0,
    }
    zero_shot = {record.task: record.extra for record in records if record.method == "zeroshot"}
    assert [zero_shot[task]["scorable_classes"] for task in ("seen", "unseen")] == [3, 1]
    assert gain_of(records, task="seen", method="probe", percent=10.0).seeds == 2
    assert "| seen | finetune | transfer | top1 |" in results_table(records)


def test_a_device_has_its_sizes_and_seeds_may_be_chosen() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert TransferBenchmark().sizes(cpu) == CPU
    assert TransferBenchmark().sizes(cuda) == CUDA
    assert TransferBenchmark(quick=True).sizes(cuda) == QUICK
    assert TransferBenchmark(seeds=(5,)).sizes(cpu).shares.seeds == (5,)
    for sizes in (CPU, CUDA, QUICK):
        assert {1.0, 5.0} <= set(sizes.shares.percents)
        assert len(sizes.shares.percents) == len(sizes.shares.finetune_epochs)


def test_results_are_written_to_a_new_folder_alone(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; pip install '.[notebooks]'")
    with pytest.raises(OutputExistsError, match="wanted a new one"):
        measure(TransferBenchmark(out=tmp_path, skip=("clip",)), HERE)
