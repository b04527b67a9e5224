"""Pieces of tensors: the rows of a live tensor that this process holds, and the name of the file that takes them.

whole      [7, 8]          plain, or the same on every rank: rows 0 to 6, in model.safetensors
sharded    [7, 8] by 4     (FSDP2) rows 0-1, 2-3, 4-5 and 6, in model-00001-of-00004.safetensors and its siblings
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from vocab.errors import InputError

Tensors = Mapping[str, Mapping[str, Tensor]]
"""file ("model", "ema", "optimizer") -> name of a tensor -> live tensor"""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""types that a training run holds, by their safetensors names"""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Rows(NamedTuple):
    """Consecutive rows of a tensor; a scalar is one row."""

    first: int
    number: int


def dtype_name(name: str, tensor: Tensor) -> str:
    """Name of a tensor's type in safetensors. Raises InputError for a type that no training run holds."""
    if tensor.dtype not in _NAMES:
        raise InputError(
            name,
            found=f"a tensor of {tensor.dtype}",
            wanted=f"one of {', '.join(DTYPES)}",
            remedy="Keep this tensor in another type, or out of the checkpoint.",
        )
    return _NAMES[tensor.dtype]


def rows_in(shape: tuple[int, ...]) -> int:
    """Rows of a whole tensor."""
    return shape[0] if shape else 1


def is_sharded(tensor: Tensor) -> bool:
    """Tell if other processes hold other rows of a tensor."""
    return isinstance(tensor, DTensor) and any(not placement.is_replicate() for placement in tensor.placements)


def local_part(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds, in the memory of the live tensor; without gradient."""
    part = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return part.detach()


def held_rows(name: str, tensor: Tensor) -> Rows:
    """The rows of the whole tensor that `local_part` holds.

    FSDP2 cuts as torch.chunk does: ceil(rows / ranks) for each rank, fewer or none for the last ones. Raises InputError
    for a tensor that is cut in another way.
    """
    if not isinstance(tensor, DTensor) or not is_sharded(tensor):
        return Rows(0, rows_in(tuple(tensor.shape)))
    mesh, placements = tensor.device_mesh, tensor.placements
    rows, part = rows_in(tuple(tensor.shape)), local_part(tensor)
    each = -(-rows // mesh.size())
    first = min(each * mesh.get_local_rank(), rows) if mesh.ndim == 1 else 0
    count = min(each, rows - first)
    if mesh.ndim != 1 or not placements[0].is_shard(0) or tuple(part.shape) != (count, *tensor.shape[1:]):
        raise InputError(
            name,
            found=f"a tensor laid out as {placements} on {mesh}, of which {list(part.shape)} are here",
            wanted="one that fully_shard cut along its rows over all processes",
            remedy="Shard with one mesh dimension and on dimension 0.",
        )
    return Rows(first, count)


def file_name(file: str, *, rank: int, world: int) -> str:
    """Name of the safetensors file for a rank's rows; `world` 1 for tensors that are not sharded."""
    return f"{file}.safetensors" if world == 1 else f"{file}-{rank + 1:05d}-of-{world:05d}.safetensors"
