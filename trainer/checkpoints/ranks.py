"""What the ranks of a run leave one another in the folder of a checkpoint that is being written.

In: what a rank wrote. Out: what all of them wrote, on the main one. No collective call, which would meet those of
training: every rank writes its files into one folder, then a word about them; the main rank waits for all words, and
the others for the folder's own name.

    .step-00001000.4f1d.tmp/rank-00001.json    {"files": {"model-00002-of-00004.safetensors": {"size": 96, ...}},
                                                "pieces": {"model": {"head.weight": ["model-00002-of-...", 2, 2]}},
                                                "own_sha256": "..."}
    .step-00001000.4f1d.tmp/rank-00002.failed  where it could not write its files
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoints.disk import Written, write_file
from trainer.checkpoints.manifest import Piece
from vocab.errors import FormatError
from vocab.store.sealing import from_sealed_json, to_sealed_json

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Word:
    """What one rank wrote."""

    files: dict[str, Written]
    pieces: dict[str, dict[str, Piece]]
    """map of tensors -> tensor -> its rows"""


def leave_word(work: Path, rank: int, word: Word) -> None:
    """Say what this rank wrote, once it is on the disk."""
    body = {"files": {name: written._asdict() for name, written in word.files.items()}, "pieces": word.pieces}
    hidden = work / f".{_word(rank)}"
    write_file(hidden, [to_sealed_json(body).encode()])
    hidden.rename(work / _word(rank))


def leave_failure(work: Path, rank: int) -> None:
    """Spare the main rank the wait for files that will not come."""
    with contextlib.suppress(OSError):  # the disk that failed may take no name either; then the wait runs out
        (work / _failure(rank)).touch()


def words_of_others(work: Path, world: int, *, given_up: Callable[[], bool]) -> list[Word]:
    """What all ranks but the main one wrote, taken away from the folder.

    Raises FormatError naming the ranks that failed, or that said nothing until `given_up`.
    """
    words: dict[int, Word] = {}
    while len(words) < world - 1:
        silent = [rank for rank in range(1, world) if rank not in words]
        failed = [rank for rank in silent if (work / _failure(rank)).exists()]
        if failed:
            raise _incomplete(work, f"files that {_ranks(failed)} could not write")
        ready = [rank for rank in silent if (work / _word(rank)).exists()]
        if not ready and given_up():
            raise _incomplete(work, f"no word from {_ranks(silent)}")
        for rank in ready:
            words[rank] = _take(work, rank)
        if not ready:
            time.sleep(POLL_SECONDS)
    return [words[rank] for rank in sorted(words)]


def await_commit(work: Path, folder: Path, *, given_up: Callable[[], bool]) -> None:
    """Wait on another rank until the main one has given the folder its name.

    Raises FormatError if it removed the folder instead, or did neither until `given_up`.
    """
    while work.exists():
        if given_up():
            raise _incomplete(folder, "no word from the main rank")
        time.sleep(POLL_SECONDS)
    if not folder.exists():
        raise _incomplete(folder, "a checkpoint that the main rank gave up")


def _take(work: Path, rank: int) -> Word:
    path = work / _word(rank)
    try:
        body = from_sealed_json(path, path.read_bytes())
        files = {name: Written(**entry) for name, entry in body["files"].items()}
        pieces = {
            file: {name: Piece(*piece) for name, piece in tensors.items()} for file, tensors in body["pieces"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _incomplete(path, f"no readable word ({error})") from error
    path.unlink()
    for name, written in files.items():
        if (size := (work / name).stat().st_size) != written.size:
            raise _incomplete(work / name, f"{size:,} bytes of {written.size:,} that rank {rank} wrote")
    return Word(files, pieces)


def _word(rank: int) -> str:
    return f"rank-{rank:05d}.json"


def _failure(rank: int) -> str:
    return f"rank-{rank:05d}.failed"


def _ranks(ranks: list[int]) -> str:
    shown = ", ".join(str(rank) for rank in ranks[:20]) + (", ..." if len(ranks) > 20 else "")
    return f"rank{'s' if len(ranks) > 1 else ''} {shown}"


def _incomplete(path: Path, found: str) -> FormatError:
    return FormatError(
        path,
        found=found,
        wanted="the files of all ranks, in one folder of a file system that they share",
        remedy="See what those ranks said. The same command continues from the checkpoint before.",
    )
