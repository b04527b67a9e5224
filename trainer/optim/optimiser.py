"""The optimiser: parameter groups, learning rates, clipping, and AdamW, or Muon for the blocks' matrices beside AdamW.

The groups cover every trainable parameter of the model and of learnt augmentation. The optimiser's state is there from
the start, as named tensors that stay the same tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

import torch
from jaxtyping import Float, Float32
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from trainer.config import OptimConfig
from trainer.model.backbone import classifier_name, layers_of
from trainer.model.range_augment import RangeAugment
from vocab.errors import InputError

# Tokens, positions and the query of attention pooling are not weights of a layer: decay would not regularise them.
NOT_DECAYED = ("pos_embed", "cls_token", "reg_token", "dist_token", "latent", "relative_position_bias_table")
# Modules before the first block, by the first part of timm's names.
EMBEDDING = ("patch_embed", "pos_embed", "cls_token", "reg_token", "dist_token", "norm_pre")
BLOCKS = "blocks."
STEPS_DOWN = (8 / 9, 26 / 27)
"""shares of the steps after which the step schedule lowers the learning rate"""


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with the same hyperparameters."""

    weight_decay: float
    lr_scale: float
    """factor on the learning rate"""
    muon: bool = False
    """optimised by Muon rather than AdamW"""
    sharded: bool = False
    """DTensors; torch's fused kernels take no list that mixes them with plain tensors"""
    parameters: dict[str, nn.Parameter] = field(default_factory=dict, compare=False)
    """by the model's names; augmentation's begin with "augment." """


