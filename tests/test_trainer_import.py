"""Import: the released weights compute what CoreNet computes, and neither file can run anything or slip by a place."""

from __future__ import annotations

import pickle
import sys
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.markdown import blocks
from tests.pictures import picture
from tests.released_weights import BLOCKS, CLASSES, COUNTS, HEADS, WIDTH, Code, released
from tests.synsets import CAT, DOG
from trainer.__main__ import main
from trainer.verb_config import ImportConfig
from trainer.weights.folder import load_model
from trainer.weights.released import import_released, read_tensors
from vocab.errors import CatlipError, FormatError, InputError, MismatchError, OutputExistsError
from vocab.vocabulary import Vocabulary


def corenet(tensors: dict[str, Tensor], images: Tensor) -> Tensor:
    """The logits, spelt out from the description of CoreNet's layers; nothing of timm in it."""
    x = images
    for place, (stride, padding) in enumerate([(4, 1), (2, 0), (2, 0)]):
        layer = f"patch_emb.{place}.block"
        bias = tensors.get(f"{layer}.conv.bias")
        x = F.conv2d(x, tensors[f"{layer}.conv.weight"], bias, stride=stride, padding=padding)
        if place < 2:
            mean, var = (tensors[f"{layer}.norm.{name}"].view(1, -1, 1, 1) for name in ("running_mean", "running_var"))
            gain, shift = (tensors[f"{layer}.norm.{name}"].view(1, -1, 1, 1) for name in ("weight", "bias"))
            x = F.gelu((x - mean) / (var + 1e-5).sqrt() * gain + shift)
    tokens = x.flatten(2).transpose(1, 2)
    count = tokens.shape[1]
    positions = tensors["pos_embed.pos_embed.pos_embed"]
    if count != positions.shape[2]:
        positions = F.interpolate(positions, size=(count, WIDTH), mode="bilinear")
    first = tensors["cls_token"].expand(len(images), -1, -1)
    x = torch.cat([first, tokens + positions.reshape(1, count, WIDTH)], dim=1)

    def normed(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    for block in range(BLOCKS):
        part = f"transformer.{block}.pre_norm_mha"
        qkv = linear(normed(x, f"{part}.0"), f"{part}.1.qkv_proj")
        q, k, v = (piece.unflatten(-1, (HEADS, -1)).transpose(1, 2) for piece in qkv.chunk(3, dim=-1))
        weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1)
        out = next(name for name in ("out_proj_attn", "out_proj") if f"{part}.1.{name}.weight" in tensors)
        x = x + linear((weights @ v).transpose(1, 2).flatten(2), f"{part}.1.{out}")
        part = f"transformer.{block}.pre_norm_ffn"
        x = x + linear(F.gelu(linear(normed(x, f"{part}.0"), f"{part}.1")), f"{part}.4")
    return linear(normed(x, "post_transformer_norm")[:, 0], "classifier")


def images(size: int) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def wanted(tmp_path: Path) -> ImportConfig:
    """Sound weights and a sound vocabulary."""
    torch.save(released(), tmp_path / "vit.pt")
    (tmp_path / "vocabulary.pkl").write_bytes(pickle.dumps(COUNTS))
    return ImportConfig(tmp_path / "vit.pt", tmp_path / "vocabulary.pkl", tmp_path / "out", classes=CLASSES)


def refused(wanted: ImportConfig, kind: type[CatlipError], match: str) -> None:
    """It is refused so, and leaves nothing."""
    with pytest.raises(kind, match=match):
        import_released(wanted)
    assert not [path for path in wanted.out.parent.iterdir() if "out" in path.name]


@pytest.mark.parametrize("attention", ["out_proj_attn", "out_proj"])
@pytest.mark.parametrize("size", [224, 192])
def test_imported_weights_compute_what_corenet_computes(wanted: ImportConfig, attention: str, size: int) -> None:
    tensors = released(attention=attention)
    torch.save(tensors, wanted.weights)
    import_released(replace(wanted, image_size=size))
    model = load_model(wanted.out)
    with torch.no_grad():
        found = model(images(size))
    assert found.shape == (2, CLASSES)
    assert torch.allclose(found, corenet(tensors, images(size)), rtol=1e-5, atol=1e-5)


