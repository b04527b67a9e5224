"""Runs of other architectures than plain transformers: convolutional and hierarchical, with and without batch norms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from tests.backbones import SMALL, backbone
from tests.corpus import Corpus, command, losses, make_corpus, same_weights
from tests.finetuning import config as finetuning
from tests.finetuning import results as tuned_results
from tests.finetuning import task_in
from tests.forks import Forks, trainer
from trainer.config import ModelConfig, OptimConfig
from trainer.distributed import Rank
from trainer.model.backbone import architecture, blocks_of, classifier_name, classifier_of, features, on_meta
from trainer.optim.optimiser import groups_of, matrices_of
from trainer.pretrain import pretrain
from trainer.step.statistics import BatchStatistics
from trainer.transfer.config import ProbeConfig, TaskConfig, ZeroShotConfig
from trainer.transfer.finetune import finetune
from trainer.transfer.probing import probe_records
from trainer.transfer.zero_shot import zero_shot_records
from trainer.verb_config import ExportConfig
from trainer.weights.export import export
from trainer.weights.folder import load_model
from trainer.weights.pretrained import open_pretrained
from vocab.errors import InputError

HERE = Rank(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def runs(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of each of SMALL, by its name. Not to be written to."""
    place = tmp_path_factory.mktemp("runs")
    for name in SMALL:
        assert pretrain(corpus.config(place / name, **backbone(name, drop_path=0.3))) == 0
    return place


@pytest.mark.parametrize(
    ("name", "size", "classifier", "blocks"),
    [
        ("vit_tiny_patch16_224", 32, "head", 12),
        ("vit_small_patch14_dinov2", 28, "head", 12),
        ("eva02_tiny_patch14_224", 28, "head", 12),
        ("resnet18", 32, "fc", 8),
        ("resnet10t", 64, "fc", 5),
        ("convnext_atto", 32, "head.fc", 16),
        ("swin_tiny_patch4_window7_224", 64, "head.fc", 16),
        ("maxvit_pico_rw_256", 64, "head.fc", 5),
        ("mobilenetv3_small_050", 32, "classifier", 12),
        ("efficientnet_b0", 32, "classifier", 16),
        ("regnetx_002", 32, "head.fc", 14),
        ("densenet121", 32, "classifier", 61),
        # timm calls the members of some of its sequences one by one.
        ("hrnet_w18_small", 64, "classifier", 12),
        # Its patches of 7 pixels overlap, and lie 4 apart.
        ("pvt_v2_b0", 64, "head", 5),
    ],
)
def test_a_family_has_its_classifier_and_its_blocks_where_timm_says(
    name: str, size: int, classifier: str, blocks: int
) -> None:
    model = on_meta(ModelConfig(model=name), classes=3, image_size=size, one_size=True)
    assert classifier_name(model) == classifier
    assert timm.get_pretrained_cfg(name).classifier == classifier
    found = blocks_of(model)
    called: list[nn.Module] = []
    for block in found:
        block.register_forward_hook(lambda part, given, out: called.append(part))
    assert features(model.eval(), torch.empty(2, 3, size, size, device="meta")).shape == (
        2,
        classifier_of(model).in_features,
    )
    # Each is called once, so that it can be compiled and sharded; none holds another.
    assert [id(part) for part in called] == [id(block) for block in found]
    assert len(found) == blocks
    weights = [id(parameter) for block in found for parameter in block.parameters()]
    assert len(weights) == len(set(weights))


@pytest.mark.parametrize(
    ("name", "part"), [("fastvit_t8", "stem.0.conv_scale.conv"), ("mobileone_s0", "stem.conv_scale.conv")]
)
def test_a_strided_convolution_of_single_pixels_reads_planes_which_torch_trains_on_without_a_crash(
    name: str, part: str
) -> None:
    model = architecture(ModelConfig(model=name), classes=3, image_size=32)
    seen: list[torch.Tensor] = []
    model.get_submodule(part).register_forward_hook(lambda part, given, out: seen.append(given[0]))
    images = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last)
    model(images)
    assert seen[0].is_contiguous()
    torch.testing.assert_close(seen[0], images)


@pytest.mark.parametrize("name", SMALL)
def test_the_classifier_of_the_features_is_the_model(name: str) -> None:
    model = architecture(ModelConfig(model=name), classes=3, image_size=SMALL[name]).eval()
    images = torch.randn(2, 3, SMALL[name], SMALL[name])
    torch.testing.assert_close(classifier_of(model)(features(model, images)), model(images))


