"""The trainer as a whole: what a run leaves, that a stop changes nothing, and what it refuses before the first step."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.corpus import COLOURS, Corpus, command, losses, make_corpus, same_weights
from tests.forks import Forks, torchrun, trainer
from tests.pictures import picture, write_tar
from trainer.config import PretrainConfig
from trainer.data.batch import Batch, Skipped
from trainer.pretrain import pretrain
from trainer.records.ledger import read_bad_samples
from trainer.records.log import read_log
from trainer.records.record import Record, read_records, read_results
from trainer.step.step import Step
from trainer.weights.pretrained import open_pretrained
from vocab.errors import CatlipError, FormatError, InputError, MismatchError, MissingRequirementError, OutputExistsError
from vocab.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def finished(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of six steps. Not to be written to."""
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert pretrain(corpus.config(out)) == 0
    return out


def test_a_finished_run_explains_itself(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == set(
        "config.json data.json vocabulary.parquet metrics.jsonl bad_samples.jsonl tensorboard checkpoints classes.csv "
        "model.safetensors results.json page.html environment.json README.md".split()
    )
    details = read_results(finished).details
    assert (details["steps"], details["images_seen"], details["classes"]) == (6, 48, 3)
    assert details["training_account"]["samples"] == 48
    assert json.loads((finished / "config.json").read_text())["optim"]["steps"] == 6
    assert len(losses(finished)) == 6
    assert list((finished / "tensorboard").iterdir())
    assert [path.name for path in sorted((finished / "checkpoints").iterdir())] == ["step-00000004", "step-00000006"]


def test_a_run_s_results_are_records_as_those_of_every_verb(corpus: Corpus, finished: Path) -> None:
    content = json.loads((finished / "results.json").read_text())
    assert (content["format"], content["version"], content["verb"]) == ("catlip-results", 2, "pretrain")
    assert content["model"] == str(finished)
    assert content["fingerprint"] == open_pretrained(finished).fingerprint
    assert content["data"] == {"train": str(corpus.images), "test": "held-out shards", "classes": 3}
    (record,) = read_records(finished)
    assert record == Record(
        task=f"{corpus.images} | held-out shards",
        method="pretrain",
        init="random",
        percent=100.0,
        seed=0,
        metric="map_macro",
        value=record.extra["macro"],
        images=13,
        seconds=record.seconds,
        extra=record.extra,
    )
    assert record.extra.keys() == set(
        "images classes macro head torso tail micro baseline_macro baseline_micro top1".split()
    )
    assert content["table"][0]["value"] == record.value
    header, *classes = (finished / "classes.csv").read_text().splitlines()
    assert header == "synset,name,captions,images,average_precision"
    assert sorted(line.split(",")[0] for line in classes) == ["n02084071", "n02121620", "n02958343"]
    precisions = [float(line.rpartition(",")[2]) for line in classes]
    assert sum(precisions) / 3 == pytest.approx(record.value, abs=1e-6)


def test_the_page_shows_held_out_pictures_with_their_captions_escaped(finished: Path) -> None:
    text = (finished / "page.html").read_text()
    assert text.count("data:image/jpeg;base64,") == 3
    assert "&lt;b&gt;square&lt;/b&gt;" in text
    assert "00003/" in text  # the last tar is the one held out


def test_the_weights_are_the_averaged_ones_under_timm_s_names(finished: Path) -> None:
    weights = load_file(finished / "model.safetensors")
    average = load_file(finished / "checkpoints" / "step-00000006" / "ema.safetensors")
    assert weights.keys() == average.keys()
    assert {"cls_token", "patch_embed.proj.weight", "head.bias"} <= weights.keys()
    assert all(torch.equal(weights[name], average[name]) for name in weights)


def test_colours_are_learnt(corpus: Corpus, tmp_path: Path) -> None:
    config = corpus.config(tmp_path / "run", steps=40, warmup_steps=5, ema_momentum=0.3, drop_path=0.0)
    pretrain(config)
    found = read_records(tmp_path / "run")[0].extra
    # Every fifth square's caption names nothing, so nobody can reach 1.
    assert found["macro"] > 0.7
    assert found["baseline_macro"] < 0.35


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_breaks_off_and_resumes_is_the_undisturbed_one_to_the_bit(
    corpus: Corpus, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    undisturbed = finished
    if workers:
        undisturbed = tmp_path / "undisturbed"
        pretrain(corpus.config(undisturbed, workers=workers))

    class PowerCutError(Exception):
        pass

    def cut(self: Step, batch: Batch, **given: Any) -> torch.Tensor:
        if given["number"] == 4:
            raise PowerCutError
        return whole(self, batch, **given)

    whole = Step.take
    config = corpus.config(tmp_path / "run", workers=workers)
    with monkeypatch.context() as patch:
        patch.setattr(Step, "take", cut)
        with pytest.raises(PowerCutError):
            pretrain(config)
    assert len(losses(tmp_path / "run")) == 3  # one of them after the checkpoint: to be taken again
    pretrain(config)
    assert losses(tmp_path / "run") == losses(undisturbed)
    assert same_weights(tmp_path / "run", undisturbed)


def moved(corpus: Corpus, root: Path) -> dict[str, Any]:
    """Options for the same bytes in other places, where the tars are listed in another order."""
    tars = sorted(corpus.images.glob("*.tar"))
    for folder, tar in zip("dcba", tars, strict=True):
        (root / folder).mkdir(parents=True)
        shutil.copyfile(tar, root / folder / tar.name)
    shutil.copytree(corpus.labels, root / "words")
    shutil.copyfile(corpus.vocabulary, root / "classes.parquet")
    names = tuple(str(root / folder / tar.name) for folder, tar in zip("dcba", tars, strict=True))
    return {"images": names, "labels": str(root / "words"), "vocabulary": str(root / "classes.parquet")}


def test_a_run_whose_data_moved_goes_on_to_the_same_bits(corpus: Corpus, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "checkpoints" / "step-00000006")
    options = moved(corpus, tmp_path / "elsewhere")
    # What is held out is the same tar, though another one is the last of the list now.
    assert pretrain(corpus.config(run, **options)) == 0
    assert losses(run) == losses(finished)
    assert same_weights(run, finished)
    found = [read_records(place)[0].extra for place in (run, finished)]
    assert found[0] == found[1]
    # From here on the new places are the run's, and the old ones would do as well.
    for again in (options, {}):
        assert pretrain(corpus.config(run, **again)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("shorter", r"--images: found 1 tar with other content: \S+c/00001.tar \(20,480 bytes, before \d+,\d+\)"),
        ("other bytes", r"--images: found 1 tar with other content: \S+c/00001.tar \(other bytes, though \d+"),
        ("missing", r"--images: found no tar of 1 shard: 00001; wanted the tars that the run was started with"),
        (
            "labels",
            r"--labels: found \S+words \(rows \w{12}\); wanted labels with the rows that .* started with, \w{12}",
        ),
        ("seed", r"found a run with run.seed=0; wanted run.seed=1"),
    ],
)
def test_a_run_does_not_go_on_with_other_data(finished: Path, tmp_path: Path, change: str, message: str) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    options = moved(corpus, tmp_path / "elsewhere")
    tar = Path(options["images"][1])
    match change:
        case "shorter":
            write_tar(tar, {"000010000.png": picture(), **{f"00001{n:04d}.png": picture() for n in range(1, 13)}})
        case "other bytes":
            content = bytearray(tar.read_bytes())
            content[len(content) // 2] ^= 1
            tar.write_bytes(content)
        case "missing":
            options["images"] = options["images"][::2] + options["images"][3:]
        case "labels":
            other = make_corpus(tmp_path / "other", samples=14)
            options |= {"labels": str(tmp_path / "elsewhere" / "words"), "vocabulary": str(other.vocabulary)}
            shutil.rmtree(options["labels"])
            shutil.copytree(other.labels, options["labels"])
        case "seed":
            options["seed"] = 1
    refused(MismatchError, message, corpus.config(finished, **options))


def test_a_killed_process_resumes_to_the_same_losses(
    forks: Forks, corpus: Corpus, finished: Path, tmp_path: Path
) -> None:
    config = corpus.config(tmp_path / "run")
    process = forks.start(1, tmp_path / "log", trainer, command(config))
    # It may have come to its end by then.
    process.until(lambda: (tmp_path / "run" / "checkpoints" / "step-00000002").is_dir() or process.statuses() != [None])
    process.kill()
    pretrain(config)
    assert losses(tmp_path / "run") == pytest.approx(losses(finished), rel=1e-4)


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one(forks: Forks, corpus: Corpus, tmp_path: Path) -> None:
    config = corpus.config(tmp_path / "pair", drop_path=0.0, steps=4)
    words = ["--standalone", "--nproc-per-node", "2", "-m", "trainer", *command(config)]
    forks.run(1, tmp_path / "log", torchrun, words)
    pretrain(corpus.config(tmp_path / "alone", drop_path=0.0, steps=4))
    assert losses(tmp_path / "pair") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)
    alone, pair = (read_results(tmp_path / run) for run in ("alone", "pair"))
    assert pair.details["processes"] == 2
    assert pair.records[0].images == alone.records[0].images == 13
    assert pair.details["training_account"]["samples"] == alone.details["training_account"]["samples"] == 32


@pytest.mark.slow
def test_two_killed_processes_are_continued_by_three(forks: Forks, corpus: Corpus, tmp_path: Path) -> None:
    options: dict[str, Any] = {"drop_path": 0.0, "batch_size": 12, "steps": 30, "checkpoint_every": 5}
    config = corpus.config(tmp_path / "run", **options)
    pair = forks.start(2, tmp_path / "log", trainer, [*command(config), "--workers", "1"])
    pair.wait_for(lambda: (tmp_path / "run" / "checkpoints" / "step-00000010").is_dir())
    pair.kill()
    taken = len(losses(tmp_path / "run"))
    assert 10 <= taken < 30
    forks.run(3, tmp_path / "log", trainer, command(config))
    pretrain(corpus.config(tmp_path / "alone", **options))
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "alone"), rel=1e-2)
    results = [read_results(tmp_path / name).details for name in ("run", "alone")]
    assert [result["training_account"] for result in results] == [results[1]["training_account"]] * 2
    assert results[0]["training_account"]["samples"] == results[0]["images_seen"] == 360


