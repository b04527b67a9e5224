"""The figure of README.md: held-out pictures of the demo, with captions, mined labels and predictions.

    make demo
    python -m benchmarks.demo_figure [--run out/runs/sample] [--out docs/figures/demo.png]

In: the run directory of the demo, and its labels. Out: a PNG file. The pictures are evenly spaced over the first
held-out tar, however well they are predicted; their predictions come from the model that `export` writes.
"""

from __future__ import annotations

import io
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import timm
import torch
import tyro
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform

from benchmarks.transfer_study.figures import require_matplotlib
from trainer.data.tar_index import IMAGE_EXTENSIONS
from trainer.records.gallery import Guess
from trainer.records.run_data import read_run_data
from trainer.verb_config import ExportConfig
from trainer.weights.export import export
from vocab import wordnet
from vocab.errors import InputError, run_cli
from vocab.pages.text import tell
from vocab.store.files import write_whole
from vocab.store.label_shards import LabelShards
from vocab.store.tars import Member, samples
from vocab.vocabulary import Vocabulary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 2
SIDE, TEXT, GAP = 2.0, 3.6, 0.2
"""inches: side of a picture, width of its text, space between"""
CAPTION_WIDTH, LABELS_WIDTH = 40, 48
"""characters of a line"""
DPI, PALETTE = 110, 256
RIGHT = "✓ "
INK, SOFT, BAR, NAMED = "#1f2328", "#59636e", "#c8d1da", "#8fd19e"


@dataclass(frozen=True)
class DemoFigure:
    """Draw held-out pictures of a run with what their captions and the model say of them."""

    run: Path = Path("out/runs/sample")
    """run directory"""
    labels: Path = Path("out/labels")
    """label directory of its images"""
    out: Path = Path("docs/figures/demo.png")
    """file to write"""
    pictures: int = 6
    """number of pictures"""
    predictions: int = 4
    """predicted synsets shown for each"""


@dataclass(frozen=True)
class Shown:
    """One picture of the figure."""

    image: Image.Image
    caption: str
    labels: list[str]
    """names of the synsets that the labeler made of the caption, such as dog.n.01"""
    predicted: list[Guess]
    """most probable first"""


def held_out(options: DemoFigure) -> list[Shown]:
    """Read the pictures, and predict their synsets. Raises InputError for a folder that is not a run."""
    data = read_run_data(options.run)
    if data is None:
        raise InputError(options.run, found="no data.json", wanted="a finished run", remedy="Run make demo first.")
    tar = data.held_out.tars[0]
    rows = LabelShards.open(options.labels).read_shard(tar.shard)
    labels = dict(zip(rows["key"].to_pylist(), rows["synsets"].to_pylist(), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        export(ExportConfig(options.run, f"{folder}/model"))
        model = timm.create_model(f"local-dir:{folder}/model", pretrained=True).eval()
        names = Vocabulary.load(f"{folder}/model/vocabulary.parquet").names
    transform = create_transform(**resolve_model_data_config(model), is_training=False)  # type: ignore[no-untyped-call]
    nouns = wordnet.load()
    with Path(tar.place).open("rb") as file:
        labelled = [sample for sample in samples(file) if labels.get(sample.key)]
        shown = []
        for place in np.linspace(0, len(labelled), options.pictures, endpoint=False).astype(int):
            key, members, *_ = labelled[place]
            pixels = next(members[extension] for extension in IMAGE_EXTENSIONS if extension in members)
            image = Image.open(io.BytesIO(read(file, pixels))).convert("RGB")
            with torch.no_grad():
                shares, best = model(transform(image).unsqueeze(0))[0].sigmoid().topk(options.predictions)
            caption = " ".join(read(file, members["txt"]).decode().split())
            mined = [nouns.name_of(nouns.row_of(synset)) for synset in labels[key]]
            pairs = [(names[label], share) for label, share in zip(best.tolist(), shares.tolist(), strict=True)]
            guesses = [Guess(name, share, right=name in mined) for name, share in pairs]
            shown.append(Shown(image, caption, mined, guesses))
    return shown


def read(tar: BinaryIO, member: Member) -> bytes:
    """Bytes of a member."""
    tar.seek(member.offset)
    return tar.read(member.size)


def draw(path: Path, shown: Sequence[Shown]) -> None:
    """Draw two pictures a row on white, which GitHub shows in light and in dark mode alike."""
    from matplotlib.figure import Figure

    rows = -(-len(shown) // COLUMNS)
    wide, high = COLUMNS * (SIDE + TEXT + 2 * GAP) + GAP, rows * (SIDE + GAP) + GAP
    figure = Figure(figsize=(wide, high), facecolor="white")
    for number, each in enumerate(shown):
        row, column = divmod(number, COLUMNS)
        left, low = GAP + column * (SIDE + TEXT + 2 * GAP), high - (row + 1) * (SIDE + GAP)
        picture = figure.add_axes((left / wide, low / high, SIDE / wide, SIDE / high))
        picture.imshow(each.image, interpolation="bilinear")
        picture.axis("off")
        draw_text(figure.add_axes(((left + SIDE + GAP) / wide, low / high, TEXT / wide, SIDE / high)), each)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as file:
        Image.open(drawn).convert("RGB").quantize(PALETTE).save(file, "PNG", optimize=True)


def draw_text(axes: Axes, shown: Shown) -> None:
    """Write caption and labels, and a bar for each prediction: green where the caption names the synset."""
    axes.set(xlim=(0, 1), ylim=(0, 10))
    axes.axis("off")
    caption = textwrap.wrap(shown.caption, CAPTION_WIDTH, max_lines=2, placeholder=" ...")
    axes.text(0, 10.1, "\n".join(caption), va="top", size=12, color=INK, style="italic")
    mined = "labels: " + ", ".join(map(wordnet.words_of_name, shown.labels))
    labels = textwrap.wrap(mined, LABELS_WIDTH, max_lines=2, placeholder=" ...")
    axes.text(0, 7.4, "\n".join(labels), va="top", size=10.5, color=SOFT)
    for place, guess in enumerate(shown.predicted):
        height = 4.4 - 1.28 * place
        axes.barh(height, guess.probability, height=1.1, color=NAMED if guess.right else BAR)
        words = RIGHT * guess.right + wordnet.words_of_name(guess.name)
        axes.text(0.01, height - 0.05, words, va="center", size=11, color=INK)
        axes.text(0.9, height - 0.05, f"{guess.probability:.0%}", va="center", ha="right", size=11, color=SOFT)


def main() -> None:
    """Read and draw."""
    options = tyro.cli(DemoFigure)
    require_matplotlib()
    shown = held_out(options)
    draw(options.out, shown)
    tell(f"{options.out}: {len(shown)} pictures, {options.out.stat().st_size:,} bytes\n", to=sys.stdout)


if __name__ == "__main__":
    run_cli(main)
