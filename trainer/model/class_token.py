"""The last block of a model that reads its class token, computed for that token alone.

Weights keep their names, and features stay the same. The last block's patches go nowhere: only their keys and values
are needed. This saves about a fifteenth of the work of twelve blocks, in training and in evaluation. Dense tasks read
the patches, so they have the whole block back.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel


def one_query_attention() -> AbstractContextManager[None]:
    """Keep torch from cuDNN's attention, which it prefers on a GPU, and whose backward fails for one query.

    See github.com/pytorch/pytorch, issue 138529.
    """
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


class ClassTokenBlock(nn.Module):
    """A timm block that computes only the first token; equals `block(tokens)[:, :1]`."""

    # Taken from the block by name; only timm knows their types.
    attn: Any
    norm1: Any
    norm2: Any
    mlp: Any
    ls1: Any
    ls2: Any
    drop_path1: Any
    drop_path2: Any

    def __init__(self, block: Block) -> None:
        super().__init__()
        # Under timm's names, which checkpoints and exports use.
        for name, child in block.named_children():
            self.add_module(name, child)

    def forward(self, tokens: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch 1 width"]:
        """The first token after the block."""
        first = tokens[:, :1]
        first = first + self.drop_path1(self.ls1(self._attend(self.norm1(tokens))))
        token: Tensor = first + self.drop_path2(self.ls2(self.mlp(self.norm2(first))))
        return token

    def whole(self) -> Block:
        """Make a plain block of the same modules, which computes all tokens."""
        attention = self.attn
        with torch.device("meta"):  # its own modules are replaced
            block = Block(attention.num_heads * attention.head_dim, attention.num_heads)
        for name, child in self.named_children():
            block.add_module(name, child)
        return block

    def _attend(self, tokens: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch 1 width"]:
        """Attention of the first token to all: timm's Attention with one query."""
        attention = self.attn
        heads, size = attention.num_heads, attention.head_dim
        weight, bias = attention.qkv.weight, attention.qkv.bias
        # Not len(tokens), which torch.export would take for a constant.
        width, batch = heads * size, tokens.shape[0]
        query = functional.linear(tokens[:, :1], weight[:width], None if bias is None else bias[:width])
        others = functional.linear(tokens, weight[width:], None if bias is None else bias[width:])
        keys, values = others.view(batch, -1, 2, heads, size).permute(2, 0, 3, 1, 4).unbind(0)
        with one_query_attention():
            taken = functional.scaled_dot_product_attention(
                attention.q_norm(query.view(batch, heads, 1, size)),
                attention.k_norm(keys),
                values,
                dropout_p=attention.attn_drop.p if self.training else 0.0,
            )
        mixed: Tensor = attention.proj_drop(attention.proj(attention.norm(taken.transpose(1, 2).flatten(2))))
        return mixed


def spare_last_block(model: nn.Module) -> bool:
    """Compute the last block for the class token alone if the classifier reads nothing else; tell whether it does.

    Average and attention pooling read every patch; blocks of other classes than timm's plain one stay as they are.
    """
    # Exactly these classes, because subclasses may compute something else; and no gated attention.
    if type(model) is not VisionTransformer:
        return False
    vit: Any = model
    plain = (
        vit.global_pool == "token"
        and vit.attn_pool is None
        and type(vit.blocks[-1]) is Block
        and type(vit.blocks[-1].attn) is Attention
        and getattr(vit.blocks[-1].attn, "gate", None) is None
    )
    if plain:
        vit.blocks[-1] = ClassTokenBlock(vit.blocks[-1])
    return bool(plain)


def whole_last_block(model: nn.Module) -> None:
    """Undo `spare_last_block`: compute the last block for the patches too."""
    blocks: Any = getattr(model, "blocks", None)
    if blocks is not None and len(blocks) and isinstance(blocks[-1], ClassTokenBlock):
        blocks[-1] = blocks[-1].whole()