def test_a_signal_to_the_whole_group_leaves_a_checkpoint(forks: Forks, corpus: Corpus, tmp_path: Path) -> None:
    config = corpus.config(tmp_path / "run", steps=4000, workers=2, checkpoint_every=4000)
    process = forks.start(1, tmp_path / "log", trainer, command(config))
    process.wait_for(lambda: (tmp_path / "run" / "metrics.jsonl").exists() and len(losses(tmp_path / "run")) >= 3)
    os.killpg(process.pids[0], signal.SIGTERM)
    assert process.wait() == [128 + signal.SIGTERM]
    said = process.said()
    assert "Traceback" not in said
    assert "the same command continues from here" in said
    assert list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize("start", ["corenet", "narrow"])
def test_learnt_augmentation_trains_and_resumes_to_the_bit(
    corpus: Corpus, tmp_path: Path, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"range_augment": start}
    assert pretrain(corpus.config(tmp_path / "whole", **options)) == 0
    first, last = (
        load_file(tmp_path / "whole" / "checkpoints" / f"step-0000000{step}" / "augment.safetensors") for step in (4, 6)
    )
    assert first.keys() == {"low", "high"}
    assert not torch.equal(first["high"], last["high"])
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "step-00000006")
    assert pretrain(corpus.config(tmp_path / "again", **options)) == 0
    assert losses(tmp_path / "again") == losses(tmp_path / "whole")
    assert same_weights(tmp_path / "again", tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "images"),
    [
        # Half of the steps at 8 pixels, then 16.
        ({"resolution": "schedule", "resolution_schedule": "0:8,0.5:16"}, 48),
        # 8, 16 or 24 pixels; 32, 8 or 4 images.
        ({"resolution": "variable", "resolution_sizes": (8, 24, 8)}, None),
    ],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_resolutions_change_from_step_to_step(
    corpus: Corpus, tmp_path: Path, options: dict[str, Any], images: int | None, workers: int
) -> None:
    seen: list[tuple[int, int]] = []
    config = corpus.config(tmp_path / "run", workers=workers, **options)
    whole = Step.take

    def noting(self: Step, batch: Batch, **given: Any) -> torch.Tensor:
        seen.append((batch.images.shape[1], len(batch)))
        return whole(self, batch, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Step, "take", noting)
        assert pretrain(config) == 0
    if images is not None:
        assert [size for size, _ in seen] == [8, 8, 8, 16, 16, 16]
    else:
        assert {(8, 32): 1, (16, 8): 1, (24, 4): 1}.keys() >= set(seen)
        assert len(set(seen)) > 1
    results = read_results(tmp_path / "run").details
    assert results["images_seen"] == sum(count for _, count in seen) == results["training_account"]["samples"]


