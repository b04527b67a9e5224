"""Training batches of a task: a function of the seed and the step, whoever makes them and wherever they begin."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from tests.pictures import picture
from trainer.data.batch import Batch, Skipped
from trainer.data.crops import random_box
from trainer.data.decoding import Decoding
from trainer.data.draws import draws
from trainer.data.images import BadImage, crop_into
from trainer.data.labelled_images import LabelledImages, Read
from trainer.distributed import Rank
from trainer.transfer.batches import EpochPlan, batches
from vocab.errors import InputError

CPU = torch.device("cpu")
ALONE = Rank(0, 1, CPU)
DECODING = Decoding(threads=0, ahead=0, max_pixels=1 << 20)


@dataclass(frozen=True)
class Contents:
    """A store that has its images at hand. None: no longer there; "changed": of a store that was changed."""

    contents: tuple[bytes | None, ...]

    @contextmanager
    def open(self) -> Iterator[Read]:
        def read(row: int) -> bytes:
            content = self.contents[row]
            if content is None:
                raise BadImage("missing")
            if content == b"changed":
                raise InputError("a store", found="a change", wanted="none", remedy="Start again.")
            return content

        yield read


def labelled(contents: list[bytes | None], classes: list[list[int]] | None = None) -> LabelledImages:
    classes = classes if classes is not None else [[number % 3] for number in range(len(contents))]
    return LabelledImages(
        store=Contents(tuple(contents)),
        rows=np.arange(len(contents)),
        names=tuple(f"image {number}" for number in range(len(contents))),
        offsets=np.cumsum([0, *map(len, classes)]),
        classes=np.array([label for own in classes for label in own], np.int64),
        labels=("cat", "dog", "cow"),
        multi_label=any(len(own) != 1 for own in classes),
        fingerprint="",
    )


def plan(images: int, *, batch: int = 4, epochs: int = 2, seed: int = 3) -> EpochPlan:
    return EpochPlan(images=images, batch=batch, epochs=epochs, seed=seed, image_size=16, min_crop_area=0.2, flip=True)


def noise(seed: int) -> bytes:
    """A PNG of which no two crops are alike."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (30, 40, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def images() -> LabelledImages:
    return labelled([noise(number) for number in range(10)])


def made(
    images: LabelledImages, plan: EpochPlan, rank: Rank = ALONE, *, after: int = 0, decoding: Decoding = DECODING
) -> list[Batch]:
    """All batches; their pixels copied, for their memory is used again."""
    return [
        Batch(**{**vars(batch), "images": batch.images.clone()})
        for batch in islice(batches(images, plan, rank, after=after, decoding=decoding, pin=False), plan.steps - after)
    ]


def same(one: Batch, other: Batch) -> bool:
    names = ("images", "offsets", "classes", "weights", "flips", "seeds", "indices")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def test_every_epoch_sees_every_image_once_in_another_order(images: LabelledImages) -> None:
    one = plan(10, batch=4, epochs=2)
    assert one.steps == 5
    seen = torch.cat([batch.indices for batch in made(images, one)]).tolist()
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]


def test_the_last_step_ends_the_last_epoch() -> None:
    one = plan(10, batch=4, epochs=1)
    assert [one.epochs_after(step) for step in range(4)] == [0, 0, 0, 1]
    assert one.steps == 3
    # More images in a step than there are: they are met in several epochs at once.
    small = plan(3, batch=8, epochs=4)
    assert small.steps == 2
    chosen, epochs = small.at(1, ALONE)
    assert epochs.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert sorted(chosen[:3].tolist()) == sorted(chosen[3:6].tolist()) == [0, 1, 2]


@pytest.mark.parametrize("decoding", [DECODING, Decoding(threads=3, ahead=2, max_pixels=1 << 20)])
def test_batches_are_a_function_of_the_step(images: LabelledImages, decoding: Decoding) -> None:
    whole = made(images, plan(10))
    for after in (0, 1, 3):
        rest = made(images, plan(10), after=after, decoding=decoding)
        assert len(rest) == 5 - after
        assert all(same(one, other) for one, other in zip(rest, whole[after:], strict=True))
    assert not same(made(images, plan(10, seed=4))[0], whole[0])