def test_layers_of_a_convolutional_network_learn_by_the_layers_above_them() -> None:
    model = on_meta(ModelConfig(model="resnet10t"), classes=3, image_size=64)
    groups = groups_of(model, OptimConfig(layer_decay=0.5, weight_decay=0.1))
    found = {name: (group.lr_scale, group.weight_decay) for group in groups for name in group.parameters}
    assert found.keys() == dict(model.named_parameters()).keys()
    assert found["fc.weight"] == (1.0, 0.1)
    assert found["fc.bias"] == (1.0, 0.0)
    assert [found[f"layer{layer}.0.conv1.weight"] for layer in (4, 3, 2, 1)] == [
        (0.5, 0.1), (0.25, 0.1), (0.125, 0.1), (0.0625, 0.1),
    ]  # fmt: skip
    assert found["layer1.0.bn1.weight"] == (0.0625, 0.0)
    assert found["conv1.0.weight"] == (0.03125, 0.1)


def test_weight_decay_spares_what_timm_spares() -> None:
    model = on_meta(ModelConfig(model="swin_tiny_patch4_window7_224"), classes=3, image_size=224, one_size=True)
    groups = groups_of(model, OptimConfig(weight_decay=0.1))
    spared = {name.rpartition(".")[2] for group in groups if group.weight_decay == 0 for name in group.parameters}
    assert spared == {"bias", "weight", "relative_position_bias_table"}
    decayed = [name for group in groups if group.weight_decay for name in group.parameters]
    assert {name.rpartition(".")[2] for name in decayed} == {"weight"}


def test_muon_takes_the_matrices_of_a_hierarchy_but_for_the_first_layer_and_the_classifier() -> None:
    model = on_meta(ModelConfig(model="swin_tiny_patch4_window7_224"), classes=3, image_size=224, one_size=True)
    found = matrices_of(model)
    assert {"layers.0.blocks.0.attn.qkv.weight", "layers.3.blocks.1.mlp.fc2.weight"} <= found
    assert "head.fc.weight" not in found
    assert not matrices_of(on_meta(ModelConfig(model="resnet10t"), classes=3, image_size=64))


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_give_the_curve_of_one_where_images_are_normed_alone(
    forks: Forks, corpus: Corpus, runs: Path, tmp_path: Path, parallel: str
) -> None:
    config = corpus.config(tmp_path / "run", **backbone("test_convnext", drop_path=0.3), parallel=parallel)
    forks.run(2, tmp_path / "log", trainer, command(config))
    assert losses(tmp_path / "run") == pytest.approx(losses(runs / "test_convnext"), rel=1e-4)


def test_batch_norms_are_each_rank_s_and_their_statistics_the_mean_over_ranks(
    forks: Forks, corpus: Corpus, tmp_path: Path
) -> None:
    for parallel in ("ddp", "fsdp"):
        config = corpus.config(tmp_path / parallel, **backbone("test_resnet"), parallel=parallel)
        forks.run(2, tmp_path / f"log-{parallel}", trainer, command(config))
    # One process that computes the batch in two parts norms the same images together.
    assert pretrain(corpus.config(tmp_path / "parts", **backbone("test_resnet"), accumulate=2)) == 0
    assert losses(tmp_path / "ddp") == pytest.approx(losses(tmp_path / "fsdp"), rel=1e-4)
    assert losses(tmp_path / "ddp") == pytest.approx(losses(tmp_path / "parts"), rel=1e-4)
    one, other = (load_file(tmp_path / parallel / "model.safetensors") for parallel in ("ddp", "fsdp"))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    # Six steps of one batch each, and a rank's half of it: as many updates as steps.
    assert one["bn1.num_batches_tracked"].item() == 6


def test_blocks_computed_again_leave_the_statistics_of_one_pass(corpus: Corpus, tmp_path: Path) -> None:
    for again in (False, True):
        options = backbone("test_resnet", activation_checkpointing=again)
        assert pretrain(corpus.config(tmp_path / str(again), **options)) == 0
    assert same_weights(tmp_path / "True", tmp_path / "False")


def test_statistics_are_put_back_where_a_step_was_bad() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    statistics = BatchStatistics(model)
    seen = statistics.copies()
    model(torch.tensor([[1.0, float("nan")], [3.0, 4.0]]))
    statistics.put_back(seen, where=torch.tensor(0.0))
    assert model[0].running_mean[0].item() == pytest.approx(0.2)
    statistics.put_back(seen, where=torch.tensor(1.0))
    assert model[0].running_mean.tolist() == [0.0, 0.0]
    assert model[0].running_var.tolist() == [1.0, 1.0]
    assert model[0].num_batches_tracked.item() == 0


