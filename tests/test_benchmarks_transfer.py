"""Pictures, captions and race of the transfer benchmark, on drawn pictures."""

from __future__ import annotations

import importlib.util
import io
import json
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.feeding.corpus import read_samples, write_labels, write_tar
from benchmarks.measuring.clock import Spent
from benchmarks.transfer_study import pretraining
from benchmarks.transfer_study.corpus import (
    Corpus,
    open_corpus,
    read_pictures,
    require_unseen,
    split_classes,
    write_corpus,
)
from benchmarks.transfer_study.pictures import in_turn
from benchmarks.transfer_study.pictures import read_pictures as read_task
from benchmarks.transfer_study.pretraining import RECIPE, Pretraining, data_of, pretrain, verb
from benchmarks.transfer_study.race import Course, Race, course_of, race
from benchmarks.transfer_study.sides import TEXT, Side, architecture_of, clip_groups, planned
from tests.labels import label_table
from trainer.config import ModelConfig, PretrainConfig
from trainer.distributed import Rank
from trainer.optim.optimiser import groups_of
from trainer.recipes.files import read_recipe
from vocab import wordnet
from vocab.errors import InputError, MismatchError
from vocab.store.label_shards import LabelShards

PEER = pytest.mark.skipif(importlib.util.find_spec("open_clip") is None, reason="open_clip_torch is not installed")
HERE = Rank(0, 1, torch.device("cpu"))


def drawn(colour: int, size: int = 64) -> bytes:
    """A picture of one colour, as JPEG."""
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (colour, 255 - colour, 128)).save(buffer, "JPEG")
    return buffer.getvalue()