def test_ranks_have_the_pieces_of_a_batch_in_order(images: LabelledImages) -> None:
    whole = made(images, plan(10))
    for step in range(5):
        parts = [made(images, plan(10), Rank(index, 2, CPU), after=step)[0] for index in range(2)]
        for name in ("images", "classes", "weights", "flips", "seeds", "indices"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole[step], name))


def test_an_image_is_cut_alike_whatever_else_was_selected(images: LabelledImages) -> None:
    one = plan(10, batch=10, epochs=1)
    some = images.select(np.array([7, 2]))
    other = plan(2, batch=2, epochs=1)
    (whole,), (few,) = made(images, one), made(some, other)
    for rank, image in enumerate(few.indices.tolist()):
        there = whole.indices.tolist().index((7, 2)[image])
        assert torch.equal(few.images[rank], whole.images[there])
        assert few.seeds[rank] == whole.seeds[there]


def test_pixels_are_those_of_the_image_s_own_box() -> None:
    contents = [noise(0), noise(1)]
    (batch,) = made(labelled([*contents]), plan(2, batch=2, epochs=1))
    for rank, image in enumerate(batch.indices.tolist()):
        row = draws(seed=3, epoch=0, shards=np.zeros(1, np.uint64), indices=np.array([image]), count=24)[0]
        wanted = np.zeros((16, 16, 3), np.uint8)
        choose = partial(random_box, draws=row[:22], min_area=0.2)
        crop_into(contents[image], wanted, choose=choose, max_pixels=1 << 20)
        assert np.array_equal(batch.images[rank].numpy(), wanted)
        assert bool(batch.flips[rank]) == (row[22] >= 0.5)


@pytest.mark.parametrize("threads", [0, 2])
def test_a_bad_image_weighs_nothing_is_counted_always_and_named_once(threads: int) -> None:
    one = labelled([picture((200, 9, 9)), b"no image", None])
    found = made(one, plan(3, batch=3, epochs=2), decoding=Decoding(threads, 2, 1 << 20))
    for batch in found:
        by_image = dict(zip(batch.indices.tolist(), batch.weights.tolist(), strict=True))
        assert by_image == {0: 1.0, 1: 0.0, 2: 0.0}
        assert batch.account == {"samples": 3, "bad": 2}
        black = [rank for rank, image in enumerate(batch.indices.tolist()) if image > 0]
        assert not batch.images[black].any()
    assert sorted(found[0].skipped, key=lambda bad: bad.key) == [
        Skipped("", "image 1", "not_an_image"),
        Skipped("", "image 2", "missing"),
    ]
    assert found[1].skipped == []


def test_images_of_several_classes_keep_them_all() -> None:
    one = labelled([picture()] * 3, [[0, 2], [], [1]])
    (batch,) = made(one, plan(3, batch=3, epochs=1))
    own = [batch.classes[a:b].tolist() for a, b in zip(batch.ends[:-1], batch.ends[1:], strict=True)]
    assert own == [[[0, 2], [], [1]][image] for image in batch.indices.tolist()]


@pytest.mark.parametrize("threads", [0, 2])
def test_a_store_that_was_changed_ends_the_batches(threads: int) -> None:
    one = labelled([picture(), b"changed"])
    with pytest.raises(InputError, match="a store: found a change"):
        made(one, plan(2, batch=2, epochs=1), decoding=Decoding(threads, 1, 1 << 20))


def test_memory_is_used_again(images: LabelledImages) -> None:
    threads = Decoding(threads=2, ahead=1, max_pixels=1 << 20)
    one = plan(10, epochs=8)
    running = batches(images, one, ALONE, after=0, decoding=threads, pin=False)
    assert len({batch.images.data_ptr() for batch in islice(running, one.steps)}) <= 3
