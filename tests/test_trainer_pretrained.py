"""A pre-trained model is the same wherever it is read, and what does not belong together is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed

from tests.corpus import make_corpus
from tests.released_weights import CLASSES, COUNTS, released
from trainer.model.class_token import ClassTokenBlock
from trainer.pretrain import pretrain
from trainer.verb_config import ExportConfig, ImportConfig
from trainer.weights.export import export
from trainer.weights.pretrained import open_pretrained
from trainer.weights.released import import_released
from vocab.errors import FormatError, InputError, MismatchError
from vocab.store.sealing import to_sealed_json

PIXELS = torch.arange(2 * 16 * 16 * 3, dtype=torch.int64).remainder(251).to(torch.uint8).view(2, 16, 16, 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run. Not to be written to."""
    root = tmp_path_factory.mktemp("pretrained")
    config = make_corpus(root / "corpus").config(root / "run")
    assert pretrain(config) == 0
    return root / "run"


@pytest.fixture(scope="module")
def folder(run: Path) -> Path:
    """The run as export writes it. Not to be written to."""
    export(ExportConfig(run, run.parent / "exported"))
    return run.parent / "exported"


def test_a_run_and_its_export_are_one_model(run: Path, folder: Path) -> None:
    one, other = open_pretrained(run), open_pretrained(folder)
    assert one.fingerprint == other.fingerprint
    assert one.preprocessing == other.preprocessing
    assert one.vocabulary.wnids == other.vocabulary.wnids
    assert one.architecture == other.architecture == "vit_tiny_patch16_224"
    with torch.no_grad():
        torch.testing.assert_close(one.embed(PIXELS), other.embed(PIXELS))
    assert len(one.classifier.weight) == len(one.vocabulary)
    assert isinstance(other.model.get_submodule("blocks")[-1], ClassTokenBlock)  # type: ignore[index]


def test_a_run_and_its_export_say_by_which_loss_the_rows_were_learnt(run: Path, folder: Path, tmp_path: Path) -> None:
    assert (open_pretrained(run).loss, open_pretrained(folder).loss) == ("bce", "bce")
    other = Path(shutil.copytree(run, tmp_path / "run"))
    config = json.loads((other / "config.json").read_text())
    config["loss"]["loss"] = "softmax-idf"
    (other / "config.json").write_text(to_sealed_json(config))
    export(ExportConfig(other, tmp_path / "exported"))
    assert (open_pretrained(other).loss, open_pretrained(tmp_path / "exported").loss) == ("softmax-idf", "softmax-idf")
    timm.create_model(f"local-dir:{tmp_path / 'exported'}", pretrained=True)


def test_the_source_that_results_name_holds_no_secret(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.weights.pretrained.local_folder", lambda place: nullcontext(run))
    assert open_pretrained("https://me:word@host/b16?signature=word").source == "https://host/b16?..."


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    wanted = "wanted a run directory, a folder that export, import or timm wrote"
    with pytest.raises(InputError, match=f"absent: found no such folder; {wanted}"):
        open_pretrained(tmp_path / "absent")
    for name, message in (
        ("weights.pt", r"found a pickle, .*s\.save_file"),
        ("weights.safetensors", f"found a file; {wanted}.* Give the file to pretrain as --init"),
        ("weights", f"found a file; {wanted}.* Check the path"),
    ):
        (tmp_path / name).touch()
        with pytest.raises(InputError, match=f"{name}: {message}"):
            open_pretrained(tmp_path / name)


def test_a_loss_that_there_is_not_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(to_sealed_json({**config, "pretraining_loss": "hinge"}))
    with pytest.raises(FormatError, match="the loss 'hinge'; wanted one of bce, softmax, softmax-idf, asymmetric"):
        open_pretrained(copy)


def test_the_released_weights_are_opened(tmp_path: Path) -> None:
    torch.save(released(), tmp_path / "vit.pt")
    (tmp_path / "vocabulary.pkl").write_bytes(pickle.dumps(COUNTS))
    folder = tmp_path / "imported"
    import_released(ImportConfig(tmp_path / "vit.pt", tmp_path / "vocabulary.pkl", folder, classes=CLASSES))
    opened = open_pretrained(folder, image_size=32)
    assert opened.fingerprint != open_pretrained(folder).fingerprint
    with torch.no_grad():
        assert opened.embed(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)).shape == (1, 128)


def test_position_embeddings_are_interpolated_in_two_dimensions(run: Path) -> None:
    plain, larger = open_pretrained(run), open_pretrained(run, image_size=32)
    patches = int((plain.model.get_parameter("pos_embed").shape[1] - 1) ** 0.5)
    wanted = resample_abs_pos_embed(plain.model.get_parameter("pos_embed"), [2 * patches, 2 * patches])
    torch.testing.assert_close(larger.model.get_parameter("pos_embed"), wanted)
    assert larger.preprocessing.image_size == 32
    assert larger.fingerprint != plain.fingerprint
    with torch.no_grad():
        assert larger.embed(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)).shape == (1, plain.classifier.in_features)


def test_patches_that_do_not_fill_the_image_are_refused(run: Path) -> None:
    with pytest.raises(InputError, match="a multiple of the patch"):
        open_pretrained(run, image_size=17)


@pytest.mark.parametrize("place", ["run", "folder"])
def test_a_model_without_its_vocabulary_is_refused(place: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    copy = Path(shutil.copytree(request.getfixturevalue(place), tmp_path / "copy"))
    (copy / "vocabulary.parquet").unlink()
    with pytest.raises(FormatError, match=r"vocabulary\.parquet"):
        open_pretrained(copy)


def test_a_folder_without_a_classifier_is_refused(run: Path, tmp_path: Path) -> None:
    export(ExportConfig(run, tmp_path / "backbone", backbone=True))
    with pytest.raises(MismatchError, match="no classifier"):
        open_pretrained(tmp_path / "backbone")


def test_preprocessing_that_cannot_be_read_is_named(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    config["pretrained_cfg"]["mean"] = "half"
    (copy / "config.json").write_text(to_sealed_json(config))
    with pytest.raises(FormatError, match="preprocessing"):
        open_pretrained(copy)


def test_a_place_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no readable configuration"):
        open_pretrained(tmp_path)
