"""model.onnx: the model as ONNX, for any number of images, compared with the model itself.

The weights lie beside the file if one file cannot hold them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from vocab.errors import MismatchError, MissingRequirementError

FILE = "model.onnx"
OPSET = 20
INPUT, OUTPUT = "images", "outputs"
# protobuf is limited to 2 GB; this leaves room for the graph.
ONE_FILE_BYTES = 1 << 30
# Sums of float32 in another order; the outputs of these models span a few units.
TOLERANCE = 1e-3


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
    features without a classifier. Raises MismatchError if onnxruntime, where it is installed, computes something else.
    """
    batch = torch.export.Dim("batch")
    # Two images, because a batch of one would be taken for a constant.
    example = torch.linspace(-1, 1, 2 * 3 * image_size**2).view(2, 3, image_size, image_size)
    path = folder / FILE
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
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