def test_accumulated_parts_equal_the_whole_batch(corpus: Corpus, tmp_path: Path) -> None:
    for parts in (1, 4):
        pretrain(corpus.config(tmp_path / f"{parts}", accumulate=parts, drop_path=0.0))
    assert losses(tmp_path / "4") == pytest.approx(losses(tmp_path / "1"), rel=1e-5)


def test_sigterm_leaves_a_checkpoint_to_go_on_from(
    corpus: Corpus, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def announced(self: Step, batch: Batch, **given: Any) -> torch.Tensor:
        numbers = whole(self, batch, **given)
        if given["number"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return numbers

    whole = Step.take
    with monkeypatch.context() as patch:
        patch.setattr(Step, "take", announced)
        assert pretrain(corpus.config(tmp_path / "run")) == 143
    assert "stopped at step 3; the same command continues" in capsys.readouterr().err
    assert not (tmp_path / "run" / "results.json").exists()
    assert pretrain(corpus.config(tmp_path / "run")) == 0
    assert losses(tmp_path / "run") == losses(finished)


def test_a_broken_newest_checkpoint_is_named_and_the_one_before_taken(
    corpus: Corpus, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "step-00000006" / "ema.safetensors").write_bytes(b"")
    pretrain(corpus.config(tmp_path / "run"))
    assert re.search(r"warning: .*step-00000006/ema.safetensors: .*from step 4\.", capsys.readouterr().err)
    assert losses(tmp_path / "run") == losses(finished)
    assert same_weights(tmp_path / "run", finished)


def test_a_finished_run_can_be_lengthened(corpus: Corpus, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    pretrain(corpus.config(tmp_path / "run", steps=8))
    assert losses(tmp_path / "run")[:6] == losses(finished)
    assert len(losses(tmp_path / "run")) == 8


@pytest.mark.parametrize("log_every", [1, 1000])
def test_bad_samples_that_end_a_run_are_written_down_once(tmp_path: Path, log_every: int) -> None:
    bad = make_corpus(tmp_path / "bad", tars=2, samples=100, extra={f"x{number}.png": b"x" for number in range(60)})
    config = bad.config(tmp_path / "run", steps=40, checkpoint_every=1000, log_every=log_every)
    with pytest.raises(InputError, match="Mend or leave out such tars"):
        pretrain(config)
    lines = (tmp_path / "run" / "bad_samples.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines)) > 10


def test_bad_samples_of_a_run_are_written_down(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, tars=2, extra={"bad.png": b"no picture", "half.png": picture()[:-30]})
    pretrain(corpus.config(tmp_path / "run", steps=4))
    bad = [Skipped("00000", "bad", "not_an_image"), Skipped("00000", "half", "broken_image")]
    assert sorted(read_bad_samples(tmp_path / "run"), key=lambda each: each.key) == bad
    assert read_log(tmp_path / "run" / "metrics.jsonl")[-2]["bad_samples"] >= 2
    pretrain(corpus.config(tmp_path / "taken", steps=4, truncated_images="take"))
    assert read_bad_samples(tmp_path / "taken") == bad[:1]
    assert read_log(tmp_path / "taken" / "metrics.jsonl")[-2]["truncated_samples"] >= 1
    refused(MismatchError, "a run with data.truncated_images='take'", corpus.config(tmp_path / "taken", steps=4))


def test_a_held_out_tar_that_breaks_off_is_no_score_of_the_images_before_the_break(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, tars=2)
    held_out = corpus.images / "00001.tar"
    held_out.write_bytes(held_out.read_bytes()[: held_out.stat().st_size // 2])
    with pytest.raises(InputError, match=r"found 6 bad samples of 14, for example 00001/.*: truncated_tar;"):
        pretrain(corpus.config(tmp_path / "run", steps=3))


def refused(error: type[CatlipError], message: str, config: PretrainConfig) -> None:
    before = sorted(config.run.out.rglob("*")) if config.run.out.exists() else None
    with pytest.raises(error, match=message):
        pretrain(config)
    assert (sorted(config.run.out.rglob("*")) if config.run.out.exists() else None) == before


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"images": ("/nowhere/0.tar",)}, InputError, "/nowhere/0.tar: found no such file"),
        ({"labels": "/nowhere"}, FormatError, "wanted a finished label directory"),
        ({"vocabulary": "/nowhere.parquet"}, FormatError, "nowhere.parquet: found no such file"),
        ({"holdout_shards": 4}, InputError, "--holdout-shards: found 4 of 4 tars of .*; wanted at least one tar left"),
        ({"image_size": 20}, InputError, "--image-size: found 20; wanted a multiple of the patch, 8"),
        ({"model": "vit_minuscule"}, InputError, "--model: found vit_minuscule"),
        ({"batch_size": 9, "accumulate": 2}, InputError, "--batch-size: found 9"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    corpus: Corpus, tmp_path: Path, changes: dict[str, Any], error: type[CatlipError], message: str
) -> None:
    refused(error, message, corpus.config(tmp_path / "run", **changes))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_a_missing_requirement(corpus: Corpus, tmp_path: Path) -> None:
    refused(MissingRequirementError, "--device cuda: found no CUDA device", corpus.config(tmp_path, device="cuda"))


def test_tars_to_train_on_are_not_evaluated_on(corpus: Corpus, tmp_path: Path) -> None:
    config = corpus.config(tmp_path / "run", eval_images=(str(corpus.images / "00001.tar"),))
    refused(InputError, r"--eval-images: found .*00001.tar, which is trained on too", config)


def test_an_output_that_is_no_run_is_left_alone(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    refused(OutputExistsError, "found 1 entry and no readable config.json", corpus.config(tmp_path))


def test_a_run_of_another_configuration_is_left_alone(corpus: Corpus, finished: Path) -> None:
    message = r"found a run with optim.peak_lr=0.003, run.seed=0; wanted optim.peak_lr=0.01, run.seed=1"
    refused(MismatchError, message, corpus.config(finished, peak_lr=0.01, seed=1))


def test_a_start_that_learnt_nothing_gives_way_to_other_options(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class OutOfMemoryError(Exception):
        pass

    def none(self: Step, batch: Batch, **given: Any) -> torch.Tensor:
        raise OutOfMemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Step, "take", none)
        with pytest.raises(OutOfMemoryError):
            pretrain(corpus.config(tmp_path / "run"))
    assert (tmp_path / "run" / "config.json").exists()
    assert pretrain(corpus.config(tmp_path / "run", accumulate=2)) == 0
    said = capsys.readouterr().err
    assert f"{tmp_path / 'run'}: an earlier start learnt nothing; beginning anew with optim.accumulate=2, " in said
    assert json.loads((tmp_path / "run" / "config.json").read_text())["optim"]["accumulate"] == 2
    # Lines of a log are something that was learnt, with a checkpoint or without.
    refused(MismatchError, r"Give the options the run was started with", corpus.config(tmp_path / "run", seed=1))
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    refused(MismatchError, "It has no checkpoint: remove the directory", corpus.config(tmp_path / "run", seed=1))


def test_a_configuration_that_cannot_be_read_is_copied_from_a_checkpoint(
    corpus: Corpus, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "config.json").write_text("garbage")
    copy = out / "checkpoints" / "step-00000006" / "config.json"
    refused(FormatError, f"Copy the one of a checkpoint there: {copy}", corpus.config(out))
    shutil.copy(copy, out)
    assert pretrain(corpus.config(out)) == 0


def test_a_run_of_another_vocabulary_is_left_alone(corpus: Corpus, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    full = Vocabulary.load(corpus.vocabulary)
    kept = corpus.vocabulary.read_bytes()
    try:
        dataclasses.replace(full, synsets=full.synsets[:2], captions=full.captions[:2]).save(corpus.vocabulary)
        message = r"another vocabulary \(3 classes\); wanted those of --vocabulary \(2 classes\).*another --out"
        refused(MismatchError, message, corpus.config(tmp_path / "run"))
    finally:
        corpus.vocabulary.write_bytes(kept)


def test_a_vocabulary_of_another_corpus_is_refused_unless_allowed(corpus: Corpus, tmp_path: Path) -> None:
    other = make_corpus(tmp_path / "other", samples=7)
    config = corpus.config(tmp_path / "run", vocabulary=str(other.vocabulary))
    refused(MismatchError, "vocabulary: found one counted from other labels", config)
    assert (
        pretrain(corpus.config(tmp_path / "run", vocabulary=str(other.vocabulary), allow_foreign_vocabulary=True)) == 0
    )


def test_labels_of_other_images_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    other = make_corpus(
        tmp_path / "other", extra={f"x{n}.png": picture(COLOURS[2084071]) for n in range(99)}, extra_labelled=False
    )
    config = corpus.config(tmp_path / "run", images=(str(other.images),), shuffle_shards=3)
    refused(MismatchError, "found no row for 99 of ", config)


def test_an_error_is_one_line_and_status_2(corpus: Corpus, tmp_path: Path, forks: Forks) -> None:
    words = command(corpus.config(tmp_path / "run", images=("/nowhere/0.tar",)))
    done = forks.start(1, tmp_path / "said", trainer, words)
    assert done.wait() == [2]
    assert done.said().startswith("error: /nowhere/0.tar: found no such file; wanted a WebDataset tar.")
    assert done.said().count("\n") == 1
