"""The corpora, the seam and the arithmetic of the feed's benchmarks; no speed is tested."""

from __future__ import annotations

import gc
import importlib.util
import io
import itertools
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import feed_accuracy
from benchmarks.feed import KEYS, Feed, by_turns, measure, taken
from benchmarks.feeding.corpus import (
    Corpus,
    Photograph,
    encode,
    made_up_labels,
    read_photographs,
    read_samples,
    small_archives,
    target_size,
    write_photographs,
    write_small,
)
from benchmarks.feeding.ours import RESUME, STOP, in_fresh_process, our_choice, our_feed, our_join, our_source
from benchmarks.feeding.peers import Choose, Crop, Decoders, Floats, open_clip_batches, plain_crop, timm_batches
from vocab.errors import InputError
from vocab.store.label_shards import LabelShards
from vocab.store.label_writing import check_rows
from vocab.vocabulary import Vocabulary

# webdataset leaves its tars to be closed by the garbage collector.
PEER = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


def photograph(number: int, *, size: tuple[int, int] = (60, 40), caption: str = "a dog on a couch") -> Photograph:
    """A smooth picture with some grain, so that it is as easy to resize as a photograph."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.integers(-8, 9, (size[1], size[0], 3))
    buffer = io.BytesIO()
    pixels = np.clip(np.asarray(coarse).astype(np.int64) + grain, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return Photograph(buffer.getvalue(), caption)


PHOTOGRAPHS = [photograph(number) for number in range(3)] + [photograph(3, size=(40, 60), caption="12345")]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Ten samples of four photographs in two tars."""
    folder = tmp_path_factory.mktemp("photographs")
    made, about = write_photographs(folder, PHOTOGRAPHS, kind="256", samples=10, tars=2, image_size=32, batch_size=2)
    assert about["upscaled"] == 1.0
    return made


@pytest.mark.parametrize(
    ("kind", "size"), [("native", (548, 365)), ("512", (768, 512)), ("256", (384, 256))], ids=["native", "512", "256"]
)
def test_a_photograph_keeps_its_shape_in_every_kind(kind: str, size: tuple[int, int]) -> None:
    assert target_size(600, 400, kind) == size  # type: ignore[arg-type]


def test_a_photograph_is_encoded_in_the_size_of_its_kind() -> None:
    encoded = encode(photograph(0), "256")
    assert (encoded.size, encoded.original, encoded.upscaled) == ((384, 256), (60, 40), True)
    with Image.open(io.BytesIO(encoded.content)) as image:
        assert (image.size, image.format) == ((384, 256), "JPEG")


def test_a_tar_holds_what_img2dataset_writes(corpus: Corpus) -> None:
    assert [tar.name for tar in corpus.tars] == ["00000.tar", "00001.tar"]
    samples = read_samples(corpus.tars[1])
    assert list(samples) == [f"00001000{number}" for number in range(5)]
    first = samples["000010000"]
    assert list(first) == ["jpg", "json", "txt"]
    assert first["txt"] == b"a dog on a couch"
    about = json.loads(first["json"])
    assert (about["key"], about["status"], about["original_width"]) == ("000010000", "success", 60)


def test_labels_are_those_of_the_captions(corpus: Corpus) -> None:
    labels = LabelShards.open(corpus.labels)
    assert [len(synsets) for synsets in labels.read_shard("00000")["synsets"].to_pylist()] == [2, 2, 2, 0, 2]
    assert Vocabulary.load(corpus.vocabulary).names == ["dog.n.01", "sofa.n.01"]


def test_a_small_tar_is_what_tarfile_writes() -> None:
    content = small_archives(PHOTOGRAPHS)(7, 1200)
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            members[member.name] = file.read()
    assert list(itertools.islice(members, 3)) == ["000070000.jpg", "000070000.txt", "000070001.jpg"]
    assert len(members) == 2400
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, held in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(held)
            archive.addfile(info, io.BytesIO(held))
    assert content == buffer.getvalue()