def test_timm_s_model_of_that_stem_agrees_once_its_padding_is_corenet_s(
    wanted: ImportConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the card tells those who have timm alone; timm fixes the width at 768, so the small one is made here.
    tensors = released()
    import_released(wanted)
    model = load_model(wanted.out)
    stem = timm.create_model("vit_base_mci_224", depth=1).patch_embed.backbone
    assert [tuple(layer.conv.padding) for layer in stem] == [(0, 0), (0, 0), (0, 0)]
    assert {name.split(".", 1)[1] for name in stem.state_dict() if name.startswith("0.")} == {
        name.split(".", 3)[3] for name in model.state_dict() if name.startswith("patch_embed.backbone.0.")
    }
    unpadded = model.get_submodule("patch_embed.backbone.0.conv")
    monkeypatch.setattr(unpadded, "padding", (0, 0))
    # Moving the image by a pixel is what the padding does.
    moved = F.pad(images(224), (1, 0, 1, 0))[:, :, :224, :224]
    with torch.no_grad():
        assert torch.allclose(model(moved), corenet(tensors, images(224)), rtol=1e-5, atol=1e-5)
        assert not torch.allclose(model(images(224)), corenet(tensors, images(224)), atol=1e-2)


def test_the_folder_says_how_it_is_loaded_and_timm_refuses_it(wanted: ImportConfig) -> None:
    assert "trainer.weights.folder.load_model" in import_released(wanted)
    names = {path.name for path in wanted.out.iterdir()}
    assert names == {"model.safetensors", "config.json", "vocabulary.parquet", "README.md", "LICENSE.wordnet"}
    with pytest.raises(RuntimeError, match="Unknown model"):
        timm.create_model(f"local-dir:{wanted.out}", pretrained=True)
    card = (wanted.out / "README.md").read_text()
    assert "width 128, 2 blocks" in card
    assert "n0" not in Vocabulary.load(wanted.out / "vocabulary.parquet").names
    assert Vocabulary.load(wanted.out / "vocabulary.parquet").names == ["dog.n.01", "cat.n.01", "car.n.01"]


def test_the_card_s_lines_name_what_is_in_a_picture(
    wanted: ImportConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import_released(wanted)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picture.jpg").write_bytes(picture())
    [code] = blocks((wanted.out / "README.md").read_text(), "python")
    exec(code.replace("FOLDER", str(wanted.out)), {})
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.partition(" ")[2] for line in lines) == [
        "n02084071 dog.n.01: dog, domestic dog, Canis familiaris",
        "n02121620 cat.n.01: cat, true cat",
        "n02958343 car.n.01: car, auto, automobile, machine, motorcar",
    ]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()},
        lambda tensors: {"model_state_dict": released(seed=5), "ema_state_dict": tensors, "epoch": 3},
        lambda tensors: OrderedDict(tensors),
        lambda tensors: {name: tensor.bfloat16() if tensor.ndim else tensor for name, tensor in tensors.items()},
    ],
)
def test_wrappers_are_taken_off(tmp_path: Path, wrap: Any) -> None:
    torch.save(wrap(released()), tmp_path / "vit.pt")
    found = read_tensors(tmp_path / "vit.pt")
    assert found.keys() == released().keys()
    assert torch.allclose(found["classifier.bias"].float(), released()["classifier.bias"], atol=1e-2)


def test_the_weights_must_be_those_of_the_model_named(wanted: ImportConfig) -> None:
    refused(replace(wanted, model="vit_base"), MismatchError, "wanted vit_base: width 768 and 12 blocks")


def test_a_classifier_of_other_classes_is_refused(wanted: ImportConfig) -> None:
    refused(replace(wanted, classes=1000), MismatchError, "found 3 classes; wanted 1,000")


def test_a_vocabulary_smaller_than_the_classifier_is_refused(wanted: ImportConfig) -> None:
    wanted.vocabulary.write_bytes(pickle.dumps({f"n{DOG}": 2, f"n{CAT}": 1}))
    refused(wanted, MismatchError, "found 2 synsets; wanted at least 3")