def drawn_data(folder: Path, *, classes: int = 80, train: int = 4, test: int = 2) -> Path:
    """A folder like the real data's, of pictures that show a colour each."""
    wnids = [wordnet.wnid_of(synset) for synset in wordnet.load().synsets[20_000 : 20_000 + classes].tolist()]
    pictures = folder / "images" / "tiny_imagenet"
    pictures.mkdir(parents=True)
    (pictures / "wnids.txt").write_text("\n".join(wnids))
    for part, count in (("train", train), ("val", test)):
        members: dict[str, bytes] = {}
        for number in range(count * classes):
            about = {"wnid": wnids[number % classes], "words": "word"}
            members |= {
                f"{number:09d}.jpg": drawn(3 * (number % classes)),
                f"{number:09d}.cls": str(number % classes).encode(),
                f"{number:09d}.json": json.dumps(about).encode(),
            }
        write_tar(pictures / f"{part}-00000.tar", members)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Twelve seen classes and five unseen ones, of drawn pictures."""
    folder = tmp_path_factory.mktemp("transfer")
    return write_corpus(drawn_data(folder / "data"), folder / "corpus", seen=12, unseen=5, seed=0)


def made_up_labels(corpus: Corpus) -> Pretraining:
    """Labels of two classes by turns, where the Spark job would leave them."""
    made = Pretraining(corpus.folder)
    if not made.vocabulary.exists():
        rows = [(shard, f"{shard}{row:04d}", [2084071 if row % 2 else 2121620]) for shard, row in corpus.captions]
        write_labels(corpus.folder, label_table(*rows))
        test = [(tar.stem, key, [2084071]) for tar in corpus.test_tars for key in read_samples(tar)]
        write_labels(corpus.folder / "test", label_table(*test))
        (corpus.folder / "test" / "labels").rename(made.test_labels)
    return made


def test_the_same_sixty_of_200_classes_are_held_out_whatever_is_asked_for() -> None:
    wnids = [f"n{number:08d}" for number in range(200)]
    seen, unseen = split_classes(wnids, seen=140, unseen=60)
    assert (len(seen), len(unseen), set(seen) & set(unseen)) == (140, 60, set())
    assert set(seen) | set(unseen) == set(wnids)
    assert unseen[:4] == ("n00000000", "n00000002", "n00000004", "n00000005")
    few, others = split_classes(list(reversed(wnids)), seen=10, unseen=6)
    assert set(few) < set(seen)
    assert set(others) < set(unseen)


def test_more_classes_than_there_are_cannot_be_asked_for() -> None:
    with pytest.raises(InputError, match="2 to 140, and 2 to 60, of 200"):
        split_classes([f"n{number:08d}" for number in range(200)], seen=141, unseen=60)


def test_what_is_pretrained_on_has_captions_and_neither_class_numbers_nor_their_order(corpus: Corpus) -> None:
    samples = [sample for tar in corpus.tars for sample in read_samples(tar).values()]
    assert (len(corpus.tars), len(samples)) == (8, 48)
    assert {tuple(sample) for sample in samples} == {("jpg", "txt")}
    contents = [sample["jpg"] for sample in samples]
    # Shuffled: the pictures of a class are not a fixed number apart.
    assert contents[:12] != [drawn(0)] * 12
    assert len(set(contents[:12])) < 12


def test_held_out_classes_are_in_no_captioned_tar(corpus: Corpus) -> None:
    shown = {sample["jpg"] for tar in (*corpus.tars, *corpus.test_tars) for sample in read_samples(tar).values()}
    unseen = {
        sample["jpg"] for part in (corpus.unseen.train, corpus.unseen.test) for sample in read_samples(part).values()
    }
    seen = {sample["jpg"] for sample in read_samples(corpus.seen.test).values()}
    assert (len(shown), len(unseen)) == (12, 5)
    assert shown.isdisjoint(unseen)
    assert seen <= shown


def test_tasks_number_their_classes_in_the_order_of_the_names(corpus: Corpus) -> None:
    for task, classes in ((corpus.seen, 12), (corpus.unseen, 5)):
        assert list(task.wnids) == sorted(task.wnids) == task.class_names.read_text().split()
        train, test = (read_samples(tar) for tar in (task.train, task.test))
        assert Counter(sample["cls"] for sample in train.values()) == {str(k).encode(): 4 for k in range(classes)}
        assert Counter(sample["cls"] for sample in test.values()) == {str(k).encode(): 2 for k in range(classes)}


def test_a_corpus_is_read_as_it_was_written(corpus: Corpus) -> None:
    assert open_corpus(corpus.folder) == corpus
    tar = corpus.tars[1]
    captions = [sample["txt"].decode() for sample in read_samples(tar).values()]
    assert captions == [corpus.captions["00001", row] for row in range(6)]


def test_captions_that_say_a_held_out_class_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    leaked = wordnet.synset_of_wnid(corpus.unseen.wnids[2])
    write_labels(tmp_path, label_table(("00000", "0", [2084071]), ("00000", "1", [leaked])))
    with pytest.raises(MismatchError, match=f"1 held-out classes in captions: {corpus.unseen.wnids[2]} in 1;"):
        require_unseen(LabelShards.open(tmp_path / "labels"), corpus.unseen)
    write_labels(tmp_path / "sound", label_table(("00000", "0", [2084071])))
    require_unseen(LabelShards.open(tmp_path / "sound" / "labels"), corpus.unseen)


def test_data_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no pictures of 1 classes in 0 tars train-\*\.tar"):
        read_pictures(tmp_path, "train", wnids=["n02084071"])


def test_a_verb_that_fails_ends_the_benchmark() -> None:
    with pytest.raises(InputError, match=r"python -m trainer nothing: found status 2"):
        verb("trainer", "nothing")


def test_a_run_is_read_from_the_directory_that_it_was_given(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    monkeypatch.setattr(pretraining, "verb", lambda *words: trained.append(words[words.index("--out") + 1]))
    monkeypatch.setattr(pretraining, "results_of", lambda run: {"run": run})
    made = made_up_labels(corpus)
    runs = [pretrain(corpus, made, device="cpu", options=(), out=out)["run"] for out in (None, tmp_path / "other")]
    assert runs == [made.run, tmp_path / "other"]
    assert trained == [str(run) for run in runs]


def test_the_first_pictures_of_a_task_are_some_of_each_class(corpus: Corpus) -> None:
    assert in_turn(np.array([1, 1, 0, 2, 0, 1])).tolist() == [2, 0, 3, 4, 1, 5]
    pictures = read_task(corpus.seen.train, size=64)
    assert pictures.images.shape == (48, 64, 64, 3)
    assert pictures.classes[:24].tolist() == [*range(12), *range(12)]


def test_a_side_takes_its_steps_evenly_over_all_turns() -> None:
    nothing = torch.nn.Identity()
    side = Side(3, lambda *_: None, lambda images: images.float(), nothing, nothing, nullcontext)
    assert [turn for turn in range(1, 9) if side.due(turn, 8)] == [3, 6, 8]


def test_a_recipe_of_other_length_warms_up_and_forgets_for_the_same_share() -> None:
    optim = replace(PretrainConfig().optim, steps=1000, warmup_steps=100, ema_momentum=0.01)
    assert (planned(optim, 50).warmup_steps, planned(optim, 50).ema_momentum) == (5, 0.2)
    assert (planned(optim, 3).warmup_steps, planned(optim, 3).ema_momentum) == (1, 1.0)


def drawn_course(corpus: Corpus, *, seed: int) -> Course:
    """A tower of two narrow blocks on the drawn pictures, eight a step."""
    made = made_up_labels(corpus)
    _, recipe = read_recipe(RECIPE)
    tiny = ModelConfig("vit_tiny_patch16_224", patch_size=16, embed_dim=16, depth=2, num_heads=2)
    recipe = replace(recipe, model=tiny, data=replace(data_of(corpus, made), batch_size=8))
    train, test = (read_task(tar, size=64) for tar in (corpus.seen.train, corpus.seen.test))
    return course_of(corpus, recipe, HERE, train=train, test=test, seed=seed)


@PEER
def test_tokens_follow_their_pictures_through_the_feed(corpus: Corpus) -> None:
    course = drawn_course(corpus, seed=3)
    batch, tokens = next(course.batches(1))
    (tar, index) = batch.samples[5]
    wanted = list(corpus.captions).index((f"{tar:05d}", index))
    assert tokens[5].tolist() == course.captions.tokens[wanted].tolist()
    # Labels and pictures of the same sample: classes go by turns in every tar.
    names = course.source.vocabulary.synsets[batch.classes.numpy()].tolist()
    assert names == [2084071 if index % 2 else 2121620 for _, index in batch.samples]


@PEER
def test_a_race_has_a_curve_for_every_side(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    curves = race(drawn_course(corpus, seed=1), Race(4, probes=2, probe_images=24), seed=1)
    assert list(curves) == ["catlip", "clip", "clip_same_time"]
    assert [point.images for point in curves["catlip"]] == [0, 16, 32]
    assert [point.images for point in curves["clip"]] == [0, 16, 32]
    assert [point.epoch for point in curves["clip"]] == [0.0, 16 / 48, 32 / 48]
    # How many steps there is time for is the machine's to say: between one and all.
    assert curves["clip_same_time"][-1].images in (8, 16, 24, 32)
    for curve in curves.values():
        assert curve[0].spent == Spent()
        assert curve[2].spent.wall > 0
    assert "seed 1, step 4 of 4: clip_same_time" in capsys.readouterr().out


@PEER
def test_both_sides_have_the_same_optimiser_for_what_both_have(corpus: Corpus) -> None:
    course = drawn_course(corpus, seed=0)
    sides = course.sides(Race(4, probes=1, probe_images=24), short=2, seed=0)
    optim = replace(course.recipe.optim, optimiser="muon", weight_decay=0.05)
    of_clip = {
        name.removeprefix("visual.trunk."): (group.muon, group.weight_decay)
        for group in clip_groups(sides["clip"].model, optim)
        for name in group.parameters
    }
    of_tower = {
        name: (group.muon, group.weight_decay)
        for group in groups_of(sides["catlip"].trunk, optim)
        for name in group.parameters
        if not name.startswith("head.")
    }
    assert of_tower.items() <= of_clip.items()
    assert of_clip["transformer.resblocks.3.attn.in_proj_weight"] == (True, 0.05)
    assert of_clip["token_embedding.weight"] == (False, 0.05)
    assert of_clip["logit_scale"] == (False, 0.0)


@PEER
def test_the_text_tower_has_a_share_of_the_arithmetic_as_the_base_one() -> None:
    from benchmarks.clip_race.towers import build_clip, training_gflops

    architecture = architecture_of(read_recipe(RECIPE)[1])
    clip = build_clip(architecture)
    tokens = torch.zeros(1, TEXT.tokens, dtype=torch.int64)
    whole = training_gflops(lambda images: clip(images, tokens), clip, architecture.image_size)
    image = training_gflops(clip.get_submodule("visual"), clip, architecture.image_size)
    assert whole / image == pytest.approx(1.17, abs=0.02)


def test_the_real_classes_are_split_as_the_results_say(real_data: Path) -> None:
    wnids = (real_data / "images" / "tiny_imagenet" / "wnids.txt").read_text().split()
    _, unseen = split_classes(wnids, seen=140, unseen=60)
    # goldfish, bullfrog, American alligator, boa constrictor
    assert unseen[:4] == ("n01443537", "n01641577", "n01698640", "n01742172")