def test_small_pictures_are_jpegs_of_32_pixels() -> None:
    with tarfile.open(fileobj=io.BytesIO(small_archives(PHOTOGRAPHS)(0, 4))) as archive:
        file = archive.extractfile("000000003.jpg")
        assert file is not None
        with Image.open(file) as image:
            assert (image.size, image.format) == ((32, 32), "JPEG")


def test_made_up_labels_are_rows_of_the_format() -> None:
    rows = made_up_labels(shards=3, samples=200, seed=0)
    check_rows(rows)
    assert len(rows) == 600
    assert rows["key"][201].as_py() == "000010001"
    lengths = {len(synsets) for synsets in rows["synsets"].to_pylist()}
    assert (min(lengths), max(lengths)) == (0, 6)
    assert made_up_labels(shards=3, samples=200, seed=0).equals(rows)


def test_our_feed_gives_bytes_classes_and_a_state(corpus: Corpus) -> None:
    epoch = list(itertools.islice(our_feed(our_source(corpus), corpus, workers=0), 5))
    assert [tuple(fed.images.shape) for fed in epoch] == [(2, 32, 32, 3)] * 5
    assert epoch[0].images.dtype == torch.uint8
    assert sorted(sample for fed in epoch for sample in fed.samples) == [(t, i) for t in range(2) for i in range(5)]
    assert sum(len(fed.classes) for fed in epoch) == 16
    assert all(json.loads(json.dumps(fed.state)) == fed.state for fed in epoch)


def test_our_feed_goes_on_from_a_state(corpus: Corpus) -> None:
    whole = list(itertools.islice(our_feed(our_source(corpus), corpus, workers=0), 8))
    rest = our_feed(our_source(corpus), corpus, workers=0, state=whole[2].state)
    assert [fed.samples for fed in itertools.islice(rest, 5)] == [fed.samples for fed in whole[3:]]