def change(name: str, tensor: Tensor | None, *, drop: str = "") -> dict[str, Tensor]:
    tensors = {key: value for key, value in released().items() if key not in (name, drop)}
    return tensors if tensor is None else tensors | {name: tensor}


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        (change("classifier.bias", None), r"found no classifier\.bias; wanted the tensors of CoreNet"),
        (change("simple_fpn.x", torch.ones(1)), r"found simple_fpn\.x, which the model lacks"),
        (change("transformer.5.pre_norm_mha.0.bias", torch.ones(1)), "and 44 more; wanted the tensors"),
        (change("transformer.9999.x", torch.ones(1)), "which the model lacks"),
        (change("classifier.bias", torch.ones(4)), r"classifier\.bias: found a tensor of shape \[4\]; wanted \[3\]"),
        (change("cls_token", torch.ones(128)), r"cls_token: found a tensor of shape \[128\]; wanted \[1, 1, 128\]"),
        (change("patch_emb.0.block.conv.weight", torch.ones(32, 3, 3, 3)), r"wanted \[32, 3, 4, 4\]"),
        (change("pos_embed.pos_embed.pos_embed", torch.ones(1, 1, 200, WIDTH)), r"wanted \[1, 1, 196, 128\]"),
        (change("pos_embed.pos_embed.pos_embed", torch.ones(196, WIDTH)), "pos_embed"),
        (change("post_transformer_norm.weight", torch.tensor(1.0)), "post_transformer_norm|cls_token"),
        ({}, "without tensors"),
        ({"a": torch.ones(1)}, r"cls_token and 29 more and a, which the model lacks"),
    ],
)
def test_weights_that_are_not_the_model_s_are_refused_by_name(
    wanted: ImportConfig, tensors: dict[str, Tensor], match: str
) -> None:
    torch.save(tensors, wanted.weights)
    refused(wanted, InputError, match)


def test_a_weights_file_with_code_in_it_is_refused_and_not_run(wanted: ImportConfig, tmp_path: Path) -> None:
    torch.save({"cls_token": Code(tmp_path / "ran")}, wanted.weights)
    refused(wanted, InputError, "no readable weights")
    wanted.weights.write_bytes(pickle.dumps(Code(tmp_path / "ran"), 2))
    refused(wanted, InputError, "no readable weights")
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_cut_short_or_something_else_are_refused(wanted: ImportConfig) -> None:
    whole = wanted.weights.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"hello\n", whole[:100]):
        wanted.weights.write_bytes(content)
        refused(wanted, InputError, "no readable weights")
    torch.save([torch.ones(1)], wanted.weights)
    refused(wanted, InputError, "found a list without tensors")
    torch.save({"a": 1}, wanted.weights)
    refused(wanted, InputError, "found 'a', which is not a tensor with a name")
    with zipfile.ZipFile(wanted.weights, "w") as archive:
        archive.writestr("x/data.pkl", b"")
    refused(wanted, InputError, "no readable weights")


def test_the_command_line_says_how_to_load_it(
    wanted: ImportConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(wanted.weights), "--vocabulary", str(wanted.vocabulary), "--out", str(wanted.out), "--classes", "3"]
    monkeypatch.setattr(sys, "argv", ["trainer", "import", *words])
    main()
    assert capsys.readouterr().out.endswith(f'trainer.weights.folder.load_model("{wanted.out}") loads it\n')


def test_what_exists_is_not_written_over(wanted: ImportConfig) -> None:
    wanted.out.write_text("")
    with pytest.raises(OutputExistsError, match="found a file"):
        import_released(wanted)


def test_an_image_size_without_whole_patches_is_refused(wanted: ImportConfig) -> None:
    refused(replace(wanted, image_size=230), InputError, "wanted a multiple of the patch, 16")


def test_a_folder_that_is_none_is_refused_by_the_loader(wanted: ImportConfig, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no model that can be loaded"):
        load_model(tmp_path)
    import_released(wanted)
    weights = wanted.out / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(FormatError, match="no model that can be loaded"):
        load_model(wanted.out)