def groups_of(
    model: nn.Module,
    config: OptimConfig,
    *,
    augment: RangeAugment | None = None,
    scales: Mapping[str, float] | None = None,
) -> list[ParameterGroup]:
    """Group all parameters that take a gradient; augmentation is the last group.

    `scales`: factor on the learning rate of each parameter by its name (default: those of `lr_scales`).

    Raises InputError for a layer decay with a model without layers, and for Muon with one without matrices in them.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    scales = lr_scales(model, layer_decay=config.layer_decay) if scales is None else scales
    matrices = matrices_of(model) & named.keys()
    if config.layer_decay != 1.0 and len(set(scales.values())) < 2:
        raise _lacking("--layer-decay", f"{config.layer_decay}", model, "layers that timm tells apart")
    if config.optimiser == "muon" and not matrices:
        raise _lacking("--optimiser", "muon", model, "matrices in its layers")
    spared = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()  # type: ignore[operator]
    groups: dict[ParameterGroup, ParameterGroup] = {}
    for name, parameter in named.items():
        decayed = is_decayed(name, parameter) and not any(fnmatch(name, pattern) for pattern in spared)
        kind = ParameterGroup(
            weight_decay=config.weight_decay if decayed else 0.0,
            lr_scale=scales[name],
            muon=config.optimiser == "muon" and decayed and name in matrices,
            sharded=isinstance(parameter, DTensor),
        )
        groups.setdefault(kind, kind).parameters[name] = parameter
    learnt = [] if augment is None else [_ranges(augment)]
    return [*groups.values(), *learnt]


def matrices_of(model: nn.Module) -> set[str]:
    """Names of the matrices that Muon optimises: those of a transformer's blocks, or of the layers of `layers_of`.

    Neither the first of these layers, which reads the image, nor the classifier is among them.
    """
    matrices = {name for name, parameter in model.named_parameters() if parameter.ndim == 2}
    if not _has_timm_layers(model):
        return {name for name in matrices if name.startswith(BLOCKS)}
    layers, head = layers_of(model), classifier_name(model)
    return {name for name in matrices if layers[name] > 0 and not name.startswith(f"{head}.")}


def lr_scales(model: nn.Module, *, layer_decay: float) -> dict[str, float]:
    """`lr_scale` of each parameter; where a model is no plain transformer, timm says which layer is above which."""
    if not _has_timm_layers(model):
        depth = len({name.split(".")[1] for name, _ in model.named_parameters() if name.startswith(BLOCKS)})
        return {name: lr_scale(name, depth=depth, layer_decay=layer_decay) for name, _ in model.named_parameters()}
    layers = layers_of(model)
    last = max(layers.values())
    return {name: float(layer_decay ** (last - layer)) for name, layer in layers.items()}


def _has_timm_layers(model: nn.Module) -> bool:
    return not isinstance(model, VisionTransformer) and bool(layers_of(model))


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """True for parameters with weight decay: matrices and kernels, not norms, biases, scales and tokens."""
    return parameter.ndim > 1 and name.rpartition(".")[2] not in NOT_DECAYED


def lr_scale(name: str, *, depth: int, layer_decay: float) -> float:
    """`layer_decay` to the power of the layers above a parameter, in a model of `depth` blocks.

    BEiT's convention (Bao et al., arXiv 2106.08254), which MAE took over: 1 for the head and the norm before it,
    layer_decay for the last block, layer_decay ** depth for the first, layer_decay ** (depth + 1) for patch embedding,
    positions and tokens.
    """
    parts = name.split(".")
    if parts[0] in EMBEDDING:
        return float(layer_decay ** (depth + 1))
    if name.startswith(BLOCKS):
        return float(layer_decay ** (depth - int(parts[1])))
    return 1.0


def _ranges(augment: RangeAugment) -> ParameterGroup:
    return ParameterGroup(
        weight_decay=augment.WEIGHT_DECAY,
        lr_scale=augment.LR_MULTIPLIER,
        parameters={f"augment.{name}": parameter for name, parameter in augment.named_parameters()},
    )


def _lacking(option: str, found: str, model: nn.Module, lacks: str) -> InputError:
    return InputError(
        option,
        found=f"{found} for a {type(model).__name__} without {lacks}",
        wanted=f"a model with {lacks}, such as a transformer of timm",
        remedy="Choose another --model, or leave the option out.",
    )


def optimiser_of(
    model: nn.Module,
    config: OptimConfig,
    *,
    augment: RangeAugment | None = None,
    scales: Mapping[str, float] | None = None,
) -> Optimiser:
    """Make the optimiser of a model that is already on its device, and already sharded if it will be.

    `augment`: augmentation that is learnt with the model. `scales` and errors: see `groups_of`.
    """
    return Optimiser(groups_of(model, config, augment=augment, scales=scales), config)


class Optimiser:
    """Torch's optimisers as one; never syncs with the device.

    AdamW is torch's fused one. Muon (Jordan et al., https://kellerjordan.github.io/posts/muon/) is torch's, with the
    size of its updates matched to AdamW's, so that one learning rate and one weight decay serve both (Liu et al., "Muon
    is Scalable for LLM Training", arXiv 2502.16982, section 2.2). It takes query, key and value as the one matrix that
    timm makes of them.
    """

    def __init__(self, groups: Sequence[ParameterGroup], config: OptimConfig) -> None:
        self.groups = groups
        betas = (config.beta1, config.beta2)
        self._adamw = torch.optim.AdamW(_for_torch(groups, muon=False), lr=config.start_lr, betas=betas, fused=True)
        for parameter in _parameters(self._adamw):
            # torch makes this state in the first step, too late to restore a checkpoint into it.
            self._adamw.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }
        self._parts: list[torch.optim.Optimizer] = [self._adamw]
        if matrices := _for_torch(groups, muon=True):
            muon = torch.optim.Muon(
                matrices, lr=config.start_lr, momentum=config.muon_momentum, adjust_lr_fn="match_rms_adamw"
            )
            for parameter in _parameters(muon):
                momentum = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                muon.state[parameter] = {"momentum_buffer": momentum}
            self._parts.append(muon)
        self.set_learning_rate(config.start_lr)

    def step(self, *, skip: Float32[Tensor, ""] | None = None) -> None:
        """Update the weights by their gradients, or change nothing if `skip` is 1.

        `skip`: 1.0 or 0.0 on the device, so that the host need not know it. With 1.0, weights, moments and step counts
        stay as they are, even if gradients are NaN. Not with Muon, which cannot leave a step out.
        """
        assert skip is None or self._parts == [self._adamw], "Muon cannot skip"
        # The fused kernel skips where `found_inf` is 1; GradScaler uses this for gradients that overflowed.
        self._adamw.found_inf, self._adamw.grad_scale = skip, None  # type: ignore[attr-defined]
        for part in self._parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def set_learning_rate(self, rate: float) -> None:
        """Use `rate`, times each group's own scale, from the next step on."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate * group["lr_scale"]

    def state(self) -> dict[str, Tensor]:
        """The live tensors of the state, such as "blocks.0.mlp.fc1.weight/exp_avg"; a checkpoint is copied into them.

        AdamW has step, exp_avg and exp_avg_sq for each parameter, Muon momentum_buffer. Moments of a DTensor are
        DTensors, laid out like it.
        """
        return {
            f"{name}/{kind}": tensor
            for group in self.groups
            for name, parameter in group.parameters.items()
            for part in self._parts
            for kind, tensor in part.state.get(parameter, {}).items()
        }


