"""The commands and scripts of docs/your-data.md, run from top to bottom on a small folder of pictures."""

from __future__ import annotations

import csv
import io
import os
import pickle
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.forks import Forks, trainer
from tests.markdown import FENCE, blocks
from trainer.records.record import read_records
from vocab.store.label_shards import LabelShards
from vocab.vocabulary import Vocabulary

# Four starts of Spark take long on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PAGE = ROOT / "docs" / "your-data.md"
SMALLER = {"--steps 2000 --warmup-steps 100": "--steps 4 --warmup-steps 1", "--epochs 10": "--epochs 1"}
"""sizes on the page, and those that a test has time for"""
CAPTIONS = ("two dogs on a beach", "a cat in the garden", "a car on the road")
COLOURS = ("red", "green", "blue")
CLASSES = {"beach.n.01", "car.n.01", "cat.n.01", "dog.n.01", "garden.n.01", "road.n.01"}
PICTURES = 90


def jpeg(colour: str) -> bytes:
    """Make a JPEG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(buffer, "JPEG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Tutorial:
    """The page in a folder of its own, followed to its end."""

    folder: Path
    said: dict[str, str]
    """output of each command"""


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Tutorial:
    for module in ("pyspark", "torch", "webdataset"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    folder = tmp_path_factory.mktemp("your data")
    write_photos(folder)
    write_released(folder)
    said: dict[str, str] = {}
    for language, block in FENCE.findall(smaller(PAGE.read_text())):
        if language == "python":
            (folder / block.partition("\n")[0].removeprefix("# ")).write_text(block)
        elif block.startswith("python "):
            for command in block.replace("\\\n", "").splitlines():
                said[command] = run(command, folder, forks)
    return Tutorial(folder, said)


def smaller(page: str) -> str:
    """Write smaller sizes into the page's commands, each of which must be there."""
    for size, other in SMALLER.items():
        assert size in page, size
        page = page.replace(size, other)
    return page


def run(command: str, folder: Path, forks: Forks) -> str:
    """Run a command in the folder and return its output, with which the test fails if the command does."""
    log = folder / "log.txt"
    log.unlink(missing_ok=True)
    if command.startswith("python -m trainer "):
        forks.run(1, log, trainer_in, folder, shlex.split(command)[3:])
        return log.read_text()
    programs = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    words = ["bash", "-c", command]
    process = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, f"{command}\n{process.stdout}{process.stderr}"
    return process.stdout


def trainer_in(folder: Path, words: list[str]) -> None:
    """Run `python -m trainer` in the folder, with a cache of its own."""
    os.chdir(folder)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    trainer(words)


def write_photos(folder: Path) -> None:
    """Write photos/ and captions.csv."""
    rows = [("image", "caption")]
    for number in range(PICTURES):
        name = f"{number:04d}.jpg" if number else "a trip/IMG.0000.JPG"
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(COLOURS[number % 3]))
        rows.append((name, CAPTIONS[number % 3]))
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def write_released(folder: Path) -> None:
    """Write a small model in the form of Apple's files: the first 24,320 nouns, and random weights."""
    import torch

    from tests import released_weights
    from vocab import wordnet

    wnids = [wordnet.wnid_of(synset) for synset in wordnet.load().synsets[:24_320].tolist()]
    counts = {wnid: len(wnids) - place for place, wnid in enumerate(wnids)}
    tensors = released_weights.released()
    width = released_weights.WIDTH
    tensors |= {"classifier.weight": torch.zeros(len(wnids), width), "classifier.bias": torch.zeros(len(wnids))}
    torch.save(tensors, folder / "vit_base.pt")
    (folder / "datacomp_1_2B_vocab.pkl").write_bytes(pickle.dumps(counts))


def test_the_classes_are_the_nouns_of_the_captions(tutorial: Tutorial) -> None:
    assert set(Vocabulary.load(tutorial.folder / "vocabulary.parquet").names) == CLASSES
    manifest = LabelShards.open(tutorial.folder / "labels").manifest
    assert (manifest.rows, manifest.labelled) == (PICTURES, PICTURES)


def test_ten_tars_fit_their_labels(tutorial: Tutorial) -> None:
    assert len(list((tutorial.folder / "tars").glob("*.tar"))) == 10
    assert "every tar fits its labels" in tutorial.said["python -m pipeline check --labels labels --images tars"]


def test_labels_by_name_become_the_labels_of_the_tars(tutorial: Tutorial) -> None:
    of_tars, aligned = (LabelShards.open(tutorial.folder / name).read_all() for name in ("labels", "labels-2"))
    assert aligned.equals(of_tars)


def test_the_run_has_a_page_with_pictures(tutorial: Tutorial) -> None:
    page = (tutorial.folder / "runs" / "photos" / "page.html").read_text()
    assert "mean average precision" in page
    assert page.count("data:image/") > 0


def test_the_exported_model_names_a_picture(tutorial: Tutorial) -> None:
    lines = tutorial.said["python name.py photos/0001.jpg"].splitlines()
    synsets = {line.split()[1] for line in lines}
    assert len(synsets & set(Vocabulary.load(tutorial.folder / "vocabulary.parquet").wnids)) == len(lines) == 5
    assert all(re.fullmatch(r"\d+% n\d{8} \w+\.n\.\d\d: .+", line) for line in lines), lines


def test_the_page_names_a_picture_as_the_card_of_the_model_does(tutorial: Tutorial) -> None:
    card = (tutorial.folder / "exports" / "photos" / "README.md").read_text()
    [own] = blocks(card, "python")
    own = own.replace("FOLDER", "exports/photos").replace('"picture.jpg"', "sys.argv[1]")
    assert (tutorial.folder / "name.py").read_text() == f"# name.py\nimport sys\n\n{own}"


def test_the_released_weights_are_tuned_to_the_classes(tutorial: Tutorial) -> None:
    with (tutorial.folder / "test.csv").open(newline="", encoding="utf-8") as file:
        tested = list(csv.DictReader(file))
    assert len({row["path"] for row in tested}) == PICTURES / 10
    tuned = tutorial.folder / "runs" / "photos-tuned"
    (record,) = read_records(tuned)
    assert (record.method, record.init, record.metric, record.images) == ("finetune", "transfer", "map_macro", 9)
    lines = tutorial.said["python tuned.py photos/0001.jpg"].splitlines()
    assert len({line.partition("% ")[2] for line in lines} & CLASSES) == len(lines) == 5
