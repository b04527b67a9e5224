"""Single bytes changed in all kinds of files that the programs write: is a damaged file ever used in silence?

    python -m benchmarks.byte_flips [--flips 2000] [--seed 1]

In: nothing; `byte_flipping/files.py` draws a small corpus and makes everything of it. Each flip changes one byte of
one file, files in turn, and the file's own reader is run. Out: counts of what came of it, by kind, and one JSON object:

    refused     a CatlipError that names the file, or the file is put aside and made anew
    harmless    the result is the one of the whole file
    silent      the result is another one: must be 0
    traceback   any other exception: must be 0
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import tyro

from benchmarks.byte_flipping.files import Flipped, make_files
from vocab.errors import CatlipError, run_cli

Outcome = Literal["refused", "harmless", "silent", "traceback"]
WRONG: tuple[Outcome, ...] = ("silent", "traceback")


@dataclass(frozen=True)
class ByteFlips:
    """Change bytes in files that the programs write, and see who notices."""

    flips: int = 2_000
    """over all kinds of files"""
    seed: int = 1
    """seed of the flips"""


@dataclass(frozen=True)
class Flip:
    """A byte that was changed, and what came of it."""

    kind: str
    place: int
    mask: int
    """bits that were flipped"""
    outcome: Outcome
    said: str
    """the error; "" where there was none"""


def flip_files(files: Sequence[Flipped], *, flips: int, seed: int) -> list[Flip]:
    """Change one byte at a time, in one file after another; each is as it was when this returns."""
    draw, found = random.Random(seed), []
    wanted = {}
    for number in range(flips):
        flipped = files[number % len(files)]
        whole = flipped.file.read_bytes()
        place, mask = draw.randrange(len(whole)), draw.randrange(1, 256)
        if flipped not in wanted:
            wanted[flipped] = _read(flipped)
        try:
            flipped.file.write_bytes(whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :])
            outcome, said = _outcome(flipped, wanted[flipped])
        finally:
            flipped.file.write_bytes(whole)
        found.append(Flip(flipped.kind, place, mask, outcome, said))
    return found


def _outcome(flipped: Flipped, wanted: object) -> tuple[Outcome, str]:
    try:
        result = _read(flipped)
    except CatlipError as error:
        # An error that leads to another place is no help.
        named = any(place.name in str(error) for place in (flipped.file, *flipped.file.parents[:2]))
        return ("refused", "") if named else ("traceback", f"does not name the file: {error}")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the script looks for
        return "traceback", repr(error)
    if result is None and wanted is not None:
        return "refused", ""
    return ("harmless", "") if result == wanted else ("silent", "")


def _read(flipped: Flipped) -> object:
    """Run a reader, without showing its warnings; its result."""
    with contextlib.redirect_stderr(io.StringIO()):
        return flipped.read()


def measure(options: ByteFlips) -> dict[str, object]:
    """Make the files and flip; the counts."""
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(Path(folder))
        began = time.perf_counter()
        flips = flip_files(files, flips=options.flips, seed=options.seed)
        seconds = time.perf_counter() - began
    kinds: dict[str, Counter[str]] = {}
    for flip in flips:
        kinds.setdefault(flip.kind, Counter())[flip.outcome] += 1
    for kind, outcomes in kinds.items():
        sys.stdout.write(f"{kind:32} {', '.join(f'{count} {outcome}' for outcome, count in outcomes.items())}\n")
    for flip in flips:
        if flip.outcome in WRONG:
            sys.stdout.write(f"{flip.outcome}: {flip.kind}, byte {flip.place}, mask {flip.mask:#04x}: {flip.said}\n")
    totals = Counter(flip.outcome for flip in flips)
    return {
        "flips": len(flips),
        "kinds": len(kinds),
        **{outcome: totals[outcome] for outcome in get_args(Outcome)},
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """The command line."""
    result = measure(tyro.cli(ByteFlips, prog="python -m benchmarks.byte_flips"))
    sys.stdout.write(json.dumps(result) + "\n")
    if any(result[outcome] for outcome in WRONG):
        sys.exit(1)


if __name__ == "__main__":
    run_cli(main)