def _for_torch(groups: Sequence[ParameterGroup], *, muon: bool) -> list[dict[str, Any]]:
    return [
        {
            "params": list(group.parameters.values()),
            "weight_decay": group.weight_decay,
            "lr_scale": group.lr_scale,
        }
        for group in groups
        if group.muon == muon
    ]


def _parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


@torch.no_grad()
def clip(model: nn.Module, max_norm: float) -> Float[Tensor, ""]:
    """Scale the gradients so that their total norm is at most `max_norm`; returns the norm before.

    Equals `torch.nn.utils.clip_grad_norm_`. The gradients are all DTensors or all plain; the norm is that of the whole
    gradients, as a plain tensor. RangeAugment's ranges, if the model holds them, are neither counted nor scaled: their
    loss is of another size. Never syncs with the host: a NaN gradient yields a NaN norm.
    """
    ranges = {id(own) for part in model.modules() if isinstance(part, RangeAugment) for own in part.parameters()}
    parameters = [p for p in model.parameters() if p.grad is not None and id(p) not in ranges]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm


def learning_rate(step: int, config: OptimConfig) -> float:
    """The rate of step `step`, counted from 1: linear from start to peak, then by `config.schedule` to the final rate.

    Step 0 has the starting rate; steps after the last one have the final rate.

    cosine: half a cosine from the end of warm-up to the last step (Loshchilov and Hutter, arXiv 1608.03983).
    wsd: the peak, then 1 - sqrt(share) of the way in the last `decay_share` of the steps, the shape that Hägele et al.,
    arXiv 2405.18392, prefer to a line. For language models they report that a decay over 10 to 20 % of the steps
    equals or beats a cosine; not tried here on images. A decay that would begin within warm-up begins at its end.
    step: the peak, then two steps down by one factor, as detectors are trained (detectron2's ViTDet configurations).
    """
    step = min(step, config.steps)
    if step <= config.warmup_steps:
        return config.start_lr + (config.peak_lr - config.start_lr) * _share(step, 0, config.warmup_steps)
    match config.schedule:
        case "cosine":
            height = (1 + math.cos(math.pi * _share(step, config.warmup_steps, config.steps))) / 2
        case "wsd":
            start = max(config.warmup_steps, decay_start(config))
            height = 1 - math.sqrt(_share(step, start, config.steps))
        case "step":
            passed = sum(step > round(share * config.steps) for share in STEPS_DOWN)
            return float(config.peak_lr * (config.final_lr / config.peak_lr) ** (passed / len(STEPS_DOWN)))
    return config.final_lr + (config.peak_lr - config.final_lr) * height


def decay_start(config: OptimConfig) -> int:
    """The last step at the peak under wsd, from which runs of other lengths can branch off."""
    return config.steps - round(config.decay_share * config.steps)


def _share(step: int, start: int, end: int) -> float:
    """Share of the way from `start` to `end` that is done, 0 to 1; 0 if the way has no length."""
    return max(0.0, (step - start) / (end - start)) if end > start else 0.0
