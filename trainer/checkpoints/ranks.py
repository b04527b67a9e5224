"""Files that the ranks of a run leave one another in the folder of a checkpoint that is being written.

No collective call is made, which would meet those of training. Every rank writes its tensors into one folder, then a
manifest of what it wrote; the main rank waits for the manifests of all ranks, the others for the folder's own name.

    .step-00001000.4f1d.tmp/rank-00001.json    {"files": {"model-00002-of-00004.safetensors": {"size": 96, ...}},
                                                "pieces": {"model": {"head.weight": ["model-00002-of-...", 2, 2]}},
                                                "own_sha256": "..."}
    .step-00001000.4f1d.tmp/rank-00002.failed  where a rank could not write its files
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoints.disk import Written, write_file
from trainer.checkpoints.manifest import TensorPiece
from vocab.errors import FormatError
from vocab.store.sealing import from_sealed_json, to_sealed_json

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class RankManifest:
    """Files that one rank wrote."""

    files: dict[str, Written]
    pieces: dict[str, dict[str, TensorPiece]]
    """map of tensors ("model") -> name of a tensor -> its rows"""


def write_rank_manifest(work: Path, rank: int, manifest: RankManifest) -> None:
    """Write the manifest of this rank, once its files are on the disk."""
    body = {"files": {name: written._asdict() for name, written in manifest.files.items()}, "pieces": manifest.pieces}
    hidden = work / f".{_manifest_name(rank)}"
    write_file(hidden, [to_sealed_json(body).encode()])
    hidden.rename(work / _manifest_name(rank))


def leave_failure(work: Path, rank: int) -> None:
    """Tell the main rank not to wait for the files of this rank."""
    with contextlib.suppress(
        OSError
    ):  # a failed disk may take no new name either; then the wait of the main rank runs out
        (work / _failure_name(rank)).touch()


def collect_rank_manifests(work: Path, world: int, *, given_up: Callable[[], bool]) -> list[RankManifest]:
    """Take the manifests of all ranks but the main one out of the folder, in the order of the ranks.

    Raises FormatError with the numbers of the ranks that failed, or that wrote no manifest until `given_up`.
    """
    manifests: dict[int, RankManifest] = {}
    while len(manifests) < world - 1:
        silent = [rank for rank in range(1, world) if rank not in manifests]
        failed = [rank for rank in silent if (work / _failure_name(rank)).exists()]
        if failed:
            raise _incomplete(work, f"files that {_ranks(failed)} could not write")
        ready = [rank for rank in silent if (work / _manifest_name(rank)).exists()]
        if not ready and given_up():
            raise _incomplete(work, f"no manifest from {_ranks(silent)}")
        for rank in ready:
            manifests[rank] = _take(work, rank)
        if not ready:
            time.sleep(POLL_SECONDS)
    return [manifests[rank] for rank in sorted(manifests)]


def await_commit(work: Path, folder: Path, *, given_up: Callable[[], bool]) -> None:
    """Wait until the main rank has given the folder its name; for the other ranks.

    Raises FormatError if the main rank removed the folder instead, or did neither until `given_up`.
    """
    while work.exists():
        if given_up():
            raise _incomplete(folder, "no answer from the main rank")
        time.sleep(POLL_SECONDS)
    if not folder.exists():
        raise _incomplete(folder, "a checkpoint that the main rank gave up")


def _take(work: Path, rank: int) -> RankManifest:
    path = work / _manifest_name(rank)
    try:
        body = from_sealed_json(path, path.read_bytes())
        files = {name: Written(**entry) for name, entry in body["files"].items()}
        pieces = {
            file: {name: TensorPiece(*piece) for name, piece in tensors.items()}
            for file, tensors in body["pieces"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _incomplete(path, f"no readable manifest ({error})") from error
    path.unlink()
    for name, written in files.items():
        if (size := (work / name).stat().st_size) != written.size:
            raise _incomplete(work / name, f"{size:,} bytes of {written.size:,} that rank {rank} wrote")
    return RankManifest(files, pieces)


def _manifest_name(rank: int) -> str:
    return f"rank-{rank:05d}.json"


def _failure_name(rank: int) -> str:
    return f"rank-{rank:05d}.failed"


def _ranks(ranks: list[int]) -> str:
    shown = ", ".join(str(rank) for rank in ranks[:20]) + (", ..." if len(ranks) > 20 else "")
    return f"rank{'s' if len(ranks) > 1 else ''} {shown}"


def _incomplete(path: Path, found: str) -> FormatError:
    return FormatError(
        path,
        found=found,
        wanted="the files of all ranks, in one folder of a file system that they share",
        remedy="Read the messages of those ranks. The same command continues from the previous checkpoint.",
    )