@pytest.mark.parametrize("name", SMALL)
def test_an_export_is_the_model_to_timm_and_to_us(runs: Path, tmp_path: Path, name: str) -> None:
    export(ExportConfig(run=runs / name, out=tmp_path / "whole"))
    export(ExportConfig(run=runs / name, out=tmp_path / "backbone", backbone=True))
    images = torch.randn(2, 3, SMALL[name], SMALL[name])
    ours = open_pretrained(runs / name)
    whole, alone = (
        timm.create_model(f"local-dir:{tmp_path / kind}", pretrained=True).eval() for kind in ("whole", "backbone")
    )
    with torch.no_grad():
        torch.testing.assert_close(whole(images), ours.model(images))
        torch.testing.assert_close(alone(images), features(ours.model, images))
        torch.testing.assert_close(load_model(tmp_path / "whole")(images), ours.model(images))
    assert whole.pretrained_cfg["classifier"] == classifier_name(ours.model)
    assert open_pretrained(tmp_path / "whole").fingerprint == ours.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_an_export_as_onnx_computes_the_same(runs: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    said = export(ExportConfig(run=runs / name, out=tmp_path / "onnx", onnx=True))
    assert "onnxruntime's outputs are within" in said


def test_an_architecture_that_onnx_cannot_express_is_named(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise torch.onnx.OnnxExporterError("Failed to decompose the graph\nand much more")

    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(InputError, match="--onnx: found test_maxvit, which torch cannot write as ONNX") as raised:
        export(ExportConfig(run=runs / "test_maxvit", out=tmp_path / "onnx", onnx=True))
    assert "(Failed to decompose the graph)" in str(raised.value)
    assert not (tmp_path / "onnx").exists()


def test_a_convolutional_network_sees_images_of_another_size_as_it_is(runs: Path) -> None:
    own, larger = open_pretrained(runs / "test_resnet"), open_pretrained(runs / "test_resnet", image_size=48)
    assert larger.preprocessing.image_size == 48
    assert own.model.state_dict().keys() == larger.model.state_dict().keys()
    images = torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8)
    assert torch.equal(own.embed(images), larger.embed(images))


# timm's own, where it interpolates biases of positions.
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence", "ignore:torch.searchsorted")
def test_windows_that_an_image_does_not_fill_are_refused_by_name(runs: Path) -> None:
    with pytest.raises(InputError, match=r"--image-size: found 50 for test_maxvit, which fails on such images"):
        open_pretrained(runs / "test_maxvit", image_size=50)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TaskConfig:
    return task_in(tmp_path_factory.mktemp("task"))


@pytest.mark.parametrize("name", ["test_resnet", "test_maxvit"])
def test_each_is_probed_scored_and_fine_tuned(runs: Path, task: TaskConfig, tmp_path: Path, name: str) -> None:
    config = ProbeConfig(runs / name, task, tmp_path / "probe", epochs=2, train_batch=8, workers=0, device="cpu")
    assert {record.method for record in probe_records(config, HERE, task="squares")} == {"probe", "knn"}
    scored = ZeroShotConfig(runs / name, tmp_path / "zeroshot", task, workers=0, device="cpu")
    (record,) = zero_shot_records(scored, HERE, task="squares")
    assert record.images == 9
    tuned = finetuning(runs / name, task, tmp_path / "tuned", layer_decay=0.7, mixup=0.4)
    assert finetune(tuned) == 0
    assert tuned_results(tmp_path / "tuned")["images"] == 9
    ended = timm.create_model(f"local-dir:{tmp_path / 'tuned' / 'model'}", pretrained=True)
    assert classifier_of(ended).out_features == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (backbone("test_resnet", patch_keep=0.5), "--patch-keep: found 0.5 for ResNet"),
        (backbone("test_resnet", optimiser="muon"), "--optimiser: found muon for a ResNet without matrices"),
        (backbone("test_resnet", accumulate=8), "--batch-size: found 1 image at a time for a model with batch norms"),
        (backbone("test_resnet", depth=3), "unexpected keyword argument 'depth'"),
        (backbone("test_maxvit", image_size=50), "--image-size: found 50 for test_maxvit, which fails"),
        (backbone("test_maxvit", resolution="variable", resolution_sizes=(32, 64, 32)), "'dynamic_img_size'"),
    ],
)
def test_what_only_a_plain_transformer_can_do_is_refused_before_anything_is_written(
    corpus: Corpus, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        pretrain(corpus.config(tmp_path / "run", **changes))
    assert not (tmp_path / "run" / "config.json").exists()
