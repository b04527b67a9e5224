"""Randomness inside a model, decided by each image's own seed: which patches it sees, which blocks it skips.

An image model of timm gets these modules in place of timm's; its weights keep their names. Before each forward pass
in training it is given the seeds of its images (`Batch.seeds`), so that ranks, parts of a batch and resumed runs change
nothing for an image.

    seeds = install(model, patch_keep=0.5)
    seeds.set(batch.seeds)
    model(images)
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from timm.layers.drop import DropPath as TimmDropPath
from timm.layers.patch_dropout import PatchDropout as TimmPatchDropout
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from trainer.config import ModelConfig
from trainer.model.hashes import PATCH_STREAM, PATH_STREAM, keys, words
from vocab.errors import InputError

_NUMBERS = 2**32


class ImageSeeds:
    """The seeds of a model's current images; one object that all its modules read.

    Set them before each forward pass in training mode, inside a compiled module or outside. Activation checkpointing
    reads them again in the backward pass: go backward before setting the next ones.
    """

    def __init__(self, branches: int) -> None:
        self.branches = branches
        """number of residual branches that stochastic depth may drop"""
        self.seeds: Int64[Tensor, " batch"] | None = None
        self.coins: Int64[Tensor, "batch branches"] | None = None
        """a number from 0 to 2^32 - 1 for each image and branch"""

    def set(self, seeds: Int64[Tensor, " batch"]) -> None:
        """Take the seeds of the images of the next forward pass, on their device."""
        self.seeds = seeds
        if self.branches:
            # All branches at once: a few small kernels for each would slow a step that is not compiled.
            positions = torch.arange(self.branches, device=seeds.device)
            self.coins = words(keys(seeds, PATH_STREAM)[:, None], positions)


class PatchDropout(nn.Module):
    """In training, keep a share of an image's patches, chosen by the image's seed (FLIP, arXiv 2212.00794).

    Takes the place of timm's, which draws from the process's random state. `share` may be changed between steps; each
    value is a graph of its own to torch.compile. Patches keep their order, and the prefix (class token, registers)
    stays.
    """

    def __init__(self, image_seeds: ImageSeeds, *, share: float, prefix: int) -> None:
        super().__init__()
        self.image_seeds, self.share, self.prefix = image_seeds, share, prefix

    def forward(self, tokens: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch kept width"]:
        """Return the prefix and `kept_patches` of the patches; all tokens in evaluation or with a share of 1."""
        if not self.training or self.share >= 1:
            return tokens
        patches = tokens.shape[1] - self.prefix
        chosen = choose_patches(_given(self.image_seeds.seeds), patches, kept_patches(patches, self.share))
        kept = tokens[:, self.prefix :].gather(1, chosen[:, :, None].expand(-1, -1, tokens.shape[2]))
        return torch.cat([tokens[:, : self.prefix], kept], dim=1) if self.prefix else kept


class DropPath(nn.Module):
    """Stochastic depth: in training, a residual branch is left out for some images, and scaled up for the others.

    As in timm, it is left out with probability `rate`, else divided by 1 - rate; but each image's own coin decides.
    What differs between blocks is in tensors: torch.compile would make a graph of its own for each number.
    """

    branch: Int64[Tensor, " 1"]
    least: Int64[Tensor, ""]
    """least coin of an image that has the branch"""
    divisor: Float[Tensor, ""]

    def __init__(self, image_seeds: ImageSeeds, *, branch: int, rate: float, scale: bool) -> None:
        super().__init__()
        self.image_seeds, self.rate, self.drops = image_seeds, rate, rate > 0
        self.register_buffer("branch", torch.tensor([branch]), persistent=False)
        self.register_buffer("least", torch.tensor(round(rate * _NUMBERS)), persistent=False)
        self.register_buffer("divisor", torch.tensor(1 - rate if scale and rate < 1 else 1.0), persistent=False)

    def forward(self, branch: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The branch to add to the residual stream."""
        if not self.training or not self.drops:
            return branch
        kept = _given(self.image_seeds.coins).index_select(1, self.branch) >= self.least
        factor = (kept / self.divisor).to(branch.dtype)
        return branch * factor.view(-1, *(1,) * (branch.ndim - 1))


