"""First weights of a run: those that `--init` names, in the shape of the run's model.

timm converts them as it converts its own: it renames what older releases called otherwise, and resizes position
embeddings (in two dimensions) and patches. Everything but the classifier must then be there, by name and by shape. The
classifier is kept where its classes are those of the run's vocabulary, and new elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

import timm
from torch import Tensor, nn

from trainer.config import ModelConfig
from trainer.model.backbone import REFUSALS, classifier_name, is_sized, timm_arguments
from trainer.weights.names import first_of, misfit, prefix_of, without_prefix
from trainer.weights.native import first_line
from trainer.weights.sources import SourceWeights
from vocab.errors import MismatchError
from vocab.pages.text import counted
from vocab.vocabulary import Vocabulary

POSITIONS = "pos_embed"
MOST_PREFIXES = 8
"""tokens that may stand before those of patches: class, distillation and register tokens"""


def put_first_weights(
    model: nn.Module,
    weights: SourceWeights,
    config: ModelConfig,
    vocabulary: Vocabulary,
    *,
    image_size: int,
    one_size: bool,
) -> list[str]:
    """Copy weights into a model that was just built from these options; return lines that say what became of them.

    Raises MismatchError for weights of another shape or type, with other names, or with NaN.
    """
    own, ours = classifier_name(model), model.state_dict()
    # torch would convert them without a word: int8 without its scale, a complex number without its imaginary part.
    given = [(name, weights.tensors.get(name, tensor)) for name, tensor in ours.items() if tensor.is_floating_point()]
    if other := [f"{name} of {tensor.dtype}" for name, tensor in given if not tensor.is_floating_point()]:
        raise _mismatch(weights, config, first_of(other))
    fitted = fit(weights, config, ours, image_size=image_size, one_size=one_size)
    same = weights.vocabulary is not None and weights.vocabulary.fingerprint == vocabulary.fingerprint
    keep = same and f"{own}.weight" in fitted
    new = {} if keep else {name: ours[name] for name in (f"{own}.weight", f"{own}.bias")}
    taken = {**fitted, **new}
    if missing := sorted(ours.keys() - taken.keys()):
        raise _mismatch(weights, config, f"no {first_of(missing)}")
    if wrong := [name for name, tensor in ours.items() if tensor.shape != taken[name].shape]:
        raise _mismatch(weights, config, f"{wrong[0]} of shape {list(taken[wrong[0]].shape)}")
    if broken := [name for name, tensor in taken.items() if not tensor.isfinite().all()]:
        raise _mismatch(weights, config, f"NaN or infinity in {first_of(broken)}")
    model.load_state_dict(taken)
    made = f", made for {weights.architecture}" if weights.architecture not in (None, config.model) else ""
    return [
        f"first weights: {weights.source}{made}",
        *resizings(weights.tensors, fitted),
        _classifier_line(weights, keep=keep),
    ]


def fit(
    weights: SourceWeights, config: ModelConfig, names: Collection[str], *, image_size: int, one_size: bool
) -> dict[str, Tensor]:
    """Have timm bring weights into the names and shapes of a model, whose classifier has as many classes as theirs.

    With as many classes, timm asks for every weight of the model, and for no other. `names`: of the run's weights, for
    the error. Raises as `put_first_weights`.
    """
    known = timm.get_pretrained_cfg(config.model)
    about = asdict(known) if known is not None else {}
    classes = classes_of(weights.tensors, about.get("classifier"))
    nowhere = dict.fromkeys(("url", "file", "hf_hub_id", "hf_hub_filename", "source"))
    given = {"state_dict": dict(weights.tensors), "num_classes": classes, "custom_load": False, "label_offset": 0}
    try:
        model = timm.create_model(
            config.model,
            pretrained=True,
            pretrained_cfg={**about, **nowhere, **given},
            num_classes=classes,
            **timm_arguments(config, image_size=image_size, one_size=one_size),
        )
    except REFUSALS as error:
        refused = misfit(error) or f"weights that timm cannot convert ({first_line(error)})"
        raise _mismatch(weights, config, refused, prefix=prefix_of(weights.tensors, names)) from error
    fitted: dict[str, Tensor] = model.state_dict()
    return fitted


def classes_of(tensors: Mapping[str, Tensor], classifier: str | Sequence[str] | None) -> int:
    """Number of classes of weights, by the name of their classifier; 0 for weights without one."""
    names = (classifier,) if isinstance(classifier, str) else classifier or ()
    found = (tensors[f"{name}.weight"] for name in names if f"{name}.weight" in tensors)
    return next((len(weight) for weight in found if weight.ndim), 0)


def resizings(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Lines that say which weights were resized."""
    lines = []
    for name, tensor in before.items():
        if name not in after or tensor.shape == after[name].shape:
            continue
        old, new = (" x ".join(map(str, shape)) for shape in (tensor.shape, after[name].shape))
        grids = [grid_of(each) for each in (tensor, after[name])]
        if name == POSITIONS and all(grids):
            lines.append(f"  position embeddings resized in two dimensions: {' to '.join(grids)} patches")
        else:
            lines.append(f"  {name} resized: {old} to {new}")
    return lines


def grid_of(positions: Tensor) -> str:
    """Square grid of patches of position embeddings [1, tokens, width]: "14 x 14"; empty for another form."""
    tokens = positions.shape[1] if positions.ndim == 3 else 0
    side = math.isqrt(tokens)
    # A few tokens, such as the class token, stand before the patches.
    return f"{side} x {side}" if side and tokens - side**2 <= MOST_PREFIXES else ""


def _classifier_line(weights: SourceWeights, *, keep: bool) -> str:
    if keep and weights.vocabulary is not None:
        return f"  classifier kept: {counted(len(weights.vocabulary), 'class', 'classes')} of the same vocabulary"
    return "  classifier new: the weights have no classifier for the classes of this vocabulary"


def _mismatch(weights: SourceWeights, config: ModelConfig, found: str, *, prefix: str = "") -> MismatchError:
    of = f"weights of {weights.architecture}" if weights.architecture else "weights that name no architecture"
    # Windows and patches have sizes; convolutional networks have none.
    sizes = "--patch-size, --embed-dim, --depth, --num-heads and " * is_sized(weights.architecture or config.model)
    remedy = f"with the {sizes}--global-pool that they were made with."
    named = weights.architecture not in (None, config.model)
    return MismatchError(
        f"--init {weights.source}",
        found=f"{of}: {found}",
        wanted=f"all weights of {config.model} as this run has it, by timm's names",
        remedy=without_prefix(prefix)
        if prefix
        else f"Give {f'--model {weights.architecture}' if named else 'the --model of these weights'}, {remedy}",
    )
