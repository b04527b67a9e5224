"""Memory of a process in a training step, in bytes: weights and what belongs to them, and activations.

Activations are measured, not estimated: the model runs on tensors that have shapes and no contents, and what autograd
saves is counted, each piece of memory once. Steps that are not compiled keep this; torch.compile saves less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call

from trainer.model.backbone import blocks_of, checkpoint_activations, features
from trainer.model.per_image import seeds_of, set_patch_share
from trainer.model.range_augment import DRAWS, RangeAugment, psnr_loss
from trainer.optim.optimiser import matrices_of
from vocab.errors import InputError

GIGA = 1e9
FLOAT32, BFLOAT16, BYTE = 4, 2, 1
RESERVED_BYTES = 2_000_000_000
"""about as much as CUDA's context, libraries' workspaces, exchange buffers and gaps of the allocator take"""
BATCHES_ON_DEVICE = 2
"""batches of bytes on the device: the one that is worked on, and the one that is being copied"""
STAGES = 4
"""parts that a model without a list of blocks is taken to have: most such models work in four stages"""
MUON_COPIES = 4
"""copies in bfloat16 of one matrix in Muon's iteration: itself, its square, a polynomial of that, the product"""


@dataclass(frozen=True)
class Activations:
    """Bytes that autograd saves of a forward pass."""

    image: int
    """bytes of each further image"""
    block: int
    """bytes of one image in one block"""
    shared: int
    """bytes that do not depend on the number of images: the weights as bfloat16 sees them"""


