"""The story of `python -m trainer export`: a run's weights to a folder that others can load, as ONNX too if asked for.

In: a run directory. Out: the folder of `trainer/weights/folder.py`, with a model card, checked by loading it again;
model.onnx takes any number of images, and is compared with the model. Its weights lie beside it if one file cannot hold
them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from trainer.loss.losses import is_softmax
from trainer.metrics import HeldOutScores
from trainer.model.backbone import architecture_of, classifier_name, classifier_of
from trainer.records.card import SHOWN_SYNSETS, Subject, model_card
from trainer.records.record import RESULTS, ResultsFile, read_results
from trainer.verb_config import ExportConfig
from trainer.weights.fetching import local_folder
from trainer.weights.folder import CARD, ModelSpec, Preprocessing, fill, first_conv_of, new_folder, pool_of
from trainer.weights.native import first_line
from trainer.weights.run_model import (
    MEAN,
    STD,
    StoredWeights,
    arguments_of,
    images_at,
    model_of,
    read_weights,
    stored_config,
    vocabulary_of,
)
from vocab.errors import FormatError, InputError, MismatchError, MissingRequirementError
from vocab.pages.text import counted
from vocab.store.field_types import require_fields
from vocab.store.locations import name_of
from vocab.vocabulary import Vocabulary

ONNX_FILE = "model.onnx"
OPSET = 20
INPUT, OUTPUT = "images", "outputs"
# protobuf is limited to 2 GB; this leaves room for the graph.
ONE_FILE_BYTES = 1 << 30
# Sums of float32 in another order; the outputs of these models span a few units.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class CardDetails:
    """Details of results.json that the card shows."""

    images_seen: int
    parameters: int
    processes: int
    device: str
    training_account: dict[str, int]


def export(wanted: ExportConfig) -> str:
    """Write the folder, and return a message for the user.

    Raises OutputExistsError if `out` exists; InputError or FormatError if weights, configuration or vocabulary of the
    run are missing or broken; MismatchError if they do not belong together, or if ONNX computes something else.
    """
    if wanted.onnx:
        require_onnx()
    finished = wanted.checkpoint is None and wanted.weights == "ema"
    with (
        new_folder(wanted.out) as work,
        local_folder(wanted.run, step=wanted.checkpoint, result=finished) as run,
    ):
        config = stored_config(run)
        stored = read_weights(run, kind=wanted.weights, step=wanted.checkpoint)
        vocabulary = vocabulary_of(config, stored)
        size, crop = config["data"]["image_size"], config["data"]["eval_crop"]
        model = model_of(config, stored, vocabulary, image_size=size)
        build = ModelSpec(
            architecture=config["model"]["model"],
            arguments=arguments_of(config, image_size=size),
            preprocessing=Preprocessing(size, MEAN, STD, crop),
            features=classifier_of(model).in_features,
            classifier=classifier_name(model),
            global_pool=pool_of(model),
            first_conv=first_conv_of(model),
            loss=config["loss"]["loss"],
        )
        tensors = model.state_dict()
        if wanted.backbone:
            model.reset_classifier(0)  # type: ignore[operator]
            tensors = model.state_dict()
        fill(work, tensors, build, vocabulary, classifier=not wanted.backbone)
        checked = write_onnx(model, work, image_size=size) if wanted.onnx else None
        (work / CARD).write_text(_card(wanted, run, config, stored, vocabulary))
    classes = counted(len(vocabulary), "class", "classes") + (" left out" if wanted.backbone else "")
    line = f"{wanted.out}: {_origin(stored)}, {classes}"
    return line if checked is None else f"{line}\n{ONNX_FILE}: {checked}"


def _origin(stored: StoredWeights) -> str:
    kind = "moving average" if stored.kind == "ema" else "weights"
    return f"{kind} at the end of the run" if stored.step is None else f"{kind} at step {stored.step:,}"


def _card(
    wanted: ExportConfig, run: Path, config: Mapping[str, Any], stored: StoredWeights, vocabulary: Vocabulary
) -> str:
    # The numbers of a run belong to its result, not to the weights of a checkpoint.
    results = results_of(run) if stored.step is None else None
    seen = results.details["images_seen"] if results is not None else None
    if stored.step is not None:
        seen = images_at(run, stored.step)
    subject = Subject(
        title=name_of(wanted.out),
        origin=_origin(stored),
        images_seen=seen,
        classifier=not wanted.backbone,
        licence=wanted.licence,
    )
    return model_card(subject, config, vocabulary, results, loading=_loading(wanted, config, vocabulary))


def results_of(run: Path) -> ResultsFile | None:
    """The run's results.json; None if the run has not written it. Raises FormatError if it cannot be read."""
    if not (run / RESULTS).exists():
        return None
    try:
        results = read_results(run)
        record = results.of("pretrain")
        if record is not None:
            for kind, values in ((HeldOutScores, record.extra), (CardDetails, results.details)):
                require_fields(kind, {field.name: values[field.name] for field in fields(kind)})
            return results
        found = f"results of {results.verb} without a record of pretrain"
    except FormatError as error:
        found = error.found
    except KeyError as error:
        found = f"no {error.args[0]}"
    except ValueError as error:
        found = str(error)
    raise FormatError(
        run / RESULTS,
        found=found,
        wanted="the results of a finished run",
        remedy="Give the run's command again, which writes it anew. Or remove it: the card then says that the weights "
        "were not evaluated.",
    )


