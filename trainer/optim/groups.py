"""Parameter groups: what weight decay touches, how fast each layer learns, which matrices are Muon's.

In: a model, learnt augmentation if there is any, an `OptimConfig`. Out: groups that cover every trainable parameter.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn
from torch.distributed.tensor import DTensor

from trainer.config import OptimConfig
from trainer.model.range_augment import RangeAugment
from vocab.errors import InputError

# Tokens, positions and the query of attention pooling are no weights of a layer: pulling them to zero regularises
# nothing.
NOT_DECAYED = ("pos_embed", "cls_token", "reg_token", "dist_token", "latent", "relative_position_bias_table")
# What comes before the first block, by the first part of timm's names.
EMBEDDING = ("patch_embed", "pos_embed", "cls_token", "reg_token", "dist_token", "norm_pre")
BLOCKS = "blocks."


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are optimised alike."""

    weight_decay: float
    lr_scale: float
    """what the learning rate is multiplied by"""
    muon: bool = False
    """Muon's, rather than AdamW's"""
    sharded: bool = False
    """DTensors: torch's fused kernels take no list in which some are and some are not"""
    parameters: dict[str, nn.Parameter] = field(default_factory=dict, compare=False)
    """by the model's names; augmentation's begin with "augment." """


def groups_of(model: nn.Module, config: OptimConfig, *, augment: RangeAugment | None = None) -> list[ParameterGroup]:
    """The groups of all parameters that take a gradient; augmentation is the last one.

    Raises InputError for a layer decay, or Muon, and a model without blocks.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    depth = len({name.split(".")[1] for name, _ in model.named_parameters() if name.startswith(BLOCKS)})
    matrices = {name for name, parameter in named.items() if name.startswith(BLOCKS) and parameter.ndim == 2}
    if config.layer_decay != 1.0 and depth == 0:
        raise _no_blocks("--layer-decay", f"{config.layer_decay}", model)
    if config.optimiser == "muon" and not matrices:
        raise _no_blocks("--optimiser", "muon", model)
    groups: dict[ParameterGroup, ParameterGroup] = {}
    for name, parameter in named.items():
        decayed = is_decayed(name, parameter)
        kind = ParameterGroup(
            weight_decay=config.weight_decay if decayed else 0.0,
            lr_scale=lr_scale(name, depth=depth, layer_decay=config.layer_decay),
            muon=config.optimiser == "muon" and decayed and name in matrices,
            sharded=isinstance(parameter, DTensor),
        )
        groups.setdefault(kind, kind).parameters[name] = parameter
    learnt = [] if augment is None else [_ranges(augment)]
    return [*groups.values(), *learnt]


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay pulls a parameter to zero: matrices and kernels, not norms, biases, scales and tokens."""
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


def _no_blocks(option: str, found: str, model: nn.Module) -> InputError:
    return InputError(
        option,
        found=f"{found} for a {type(model).__name__} without trainable blocks",
        wanted="a vision transformer of timm, whose blocks.0, blocks.1, ... are the layers",
        remedy="Choose another --model, or leave the option out.",
    )