@dataclass(frozen=True)
class Memory:
    """Bytes of one process, by what they are for."""

    fixed: dict[str, int]
    """bytes that do not depend on the number of images"""
    image: dict[str, int]
    """bytes of each image that is computed at a time"""

    def total(self, images: int) -> int:
        """Sum up, with so many images computed at a time."""
        return sum(self.fixed.values()) + images * sum(self.image.values())

    def parts(self, images: int) -> dict[str, int]:
        """Bytes by what they are for, with so many images computed at a time."""
        return self.fixed | {name: images * size for name, size in self.image.items()}

    def table(self, images: int) -> list[str]:
        """Lines for people, with so many images computed at a time."""
        return [
            *(f"  {name:<26}{size / GIGA:>9.2f} GB" for name, size in self.fixed.items() if size),
            *(
                f"  {name:<26}{images * size / GIGA:>9.2f} GB   {size / 1e6:.2f} MB an image"
                for name, size in self.image.items()
            ),
            f"  {'all':<26}{self.total(images) / GIGA:>9.2f} GB",
        ]

    def most_images(self, limit: int) -> int:
        """Return how many images can be computed at a time in so many bytes; 0 where not even one can."""
        left = limit - sum(self.fixed.values())
        return max(0, left // max(1, sum(self.image.values())))


class _Features(nn.Module):
    """A model's features as a module, as functional_call wants it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, images: Float[Tensor, "batch 3 rows columns"], seeds: Int64[Tensor, " batch"]
    ) -> Float[Tensor, "batch width"]:
        seeds_of(self.model).set(seeds)
        return features(self.model, images)


def activations(
    model: nn.Module,
    *,
    size: int,
    share: float = 1.0,
    bfloat16: bool = True,
    checkpointing: bool = False,
    step: nn.Module | None = None,
) -> Activations:
    """Measure what autograd saves in training of a model on the meta device.

    With `checkpointing`, a block saves its input only; `block` is then what it saves when it is computed again.
    `step`: the module that holds the model, and computes a loss of images and their seeds (default: the features of
    images). Raises InputError for `checkpointing` of an architecture that cannot do so.
    """
    set_patch_share(model, share)
    model.train()
    depth = len(blocks_of(model)) or STAGES
    step = step or _Features(model)
    plain, shared = _slope(step, size=size, bfloat16=bfloat16)
    try:
        checkpoint_activations(model)
    except InputError:
        if checkpointing:
            raise
        inputs = 0
    else:
        inputs, _ = _slope(step, size=size, bfloat16=bfloat16)
        checkpoint_activations(model, enable=False)
    # Autocast keeps its copies of the weights to the end of the forward pass, whatever autograd saves.
    return Activations(inputs if checkpointing else plain, (plain - inputs) // depth, shared)


def _slope(step: nn.Module, *, size: int, bfloat16: bool) -> tuple[int, int]:
    """Bytes that autograd saves of each image, and of none."""
    # Neither size of batch is 1, because operations treat a single image differently.
    two, four = (saved_bytes(step, images, size=size, bfloat16=bfloat16) for images in (2, 4))
    return (four - two) // 2, 2 * two - four


def saved_bytes(step: nn.Module, images: int, *, size: int, bfloat16: bool) -> int:
    """Bytes that autograd saves of one forward pass, without the weights themselves; each storage counts once.

    `step`: a module that computes something of images and their seeds; its weights are made anew without contents.
    """
    with FakeTensorMode():
        # Fake tensors of the CPU rather than meta ones: autocast knows nothing of the meta device.
        weights: dict[str, Tensor] = {
            name: nn.Parameter(torch.empty(parameter.shape)) for name, parameter in step.named_parameters()
        }
        # Rotary position embeddings are buffers.
        buffers = {name: torch.empty(buffer.shape, dtype=buffer.dtype) for name, buffer in step.named_buffers()}
        return count_saved(
            lambda: functional_call(
                step, weights | buffers, (torch.empty(images, 3, size, size), torch.zeros(images, dtype=torch.int64))
            ),
            (weights | buffers).values(),
            bfloat16=bfloat16,
        )


def augment_bytes(images: int, *, size: int) -> int:
    """Bytes that autograd saves of RangeAugment and its loss, the plain images among them."""
    with FakeTensorMode():
        augment = RangeAugment()
        plain = torch.empty(images, 3, size, size)
        draws, seeds = torch.empty(images, DRAWS), torch.zeros(images, dtype=torch.int64)
        return count_saved(
            lambda: psnr_loss(plain, augment(plain, draws=draws, seeds=seeds), progress=0.5), augment.parameters()
        )


def count_saved(forward: Callable[[], Tensor], weights: Iterable[Tensor], *, bfloat16: bool = False) -> int:
    """Bytes of the storages that autograd saves while `forward` runs, those of `weights` aside."""
    own = {weight.untyped_storage()._cdata for weight in weights}
    # The storages themselves are kept, for a freed one's number may come again.
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        forward()
    return sum(storage.nbytes() for number, storage in saved.items() if number not in own)


def memory(
    model: nn.Module,
    classifier: nn.Linear,
    *,
    size: int,
    share: float,
    world: int,
    parallel: Literal["ddp", "fsdp"] = "ddp",
    optimiser: Literal["adamw", "muon"] = "adamw",
    checkpointing: bool = False,
    augmented: bool = True,
    head_chunk: int = 1024,
    bfloat16: bool = True,
    accumulate: int = 1,
) -> Memory:
    """Compute what one of `world` processes keeps in a step on images of `size` pixels with `share` of their patches.

    `model`, and its `classifier`: on the meta device. `augmented`: by RangeAugment. `head_chunk`: images whose logits
    exist at a time. Weights, gradients, moments and averages are float32. Under FSDP a process keeps its part of them,
    and in whole the weights and gradients of two blocks (the one at work and the one that is fetched meanwhile) and of
    what lies outside of the blocks; with `accumulate`, the parts of a step, above 1 the gradients of all blocks, which
    are exchanged with the last part.
    """
    head, sharded = classifier.weight, parallel == "fsdp"
    saved = activations(model, size=size, share=share, bfloat16=bfloat16, checkpointing=checkpointing)
    width = BFLOAT16 if bfloat16 else FLOAT32
    fixed = {
        **_states(model, parts=world if sharded else 1, muon=optimiser == "muon"),
        # Under DDP the gradients are views of DistributedDataParallel's buckets.
        "exchange": exchange_bytes(model, accumulate=accumulate) if world > 1 and sharded else 0,
        "weights in bfloat16": saved.shared + (BFLOAT16 * head.numel() if bfloat16 else 0),
        "logits": head_chunk * head.shape[0] * (FLOAT32 + width),
        "classifier's gradient": FLOAT32 * head.numel(),
        # AdamW is fused and needs none.
        "optimiser's work": MUON_COPIES * BFLOAT16 * max(matrix.numel() for matrix in _matrices(model))
        if optimiser == "muon"
        else 0,
        "reserved": RESERVED_BYTES,
    }
    pixels = 3 * size * size
    floats = augment_bytes(2, size=size) // 2 if augmented else FLOAT32 * pixels
    return Memory(
        fixed,
        {
            "activations": saved.image,
            # The backward pass makes about as much of a block as the block saved; first, what was not saved.
            "a block's backward pass": saved.block * (2 if checkpointing else 1),
            "images": BATCHES_ON_DEVICE * BYTE * pixels + floats,
        },
    )


def _states(model: nn.Module, *, parts: int, muon: bool) -> dict[str, int]:
    """Bytes of one of so many parts of the weights and of all that is as large as they are."""
    weights = FLOAT32 * sum(parameter.numel() for parameter in model.parameters())
    return {
        "weights": weights // parts,
        "gradients": weights // parts,
        "optimiser": FLOAT32 * _moments(model, muon=muon) // parts,
        "average": weights // parts,
    }


def _moments(model: nn.Module, *, muon: bool) -> int:
    """Count the optimiser's numbers: two for each weight (AdamW), one for those of the blocks' matrices (Muon)."""
    weights = sum(parameter.numel() for parameter in model.parameters())
    return 2 * weights - (sum(matrix.numel() for matrix in _matrices(model)) if muon else 0)


def _matrices(model: nn.Module) -> list[Tensor]:
    wanted = matrices_of(model)
    return [parameter for name, parameter in model.named_parameters() if name in wanted]


def exchange_bytes(model: nn.Module, *, accumulate: int) -> int:
    """Bytes of whole weights and gradients that exist under FSDP for their exchange alone; see `memory`."""
    weights = sum(parameter.numel() for parameter in model.parameters())
    blocks = [sum(p.numel() for p in block.parameters()) for block in blocks_of(model)]
    gathered = 2 * max(blocks, default=0) + weights - sum(blocks)
    return FLOAT32 * (gathered + (gathered if accumulate == 1 else weights))
