"""Snapshots: live tensors at one moment, copied to host memory as the bytes that files will hold.

The buffers are used again from snapshot to snapshot: one copy of the rows that this rank writes, and no more.
"""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from trainer.checkpoints.pieces import Rows, Tensors, dtype_name, file_name, held_rows, is_sharded, local_part
from trainer.checkpoints.safetensors_files import ByteRange, header_of
from trainer.data.ring import page_lock
from vocab.errors import InputError
from vocab.store.files import HASH_BLOCK


@dataclass(frozen=True)
class HostFile:
    """A safetensors file in memory."""

    file: str
    """map of tensors that the file holds, or holds a part of"""
    name: str
    header: bytes
    body: Tensor
    """uint8 [bytes], in a buffer that the next snapshot overwrites"""
    rows: dict[str, Rows]
    """the rows of each of its tensors"""

    def blocks(self) -> Iterator[bytes | memoryview]:
        """Blocks of the file in order, without a copy."""
        yield self.header
        body = self.body.numpy().data
        for start in range(0, len(body), HASH_BLOCK):
            yield body[start : start + HASH_BLOCK]


@dataclass(frozen=True)
class Snapshot:
    """The files that a rank writes."""

    files: list[HostFile]
    copied: list[torch.cuda.Event]
    """events after which the bytes are complete"""

    def wait(self) -> None:
        """Wait until the devices have copied."""
        for event in self.copied:
            event.synchronize()


class HostCopies:
    """Buffers in host memory, reused from snapshot to snapshot; pinned for tensors of a GPU."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank = rank
        self.world = world
        self._buffers: dict[str, Tensor] = {}

    @torch.no_grad()
    def take(self, tensors: Tensors) -> Snapshot:
        """Copy what this rank writes: its rows of sharded maps and, on the main rank, all other maps.

        Copies from a GPU are queued on its current stream and not waited for: later work on that stream comes after
        them. Earlier snapshots become invalid. Raises InputError for tensors that cannot be saved.
        """
        files, devices = [], set()
        for file, live in tensors.items():
            split = split_over(file, live.values(), world=self.world)
            if split == 1 and self.rank > 0:
                continue
            held = {name: (tensor, held_rows(f"{file}/{name}", tensor)) for name, tensor in live.items()}
            mine = {
                name: (local_part(tensor), rows)
                for name, (tensor, rows) in held.items()
                if (rows.number > 0 if is_sharded(tensor) else self.rank == 0)
            }
            files.append(self._copy(file, file_name(file, rank=self.rank, world=split), mine))
            devices |= {part.device for part, _ in mine.values() if part.device.type == "cuda"}
        return Snapshot(files, [torch.cuda.current_stream(device).record_event() for device in devices])

    def _copy(self, file: str, name: str, parts: dict[str, tuple[Tensor, Rows]]) -> HostFile:
        # Wide types first, so that each starts at a multiple of its width.
        order = sorted(parts, key=lambda tensor: (-parts[tensor][0].element_size(), tensor))
        end, ranges = 0, {}
        for tensor in order:
            part = parts[tensor][0]
            start, end = end, end + part.numel() * part.element_size()
            ranges[tensor] = ByteRange(dtype_name(f"{file}/{tensor}", part), part.shape, start, end)
        body = self._buffer(file, end, pinned=any(part.is_cuda for part, _ in parts.values()))
        for tensor, (part, _) in parts.items():
            own = body[ranges[tensor].start : ranges[tensor].end]
            own.view(part.dtype).view(part.shape).copy_(part, non_blocking=part.is_cuda)
        rows = {tensor: rows for tensor, (_, rows) in parts.items()}
        return HostFile(file, name, header_of(ranges, {"format": "pt"}), body, rows)

    def _buffer(self, file: str, size: int, *, pinned: bool) -> Tensor:
        kept = self._buffers.get(file)
        if kept is None or len(kept) < size:
            self._buffers.pop(file, None)
            del kept  # before the larger one is made
            kept = self._buffers[file] = pinned_bytes(size) if pinned else torch.empty(size, dtype=torch.uint8)
        return kept[:size]


def split_over(file: str, live: Iterable[Tensor], *, world: int) -> int:
    """Number of files for a map of tensors: one, or one for each rank if any of the tensors is sharded.

    Raises InputError if a tensor is sharded over fewer processes than the run has.
    """
    sizes = {tensor.device_mesh.size() for tensor in live if isinstance(tensor, DTensor) and is_sharded(tensor)}
    if sizes - {world}:
        raise InputError(
            file,
            found=f"tensors sharded over {sorted(sizes)} processes",
            wanted=f"all {world} of the run",
            remedy="Shard over one mesh of all processes.",
        )
    return world if sizes else 1


def pinned_bytes(size: int) -> Tensor:
    """uint8 [size] in page-locked memory, which a GPU copies to while the host goes on.

    The memory is whole pages that nothing else lies on: CUDA refuses to lock a page twice. torch's own pinned allocator
    rounds up to a power of two, which can double the host memory of a large model. Raises MissingRequirementError if
    the driver refuses to lock so much.
    """
    if size == 0:
        return torch.empty(0, dtype=torch.uint8)
    pages = mmap.mmap(-1, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
    memory = torch.frombuffer(pages, dtype=torch.uint8, count=size)
    unlock = page_lock(
        memory.data_ptr(),
        len(pages),
        purpose="checkpoints",
        remedy="Raise the limit of locked memory (ulimit -l) or the memory of this container.",
    )
    weakref.finalize(memory, unlock)
    return memory