def test_our_choice_is_the_crop_that_our_feed_takes(corpus: Corpus) -> None:
    source = our_source(corpus)
    contents = [[members["jpg"] for members in read_samples(tar).values()] for tar in corpus.tars]
    for number, fed in enumerate(itertools.islice(our_feed(source, corpus, workers=0), 10)):
        for (tar, index), image in zip(fed.samples, fed.images.numpy(), strict=True):
            choose = our_choice(source, epoch=number // 5, tar=tar, index=index)
            plain = plain_crop(contents[tar][index], choose, size=32)
            # Another box or a missed flip differs by tens.
            assert np.abs(plain.astype(np.int64) - image).mean() < 10


def test_our_join_finds_every_key(tmp_path: Path) -> None:
    small = write_small(
        tmp_path / "small", PHOTOGRAPHS, tars=1, samples=50, label_shards=3, image_size=32, batch_size=8
    )
    source = our_source(small)
    our_join(source, shard="00002", keys=[f"00002{number:04d}" for number in range(50)])()
    assert [tar.name for tar in small.tars] == ["00000.tar"]
    assert source.vocabulary.rows == 150


def test_a_fresh_process_stops_in_the_middle_and_another_goes_on(tmp_path: Path) -> None:
    small = write_small(
        tmp_path / "small", PHOTOGRAPHS, tars=2, samples=40, label_shards=2, image_size=32, batch_size=8
    )
    stopped = in_fresh_process(STOP, small, marks=[8, 17], stop=40)
    assert len(stopped["memory"]) == 2
    assert all(memory["rss"] >= memory["pss"] > 0 for memory in stopped["memory"])
    resumed = in_fresh_process(RESUME, small, state=stopped["state"], workers=2)
    assert len(resumed["samples"]) == 8
    assert resumed["samples"] == stopped["samples"]
    assert min(resumed["start"], resumed["open"], resumed["resume"]) > 0


def test_the_plain_crop_is_the_box_upright_and_mirrored() -> None:
    left = np.zeros((20, 40, 3), np.uint8)
    left[:, :10] = 200
    buffer = io.BytesIO()
    # Orientation 3: upside down, so what is stored on the left is shown on the right.
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(left).save(buffer, "JPEG", quality=95, exif=exif)

    def box(left: int, mirrored: bool) -> Choose:
        return lambda width, height: Crop((left, 0, left + height, height), mirrored)

    def columns(choose: Choose) -> list[bool]:
        return [bool(red > 100) for red in plain_crop(buffer.getvalue(), choose, size=4)[2, :, 0]]

    assert columns(box(20, False)) == [False, False, True, True]
    assert columns(box(20, True)) == [True, True, False, False]
    assert columns(box(0, False)) == [False] * 4


@PEER
@pytest.mark.parametrize("pipeline", [timm_batches, open_clip_batches], ids=["timm", "open_clip"])
def test_a_peer_gives_float_batches_without_end(corpus: Corpus, pipeline: Callable[..., Iterator[Floats]]) -> None:
    for package in ("webdataset", "open_clip", "open_clip_train"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"no package {package}: the peers extra is not installed")
    batches = list(itertools.islice(pipeline(corpus.tars, image_size=32, batch_size=2), 12))
    gc.collect()
    assert [tuple(images.shape) for images in batches] == [(2, 3, 32, 32)] * 12
    assert {images.dtype for images in batches} == {torch.float32}
    assert all(float(images.min()) < 0 < float(images.max()) for images in batches)


def test_decoders_work_alone_and_together(corpus: Corpus) -> None:
    with Decoders(corpus.tars, count=2) as decoders:
        assert decoders.rate(processes=1, images=3) > 0
        assert decoders.rate(processes=2, images=3) > 0


def test_pipelines_take_turns_and_each_pass_counts_its_own_images() -> None:
    order: list[str] = []

    def pipeline(name: str) -> Iterator[int]:
        for number in itertools.count():
            order.append(f"{name}{number}")
            yield 64

    passes = by_turns({"a": pipeline("a"), "b": pipeline("b")}, batches=1, rounds=2)
    assert {name: len(rates) for name, rates in passes.items()} == {"a": 2, "b": 2}
    assert " ".join(order) == "a0 a1 b0 b1 a2 a3 a4 b2 b3 b4 a5 a6 a7 b5 b6 b7"


def test_images_of_batches_are_added_up() -> None:
    assert taken(iter([64, 64, 3, 5]), 3) == 131


def test_a_quick_run_keeps_what_it_is_told_about_parts() -> None:
    quick = Feed(quick=True, parts=("join",)).sizes
    assert (quick.samples, quick.small_tars, quick.parts) == (128, 4, ("join",))
    assert quick.samples % quick.batch_size == 0
    full = Feed()
    assert full.sizes == full
    assert full.label_shards * full.small_samples == 1_000_000


def test_data_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no tars in coco_ccby or cc12m"):
        measure(Feed(data=tmp_path))
    with pytest.raises(InputError, match=r"wnids\.txt: found 0 classes; wanted 2"):
        feed_accuracy.measure(feed_accuracy.FeedAccuracy(data=tmp_path, classes=2))


def test_all_photographs_are_found_with_their_captions(real_data: Path) -> None:
    photographs = read_photographs(real_data)
    assert len(photographs) == 161
    assert photographs[0].caption == "a family is sitting down at a table to have cake"


def test_a_run_gives_every_key_and_null_for_what_was_left_out(real_data: Path) -> None:
    result = measure(Feed(data=real_data, quick=True, parts=("join", "pixels")))
    assert set(KEYS) <= set(result)
    assert {key for key in KEYS if result[key] is not None} == {"join_microseconds", "pixel_difference"}
    assert (result["photographs"], result["label_rows"], result["quick"]) == (161, 3072, True)
    assert json.loads(json.dumps(result)) == result


def test_the_accuracy_of_both_pixels_is_measured(real_data: Path) -> None:
    options = feed_accuracy.FeedAccuracy(data=real_data, classes=2, steps=2, batch_size=8, image_size=32, seeds=(0,))
    result = feed_accuracy.measure(options)
    assert (result["pictures"], result["held_out"], result["chance"]) == (200, 50, 0.5)
    assert 0 <= result["accuracy_fed"] <= 1
    assert result["difference"] == round(result["accuracy_fed"] - result["accuracy_plain"], 4)
