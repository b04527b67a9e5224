"""A run while it goes: steps that go wrong, what is kept of them, and the training core's options one by one."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.backbones import backbone
from tests.conftest import ROOT
from tests.corpus import Corpus, losses, make_corpus, same_weights, spikes
from trainer import run as run_module
from trainer.checkpoints import retention
from trainer.data.batch import Batch
from trainer.pretrain import pretrain
from trainer.records import results as results_module
from trainer.records.log import read_log
from trainer.records.record import read_results
from trainer.step.step import Step
from vocab.errors import InputError

RESNET = backbone("test_resnet")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def results(run: Path) -> dict[str, Any]:
    return dict(read_results(run).details)


def test_a_loss_that_is_no_number_stops_the_run_and_names_its_samples(
    corpus: Corpus, tmp_path: Path, broken: set[int]
) -> None:
    broken.add(3)
    config = corpus.config(tmp_path / "run", checkpoint_every=2)
    with pytest.raises(InputError, match=r"step 3: found a loss of nan .*--on-spike skip or rollback past such steps"):
        pretrain(config)
    (spike,) = spikes(tmp_path / "run")
    assert (spike["step"], spike["loss"], spike["policy"]) == (3, None, "stop")
    assert len(set(spike["samples"])) == 8
    assert all(sample.split("/")[1].startswith(sample.split("/")[0]) for sample in spike["samples"])
    # A checkpoint of weights that are no numbers was never written.
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000002"]


def test_a_skipped_step_changes_nothing(corpus: Corpus, tmp_path: Path, broken: set[int]) -> None:
    # The last step: whatever it would do is in the weights.
    broken.add(6)
    assert pretrain(corpus.config(tmp_path / "run", on_spike="skip", ema_momentum=1.0)) == 0
    broken.clear()
    assert pretrain(corpus.config(tmp_path / "five", checkpoint_every=5, ema_momentum=1.0)) == 0
    five = torch_tensors(tmp_path / "five" / "checkpoints" / "step-00000005" / "model.safetensors")
    run = torch_tensors(tmp_path / "run" / "checkpoints" / "step-00000006" / "model.safetensors")
    assert all(torch.equal(five[name], run[name]) for name in five)
    assert [spike["policy"] for spike in spikes(tmp_path / "run")] == ["skip"]
    assert results(tmp_path / "run")["spikes"] == 1


def test_skipping_without_end_ends_the_run(
    corpus: Corpus, tmp_path: Path, broken: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "MOST_SKIPPED", 2)
    options: dict[str, Any] = {"on_spike": "skip", "steps": 9, "checkpoint_every": 4}
    broken.update({2, 3, 5, 6})  # twice two, with a good one between
    assert pretrain(corpus.config(tmp_path / "two", **options)) == 0
    broken.add(4)
    with pytest.raises(InputError, match=r"step 4: found 3 bad steps one after another, the last with a loss of nan"):
        pretrain(corpus.config(tmp_path / "three", **options))
    # A checkpoint between them forgets none.
    assert pretrain(corpus.config(tmp_path / "resumed", **(options | {"steps": 3}))) == 0
    with pytest.raises(InputError, match="step 4: found 3 bad steps"):
        pretrain(corpus.config(tmp_path / "resumed", **options))


def torch_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_rollback_goes_on_after_the_bad_batch(
    corpus: Corpus, tmp_path: Path, broken: set[int], workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    broken.add(5)
    options: dict[str, Any] = {"on_spike": "rollback", "steps": 8, "workers": workers}
    assert pretrain(corpus.config(tmp_path / "run", **options)) == 0
    assert "going back to step 4, past the samples of step" in capsys.readouterr().err
    found = results(tmp_path / "run")
    assert (found["steps"], found["images_seen"], found["spikes"]) == (8, 64, 1)
    # Heard of two steps late, or when a line is due: with a line each step, at once.
    assert found["images_rolled_back"] == 8
    assert found["training_account"]["samples"] == 72
    steps = [line["step"] for line in read_log(tmp_path / "run" / "metrics.jsonl") if "loss" in line]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all(math.isfinite(loss) for loss in losses(tmp_path / "run"))


def test_a_run_killed_after_a_rollback_does_not_meet_the_bad_batch_again(
    corpus: Corpus, tmp_path: Path, broken: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken.add(5)
    options: dict[str, Any] = {"on_spike": "rollback", "steps": 8, "checkpoint_every": 4}
    assert pretrain(corpus.config(tmp_path / "whole", **options)) == 0

    class PowerCutError(Exception):
        pass

    whole = Step.take

    def cut(self: Step, batch: Batch, **given: Any) -> Tensor:
        if batch.position.step == 8:
            raise PowerCutError
        return whole(self, batch, **given)

    with monkeypatch.context() as patch:
        patch.setattr(Step, "take", cut)
        with pytest.raises(PowerCutError):
            pretrain(corpus.config(tmp_path / "run", **options))
    assert pretrain(corpus.config(tmp_path / "run", **options)) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert len(spikes(tmp_path / "run")) == 1
    names = ("images_seen", "images_rolled_back", "training_account", "spikes")
    one, other = results(tmp_path / "run"), results(tmp_path / "whole")
    assert [one[name] for name in names] == [other[name] for name in names]


def test_a_rollback_needs_a_checkpoint(corpus: Corpus, tmp_path: Path, broken: set[int]) -> None:
    broken.add(1)
    with pytest.raises(InputError, match="found no checkpoint to go back to"):
        pretrain(corpus.config(tmp_path / "run", on_spike="rollback"))


def test_rollbacks_that_lead_nowhere_end_the_run(corpus: Corpus, tmp_path: Path, broken: set[int]) -> None:
    broken.update(range(3, 30))
    with pytest.raises(InputError, match="found 3 ways from step 2"):
        pretrain(corpus.config(tmp_path / "run", on_spike="rollback"))
    assert len(spikes(tmp_path / "run")) == 4


def test_a_stopped_run_may_go_on_with_another_policy(corpus: Corpus, tmp_path: Path, broken: set[int]) -> None:
    broken.add(3)
    with pytest.raises(InputError):
        pretrain(corpus.config(tmp_path / "run"))
    assert pretrain(corpus.config(tmp_path / "run", on_spike="skip")) == 0
    assert results(tmp_path / "run")["steps"] == 6


def test_a_full_disk_is_refused_at_a_resume_too(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pretrain(corpus.config(tmp_path / "run", steps=4)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(retention.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(9999, 9000, 999))  # type: ignore[attr-defined]
        with pytest.raises(InputError, match=r"found a file system with 999 bytes free; wanted .* that are there"):
            pretrain(corpus.config(tmp_path / "run"))
        # A run without a step left writes no checkpoint, and may say its results again.
        assert pretrain(corpus.config(tmp_path / "run", steps=4)) == 0
    assert pretrain(corpus.config(tmp_path / "run")) == 0


def test_ctrl_c_leaves_a_checkpoint_and_a_second_one_ends_at_once(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Step.take
    times = 1

    def interrupted(self: Step, batch: Batch, **given: Any) -> Tensor:
        numbers = whole(self, batch, **given)
        if batch.position.step == 2:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
        return numbers

    monkeypatch.setattr(Step, "take", interrupted)
    assert pretrain(corpus.config(tmp_path / "run")) == 130
    assert "stopping with a checkpoint; again to stop at once" in capsys.readouterr().err
    assert list((tmp_path / "run" / "checkpoints").iterdir())
    times = 2
    with pytest.raises(KeyboardInterrupt):
        pretrain(corpus.config(tmp_path / "other"))


def test_a_stop_between_two_lines_leaves_no_trace_in_the_log(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"steps": 12, "log_every": 4, "checkpoint_every": 12}
    assert pretrain(corpus.config(tmp_path / "whole", **options)) == 0
    whole = Step.take

    def announced(self: Step, batch: Batch, **given: Any) -> Tensor:
        numbers = whole(self, batch, **given)
        if batch.position.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return numbers

    with monkeypatch.context() as patch:
        patch.setattr(Step, "take", announced)
        assert pretrain(corpus.config(tmp_path / "run", **options)) == 143
    assert pretrain(corpus.config(tmp_path / "run", **options)) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "run")) == 3


def scores(run: Path) -> list[tuple[int, float]]:
    """Steps that were evaluated, and what came out."""
    return [(line["step"], line["eval_macro"]) for line in read_log(run / "metrics.jsonl") if "eval_macro" in line]


def evaluated(run: Path) -> list[int]:
    return [step for step, _ in scores(run)]


def test_a_stop_where_an_evaluation_is_due_leaves_it_to_the_next_start(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"eval_every": 3, "log_every": 100, "checkpoint_every": 100}
    assert pretrain(corpus.config(tmp_path / "whole", **options)) == 0
    whole = Step.take

    def announced(self: Step, batch: Batch, **given: Any) -> Tensor:
        if given["number"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, batch, **{**given, "stop": given["number"] == 3})

    with monkeypatch.context() as patch:
        patch.setattr(Step, "take", announced)
        assert pretrain(corpus.config(tmp_path / "run", **options)) == 143
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000003"]
    assert evaluated(tmp_path / "run") == []
    assert pretrain(corpus.config(tmp_path / "run", **options)) == 0
    assert scores(tmp_path / "run") == scores(tmp_path / "whole")
    assert evaluated(tmp_path / "run") == [3, 6]


def test_what_was_evaluated_is_in_the_log_once(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PowerCutError(Exception):
        pass

    config, whole = corpus.config(tmp_path / "run", eval_every=3, checkpoint_every=3), Step.take

    def cut(self: Step, batch: Batch, **given: Any) -> Tensor:
        if given["number"] == 5:
            raise PowerCutError
        return whole(self, batch, **given)

    with monkeypatch.context() as patch:
        patch.setattr(Step, "take", cut)
        with pytest.raises(PowerCutError):
            pretrain(config)
    assert evaluated(tmp_path / "run") == [3]
    times: list[int] = []
    count = results_module.evaluate

    def counted(*given: Any, **named: Any) -> Any:
        times.append(1)
        return count(*given, **named)

    monkeypatch.setattr(results_module, "evaluate", counted)
    assert pretrain(config) == 0
    # That of the end alone: the log has those of step 3.
    assert (evaluated(tmp_path / "run"), len(times)) == ([3, 6], 1)
    assert pretrain(config) == 0
    assert (evaluated(tmp_path / "run"), len(times)) == ([3, 6], 2)


def test_a_checkpoint_between_two_lines_counts_every_image(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"steps": 9, "log_every": 5, "checkpoint_every": 3, "keep_checkpoints": 9}
    assert pretrain(corpus.config(tmp_path / "whole", **options)) == 0

    class PowerCutError(Exception):
        pass

    whole = Step.take

    def cut(self: Step, batch: Batch, **given: Any) -> Tensor:
        if given["number"] == 8:
            raise PowerCutError
        return whole(self, batch, **given)

    with monkeypatch.context() as patch:
        patch.setattr(Step, "take", cut)
        with pytest.raises(PowerCutError):
            pretrain(corpus.config(tmp_path / "run", **options))
    assert pretrain(corpus.config(tmp_path / "run", **options)) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    for found in (results(tmp_path / "run"), results(tmp_path / "whole")):
        assert (found["images_seen"], found["training_account"]["samples"]) == (72, 72)


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "softmax"},
        {"loss": "softmax-idf", "label_smoothing": 0.1},
        {"loss": "asymmetric"},
        {"optimiser": "muon", "peak_lr": 1e-3},
        {"schedule": "wsd", "decay_share": 0.5},
        {"layer_decay": 0.7},
        {"patch_keep": 0.5, "full_patches_share": 0.3, "drop_path": 0.3},
        {"global_pool": "avg", "head_chunk": 3},
        {"activation_checkpointing": True, "drop_path": 0.3},
        # batch norms, whose statistics are part of the state
        RESNET | {"accumulate": 2},
        RESNET | {"layer_decay": 0.7, "activation_checkpointing": True},
        RESNET | {"resolution": "schedule", "resolution_schedule": "0:32,0.5:48"},
    ],
    ids=lambda options: next(iter(options.values())),
)
def test_every_option_of_the_core_trains_and_resumes_to_the_bit(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    config = corpus.config(tmp_path / "run", steps=5, checkpoint_every=3, **options)
    assert pretrain(corpus.config(tmp_path / "whole", steps=5, checkpoint_every=3, **options)) == 0

    class PowerCutError(Exception):
        pass

    whole = Step.take

    def cut(self: Step, batch: Batch, **given: Any) -> Tensor:
        if given["number"] == 5:
            raise PowerCutError
        return whole(self, batch, **given)

    with monkeypatch.context() as patch:
        patch.setattr(Step, "take", cut)
        with pytest.raises(PowerCutError):
            pretrain(config)
    assert pretrain(config) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert same_weights(tmp_path / "run", tmp_path / "whole")


def test_the_progress_line_says_which_peak_it_is_a_share_of(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain(corpus.config(tmp_path / "unknown", steps=3)) == 0
    said = capsys.readouterr().err
    assert (said.count(" of_measured_peak="), said.count(" mfu=")) == (3, 0)
    assert pretrain(corpus.config(tmp_path / "known", steps=3, peak_tflops=1.0)) == 0
    said = capsys.readouterr().err
    assert (said.count(" of_measured_peak="), said.count(" mfu=")) == (0, 3)


def test_the_documentation_explains_each_word_of_the_progress_line(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs/training.md").read_text()
    explained = page[page.index("| in the line |") :].split("\n\n")[0]
    assert pretrain(corpus.config(tmp_path / "run", steps=3)) == 0
    words = re.findall(r" (\w+)=", capsys.readouterr().err)
    assert {"of_measured_peak", "ready"} < set(words)
    assert [word for word in words if f"`{word}`" not in explained] == []


def test_patches_are_dropped_until_the_last_share_of_training(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    whole = Step._loss

    def noting(self: Step, batch: Batch, number: int) -> Tensor:
        shares.append(self.training.model.patch_drop.share)
        return whole(self, batch, number)

    monkeypatch.setattr(Step, "_loss", noting)
    assert pretrain(corpus.config(tmp_path / "run", steps=10, patch_keep=0.5, full_patches_share=0.3)) == 0
    assert shares == [0.5] * 7 + [1.0] * 3