def _loading(wanted: ExportConfig, config: Mapping[str, Any], vocabulary: Vocabulary) -> str:
    """Ten lines of Python that load the folder and print what a picture shows, and what model.onnx takes."""
    size = config["data"]["image_size"]
    lines = [
        "```python",
        "import timm",
        "from PIL import Image",
        "",
        'model = timm.create_model("local-dir:FOLDER", pretrained=True).eval().requires_grad_(False)',
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)",
        'outputs = model(transform(Image.open("picture.jpg").convert("RGB"))[None])[0]',
    ]
    if wanted.backbone:
        lines.append('print(f"{len(outputs)} features")')
    else:
        lines += [
            f"shares = outputs.{'softmax(0)' if is_softmax(config['loss']['loss']) else 'sigmoid()'}",
            f"for label in shares.topk({min(SHOWN_SYNSETS, len(vocabulary))}).indices.tolist():",
            '    synset = model.pretrained_cfg["label_names"][label]',
            '    print(f"{shares[label]:.0%}", synset, model.pretrained_cfg["label_descriptions"][synset])',
        ]
    text = "\n".join([*lines, "```"]) + "\n\nFOLDER is the folder of this card, and picture.jpg any picture."
    onnx = (
        f'\n\n{ONNX_FILE} takes "images", float32 [batch, 3, {size}, {size}], 0 to 255 mapped to -1 to 1, and gives '
        f'"outputs".'
        if wanted.onnx
        else ""
    )
    return text + onnx + "\n"


def require_onnx() -> None:
    """Raise MissingRequirementError if the packages that write ONNX are not installed."""
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingRequirementError(
            "--onnx",
            found=f"no {' and no '.join(missing)}",
            wanted="the packages that write ONNX",
            remedy="Install them: pip install '.[onnx]'",
        )


def write_onnx(model: nn.Module, folder: Path, *, image_size: int) -> str:
    """Write model.onnx and compare it with the model; returns how it was checked.

    Input "images": float32 [batch, 3, size, size], normalised as config.json says. Output "outputs": logits, or
    features without a classifier. Raises InputError for an architecture that torch cannot write, and MismatchError if
    onnxruntime, where it is installed, computes something else.
    """
    batch = torch.export.Dim("batch")
    # Two images, because a batch of one would be taken for a constant.
    example = torch.linspace(-1, 1, 2 * 3 * image_size**2).view(2, 3, image_size, image_size)
    path = folder / ONNX_FILE
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    try:
        torch.onnx.export(
            model,
            (example,),
            path,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: batch},),
            external_data=size > ONE_FILE_BYTES,
        )
    except torch.onnx.OnnxExporterError as error:
        raise InputError(
            "--onnx",
            found=f"{architecture_of(model)}, which torch cannot write as ONNX ({first_line(error)})",
            wanted="an architecture whose graph holds for any number of images",
            remedy="Export without --onnx: the folder is one that timm loads.",
        ) from error
    if importlib.util.find_spec("onnxruntime") is None:
        import onnx

        onnx.checker.check_model(str(path))
        return "its graph was checked; install onnxruntime to have it compared with the model"
    images = torch.cat([example, example[:1].flip(3)])
    difference = _difference(model, path, images)
    if not difference <= TOLERANCE:
        raise MismatchError(
            path,
            found=f"outputs that differ from the model's by up to {difference:.2g}",
            wanted=f"at most {TOLERANCE}",
            remedy="Export without --onnx, and report the versions of torch, onnxscript and onnxruntime.",
        )
    return f"onnxruntime's outputs are within {difference:.1g} of the model's"


def _difference(model: nn.Module, path: Path, images: Float32[Tensor, "batch 3 size size"]) -> float:
    """Largest difference of an output between onnxruntime and torch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run([OUTPUT], {INPUT: images.numpy()})
    with torch.no_grad():
        wanted = model(images)
    return float((torch.from_numpy(found) - wanted).abs().max())