def install(model: nn.Module, *, patch_keep: float = 1.0) -> ImageSeeds:
    """Replace timm's modules by these, and return the object that takes the seeds; `seeds_of` returns it again.

    Raises InputError for a `patch_keep` below 1 if the model's patches cannot be dropped.
    """
    branches = [name for name, module in model.named_modules() if isinstance(module, TimmDropPath)]
    image_seeds = ImageSeeds(len(branches))
    for number, name in enumerate(branches):
        path = model.get_submodule(name)
        assert isinstance(path, TimmDropPath)
        model.set_submodule(
            name, DropPath(image_seeds, branch=number, rate=path.drop_prob, scale=path.scale_by_keep), strict=True
        )
    if isinstance(model, VisionTransformer) and isinstance(model.patch_drop, nn.Identity | TimmPatchDropout):
        dropout = PatchDropout(image_seeds, share=patch_keep, prefix=model.num_prefix_tokens)
        model.set_submodule("patch_drop", dropout, strict=True)
    elif patch_keep < 1:
        raise InputError(
            "--patch-keep",
            found=f"{patch_keep:g} for {type(model).__name__}",
            wanted="a plain vision transformer, whose patches can be dropped",
            remedy="Leave it out, or choose a --model such as vit_base_patch16_224.",
        )
    model.__dict__["image_seeds"] = image_seeds
    return image_seeds


def set_drop_path(model: nn.Module, rate: float) -> None:
    """Set stochastic depth in a model built without: 0 in the first block, `rate` in the last, linear between.

    The model is then as if built with that rate and `install`ed. Raises InputError for blocks that cannot have it.
    """
    blocks = list(getattr(model, "blocks", ()))
    branches = [
        (f"blocks.{number}.{name}", rate * number / (len(blocks) - 1))
        for number, block in enumerate(blocks)
        for name in ("drop_path1", "drop_path2")
        if number > 0 and isinstance(getattr(block, name, None), nn.Identity | TimmDropPath | DropPath)
    ]
    if len(branches) != 2 * (len(blocks) - 1) or (rate > 0 and not branches):
        raise InputError(
            "--drop-path",
            found=f"{rate:g} for {type(model).__name__} with {len(blocks)} blocks, {len(branches)} droppable branches",
            wanted="a plain vision transformer of two blocks or more",
            remedy="Leave it out.",
        )
    image_seeds = seeds_of(model)
    image_seeds.branches = len(branches)
    for number, (name, own) in enumerate(branches):
        model.set_submodule(name, DropPath(image_seeds, branch=number, rate=own, scale=True), strict=True)


def seeds_of(model: nn.Module) -> ImageSeeds:
    """The seeds that `install` made for this model, or for the model that it is a copy of."""
    image_seeds = model.image_seeds
    assert isinstance(image_seeds, ImageSeeds)
    return image_seeds


def set_patch_share(model: nn.Module, share: float) -> None:
    """Set the share of patches that training sees; a model whose patches cannot be dropped sees all."""
    dropout = getattr(model, "patch_drop", None)
    if isinstance(dropout, PatchDropout):
        dropout.share = share


def patch_share(step: int, config: ModelConfig, *, steps: int) -> float:
    """Share of the patches that a step, counted from 0, sees: `patch_keep`, and 1 in the last part of training."""
    return 1.0 if step >= steps - round(config.full_patches_share * steps) else config.patch_keep


def kept_patches(patches: int, share: float) -> int:
    """Number of patches that are seen: the nearest whole number, at least one."""
    return max(1, round(share * patches))


@torch.no_grad()
def choose_patches(seeds: Int64[Tensor, " batch"], patches: int, kept: int) -> Int64[Tensor, "batch kept"]:
    """Choose the patches that each image keeps, ascending: those with the smallest words, which are all different.

    Every set of `kept` patches is equally likely.
    """
    positions = torch.arange(patches, device=seeds.device)
    drawn = words(keys(seeds, PATCH_STREAM)[:, None], positions)
    smallest = drawn.topk(kept, dim=1, largest=False, sorted=False).indices
    return smallest.sort(dim=1).values


def _given(numbers: Tensor | None) -> Tensor:
    # A fault of the calling code, not of an input.
    if numbers is None:
        raise RuntimeError("the model trains without its images' seeds: call seeds_of(model).set(seeds) before it")
    return numbers
