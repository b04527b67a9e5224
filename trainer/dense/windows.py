"""Attention within windows of a plain vision transformer, with a few blocks that see the whole image (ViTDet).

Global attention at 1024 pixels compares 4,096 patches with each other; in windows of 14 x 14 each sees 196. ViTDet (Li
et al., arXiv 2203.16527, section 3) leaves four blocks global, evenly spaced, the last of each quarter.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from timm.layers.attention import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from trainer.model.backbone import architecture_of
from vocab.errors import InputError

GLOBAL_BLOCKS = 4
"""blocks that see the whole image"""
WINDOW = 14
"""side of a window, patches"""


class WindowedAttention(Attention):
    """timm's attention within windows of the patches; the class token and registers take part in none.

    Windows at the right and lower edge are filled up with zeros, which are attended to, as in ViTDet.
    """

    def __init__(self, attention: Attention, *, grid: tuple[int, int], prefix: int, window: int) -> None:
        """Take over a whole attention with its parameters, which keep their names. `grid`: rows, columns of patches."""
        nn.Module.__init__(self)
        self.__dict__.update(attention.__dict__)
        self.grid, self.prefix, self.window = grid, prefix, window

    def forward(
        self, x: Float[Tensor, "batch tokens width"], attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Float[Tensor, "batch tokens width"]:
        """The update of each token; zero for those that are no patches."""
        assert attn_mask is None
        assert not is_causal
        windows = to_windows(x[:, self.prefix :], grid=self.grid, window=self.window)
        patches = from_windows(super().forward(windows), grid=self.grid, window=self.window)
        return functional.pad(patches, (0, 0, self.prefix, 0))


def to_windows(
    patches: Float[Tensor, "batch patches width"], *, grid: tuple[int, int], window: int
) -> Float[Tensor, "windows places width"]:
    """Cut the patches of images into square windows, row by row; zeros where a window leaves the image."""
    rows, columns = grid
    batch, _, width = patches.shape
    down, across = -(-rows // window), -(-columns // window)
    padding = (0, 0, 0, across * window - columns, 0, down * window - rows)
    whole = functional.pad(patches.reshape(batch, rows, columns, width), padding)
    cut = whole.reshape(batch, down, window, across, window, width).transpose(2, 3)
    return cut.reshape(batch * down * across, window * window, width)


def from_windows(
    windows: Float[Tensor, "windows places width"], *, grid: tuple[int, int], window: int
) -> Float[Tensor, "batch patches width"]:
    """Put windows together again; undoes `to_windows`."""
    rows, columns = grid
    down, across = -(-rows // window), -(-columns // window)
    width = windows.shape[2]
    cut = windows.reshape(-1, down, across, window, window, width).transpose(2, 3)
    whole = cut.reshape(-1, down * window, across * window, width)[:, :rows, :columns]
    return whole.reshape(-1, rows * columns, width)


def use_windows(model: nn.Module, *, window: int = WINDOW) -> None:
    """Have all blocks but GLOBAL_BLOCKS attend within windows. The last block must be whole by now.

    Raises InputError for anything but a plain vision transformer.
    """
    vit: Any = model
    if not isinstance(model, VisionTransformer) or any(type(block.attn) is not Attention for block in vit.blocks):
        raise InputError(
            "--attention",
            found=f"windows for {architecture_of(model)}",
            wanted="a plain vision transformer",
            remedy="Leave the option out: other architectures have attention of their own, or none.",
        )
    seeing = global_blocks(len(vit.blocks))
    for number, block in enumerate(vit.blocks):
        if number not in seeing:
            grid = vit.patch_embed.grid_size
            block.attn = WindowedAttention(block.attn, grid=grid, prefix=vit.num_prefix_tokens, window=window)


def global_blocks(depth: int) -> set[int]:
    """Numbers of the blocks that see the whole image: 2, 5, 8, 11 of 12."""
    parts = min(GLOBAL_BLOCKS, depth)
    return {depth * (part + 1) // parts - 1 for part in range(parts)}
