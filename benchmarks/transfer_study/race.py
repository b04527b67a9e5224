"""CatLIP and CLIP with the same tower on the same captioned pictures, trained by turns and probed on the way.

In: a `Corpus` with its labels. Out: for each side its curve of (images, seconds of training, accuracy of the probe).

    catlip            the recipe's step on the batches of the trainer's own feed: order, crops, flips, mined labels
    clip              the same batches with their captions, as many steps
    clip_same_time    the same, as many steps as take the time that CatLIP's take, its learning rate planned for them

All take their steps by turns, so that whatever else the machine does slows all of them. Only steps count: not the
decoding, which both need alike, nor probes, nor making tokens and labels, which happens once for all epochs. How many
steps CLIP has time for is found out before, on sides that are thrown away. Probes read averaged weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jaxtyping import Int64
from torch import Tensor

from benchmarks.clip_race.corpus import tokens_of
from benchmarks.clip_race.probe import features_of, probe_accuracy
from benchmarks.clip_race.towers import require_same_towers
from benchmarks.measuring.clock import Spent, by_turns, ratio, timed
from benchmarks.measuring.setting import say
from benchmarks.transfer_study.corpus import Corpus
from benchmarks.transfer_study.pictures import Pictures
from benchmarks.transfer_study.sides import TEXT, Point, Side, build_catlip, build_clip_side
from trainer.config import PretrainConfig
from trainer.data.batch import Batch
from trainer.data.feed import Feed
from trainer.data.resolution import FixedResolution
from trainer.data.source import Source
from trainer.distributed import Rank
from trainer.inputs import open_inputs

SIDES = ("catlip", "clip", "clip_same_time")
# Pairs of steps that say how long a step of either takes.
CALIBRATION = 8


@dataclass(frozen=True)
class Race:
    """How long the sides train, and how often they are looked at."""

    steps: int
    """optimisation steps of CatLIP, and of CLIP on the same images"""
    probes: int
    """on the way, evenly spread, the last one at the end; there is one before the first step too"""
    probe_images: int
    """pictures that a probe learns from, the first ones of the task, whose classes come in turn"""
    clip_rate: float | None = None
    """CLIP's peak learning rate; the recipe's without it"""


@dataclass(frozen=True)
class Captions:
    """Tokens of every picture's caption."""

    tokens: Int64[Tensor, "captions tokens"]
    known: int
    """how many different ones there are"""
    rows: Mapping[tuple[str, int], int]
    """row of a picture by the stem of its tar and its place there"""

    def of(self, batch: Batch, source: Source) -> Int64[Tensor, "batch tokens"]:
        """Return the tokens of a batch's captions."""
        return self.tokens[[self.rows[source.tars[tar].shard, index] for tar, index in batch.samples]]


@dataclass(frozen=True)
class Course:
    """Data of a race: captioned pictures as the recipe's feed gives them, and a task to probe with."""

    recipe: PretrainConfig
    """its data that of the corpus"""
    source: Source
    captions: Captions
    train: Pictures
    test: Pictures
    rank: Rank

    def batches(self, steps: int) -> Iterator[tuple[Batch, Int64[Tensor, "batch tokens"]]]:
        """Batches of the trainer's feed, decoded between the steps, with their captions' tokens."""
        data, device = self.recipe.data, self.rank.device
        with Feed(self.source, FixedResolution(data.image_size, data.batch_size)) as feed:
            for _, batch in zip(range(steps), feed, strict=False):
                yield batch.to(device), self.captions.of(batch, self.source).to(device)

    def sides(self, options: Race, *, short: int, seed: int) -> dict[str, Side]:
        """All sides at step 0. Raises MismatchError if their image towers are not the same."""
        found = {"catlip": build_catlip(self.recipe, self.source.vocabulary, self.rank, steps=options.steps, seed=seed)}
        for name, steps in (("clip", options.steps), ("clip_same_time", short)):
            found[name] = build_clip_side(
                self.recipe, self.rank, known=self.captions.known, steps=steps, rate=options.clip_rate, seed=seed
            )
            require_same_towers(found[name].trunk, found["catlip"].trunk, image_size=self.recipe.data.image_size)
        return found


def course_of(
    corpus: Corpus, recipe: PretrainConfig, rank: Rank, *, train: Pictures, test: Pictures, seed: int
) -> Course:
    """The corpus in the order of the seed."""
    tokens, known = tokens_of(list(corpus.captions.values()), length=TEXT.tokens)
    captions = Captions(tokens, known, {sample: row for row, sample in enumerate(corpus.captions)})
    return Course(recipe, open_inputs(recipe.data, seed=seed).train, captions, train, test, rank)


def race(course: Course, options: Race, *, seed: int) -> dict[str, list[Point]]:
    """Train all sides from the seed; curves by the names of SIDES."""
    short = max(1, round(options.steps * clip_share(course, options)))
    sides = course.sides(options, short=short, seed=seed)
    looks = {round(number * options.steps / options.probes) for number in range(1, options.probes + 1)}

    def look(turn: int) -> None:
        for name, side in sides.items():
            images, accuracy = side.taken * course.recipe.data.batch_size, probe(side, course, options)
            side.curve.append(Point(images, images / len(course.captions.tokens), side.spent, accuracy))
            say(
                f"  seed {seed}, step {turn} of {options.steps}: {name} {accuracy:.4f} after {images:,} images, "
                f"{side.spent.wall:.1f} s"
            )

    look(0)
    for turn, (batch, tokens) in enumerate(course.batches(options.steps), start=1):
        due = [side for side in sides.values() if side.due(turn, options.steps)]
        for side in due if turn % 2 else reversed(due):
            side.taken += 1
            side.spent += step(side, batch, tokens, course.rank)
        if turn in looks:
            look(turn)
    return {name: side.curve for name, side in sides.items()}


def step(side: Side, batch: Batch, tokens: Tensor, rank: Rank) -> Spent:
    """Time one step of a side."""
    return timed(lambda: side.take(batch, tokens, side.taken), rank.device)


def clip_share(course: Course, options: Race) -> float:
    """CatLIP's seconds a step over CLIP's, at most 1: the median of some pairs that learn for nothing."""
    sides = course.sides(options, short=1, seed=0)
    batch, tokens = next(course.batches(1))
    works = {
        "catlip": lambda: sides["catlip"].take(batch, tokens, 1),
        "clip": lambda: sides["clip"].take(batch, tokens, 1),
    }
    found = by_turns(works, rounds=CALIBRATION, device=course.rank.device, warm_up=2)
    return min(1.0, ratio(found, "catlip", "clip"))


def probe(side: Side, course: Course, options: Race) -> float:
    """Accuracy of the closed-form probe on a side's features."""
    some, device = options.probe_images, course.rank.device
    side.model.eval()
    with side.averaged():
        accuracy = probe_accuracy(
            features_of(side.embed, course.train.images[:some], device),
            course.train.classes[:some],
            held_out=features_of(side.embed, course.test.images, device),
            held_out_classes=course.test.classes,
        )
    side.model.train()
    return accuracy
