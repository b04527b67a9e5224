"""The figure of README.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.demo_figure import DemoFigure, draw, held_out
from tests.corpus import make_corpus
from trainer.pretrain import pretrain
from vocab.errors import InputError

pytest.importorskip("matplotlib", reason="the notebooks extra is not installed")


def test_the_figure_shows_held_out_pictures_with_captions_labels_and_guesses(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    assert pretrain(corpus.config(tmp_path / "run")) == 0
    shown = held_out(DemoFigure(tmp_path / "run", corpus.labels, pictures=3, predictions=2))
    # Eleven of the last tar's thirteen squares have a label: the first, fourth and eighth of these are shown.
    assert [each.caption for each in shown] == ["<b>square</b> 0", "<b>square</b> 3", "<b>square</b> 8"]
    assert [each.labels for each in shown] == [["dog.n.01"], ["dog.n.01"], ["car.n.01"]]
    assert [[guess.name in each.labels for guess in each.predicted] for each in shown] == [
        [guess.right for guess in each.predicted] for each in shown
    ]
    draw(tmp_path / "figures" / "demo.png", shown)
    with Image.open(tmp_path / "figures" / "demo.png") as figure:
        assert figure.format == "PNG"


def test_a_folder_that_is_not_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no data\.json"):
        held_out(DemoFigure(tmp_path))
