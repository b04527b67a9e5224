"""Data of a run, wherever it lies: its labels, and its tars in their order with their marks, as data.json has them.

In: the sources of a run. Out: a `RunData`; or sources over the same tars in other locations, put into its order; or a
MismatchError that says what differs.

    {"version": 1, "held_out": {...}, "train": {
       "labels": ["5f0c..."],     rows of each label directory (`LabelShards.rows_sha256`)
       "pools": [[0, 1], [2]],    as `Source` has them
       "tars": [{"shard": "00000", "labels": 0, "place": "/data/00000.tar",
                 "mark": {"bytes": 10240, "changed": 1766..., "mark": "9e21..."}}, ...]}}
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trainer.data.group import Tar
from trainer.data.source import Source
from trainer.data.tar_cache import TarCache
from trainer.data.tar_locations import PIPE, is_local, local_name
from trainer.data.tar_streams import DownloadError, open_stream
from vocab.errors import FormatError, MismatchError
from vocab.pages.text import counted, listed
from vocab.store.field_types import require_types
from vocab.store.files import write_whole
from vocab.store.sealing import from_sealed_json, to_sealed_json
from vocab.store.secrets import without_secrets

FILE, VERSION = "data.json", 1
SIDES = ("train", "held_out")
MARK_THREADS = 32
"""tars whose marks are taken at a time"""
REMEDY = "Name the images and labels that the run was started with, wherever they lie now, or choose another --out."

PARTS, PART_BYTES = 16, 1 << 16
"""parts of a tar that its mark is taken of, and their bytes"""
Name = tuple[str, str]
"""identity of a tar wherever it lies: rows of its labels, and its shard"""


@dataclass(frozen=True)
class TarMark:
    """A tar by its content; None where a value is unknown until the tar is fetched."""

    bytes: int | None = None
    changed: int | None = None
    """time of change (ns) of a local file"""
    mark: str | None = None


@dataclass(frozen=True)
class RunTar:
    """One tar of a run."""

    shard: str
    labels: int
    place: str
    """without secrets"""
    mark: TarMark


@dataclass(frozen=True)
class Side:
    """Tars to train on, or held out."""

    labels: tuple[str, ...]
    pools: tuple[tuple[int, ...], ...]
    tars: tuple[RunTar, ...]

    @property
    def by_name(self) -> dict[Name, RunTar]:
        """Return each tar by its name, in order."""
        return {(self.labels[tar.labels], tar.shard): tar for tar in self.tars}


@dataclass(frozen=True)
class RunData:
    """Data of a run."""

    train: Side
    held_out: Side

    def write(self, out: Path) -> None:
        with write_whole(out / FILE) as file:
            file.write(to_sealed_json({"version": VERSION, **asdict(self)}).encode())


def read_run_data(out: Path) -> RunData | None:
    """Read data.json of a run directory; None without one.

    Raises FormatError for a file that cannot be read, or of another version.
    """
    if not (out / FILE).exists():
        return None
    try:
        content = from_sealed_json(out / FILE, (out / FILE).read_bytes())
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']!r}")
        return RunData(**{name: _side_of(content[name]) for name in SIDES})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(
            out / FILE,
            found=f"no readable record of the run's data ({error!r})",
            wanted=f"version {VERSION}, with {' and '.join(SIDES)}",
            remedy="Remove it; the run then goes on with exactly the locations it was started with.",
        ) from error


def _side_of(content: Mapping[str, Any]) -> Side:
    tars = tuple(RunTar(**{**tar, "mark": TarMark(**tar["mark"])}) for tar in content["tars"])
    side = Side(tuple(content["labels"]), tuple(map(tuple, content["pools"])), tars)
    for part in (side, *tars, *(tar.mark for tar in tars)):
        require_types(part)
    if not all(tar in range(len(tars)) for pool in side.pools for tar in pool):
        raise ValueError("a pool of tars that are not there")
    if not all(tar.labels in range(len(side.labels)) for tar in tars):
        raise ValueError("a tar of labels that are not there")
    return side


def run_data_of(train: Source, held_out: Source, *, known: RunData | None) -> RunData:
    """Describe the data of a run as it is now. `known`: as it was before, in the same order.

    Raises MismatchError for tars whose content is not what it was.
    """
    if known is None:
        return RunData(_side(train, None), _side(held_out, None))
    now = RunData(_side(train, known.train), _side(held_out, known.held_out))
    pairs = [pair for side in SIDES for pair in zip(getattr(known, side).tars, getattr(now, side).tars, strict=True)]
    if different := [difference for before, after in pairs if (difference := _difference(before, after))]:
        raise MismatchError(
            "--images",
            found=f"{counted(len(different), 'tar')} with other content: {listed(different)}",
            wanted="the tars that the run has read so far",
            remedy=REMEDY,
        )
    return now


def _difference(before: RunTar, after: RunTar) -> str:
    """Tell how the content of a tar differs from before; "" where it does not, as far as can be told."""
    old, new = before.mark, after.mark
    if None not in (old.bytes, new.bytes) and old.bytes != new.bytes:
        return f"{after.place} ({new.bytes:,} bytes, before {old.bytes:,})"
    if None not in (old.mark, new.mark) and old.mark != new.mark:
        return f"{after.place} (other bytes, though {new.bytes:,} as before)"
    return ""


def _side(source: Source, known: Side | None) -> Side:
    before = known.tars if known is not None else (None,) * len(source.tars)
    with ThreadPoolExecutor(MARK_THREADS) as pool:
        tars = tuple(pool.map(lambda tar, old: _run_tar(tar, source, old), source.tars, before))
    return Side(tuple(labels.rows_sha256 for labels in source.labels), source.pools, tars)


def _run_tar(tar: Tar, source: Source, known: RunTar | None) -> RunTar:
    place = without_secrets(tar.location)
    old = known.mark if known is not None else None
    mark = marked(tar.location, source.cache, known=old, moved=known is not None and known.place != place)
    if old is not None:  # what cannot be told any more was the same when last seen
        mark = replace(mark, bytes=mark.bytes or old.bytes, mark=mark.mark or old.mark)
    return RunTar(tar.shard, tar.labels, place, mark)


def in_recorded_order(train: Source, held_out: Source, recorded: RunData) -> tuple[Source, Source]:
    """The sources with their labels, tars and pools in the recorded order, in which locations play no part.

    Raises MismatchError for labels of other rows, a recorded shard without a tar, a tar that the run did not have, and
    one in a pool of another weight.
    """
    sources, sides = (train, held_out), (recorded.train, recorded.held_out)
    labels = {each.rows_sha256: each for source in sources for each in source.labels}
    if missing := [rows for side in sides for rows in side.labels if rows not in labels]:
        given = [f"{each.location} (rows {rows[:12]})" for rows, each in labels.items()]
        wanted = f"labels with the rows that the run was started with, {listed([rows[:12] for rows in missing])}"
        raise MismatchError("--labels", found=listed(given), wanted=wanted, remedy=REMEDY)
    offered = [{(each.labels[tar.labels].rows_sha256, tar.shard): tar for tar in each.tars} for each in sources]
    _check_pools(train, recorded.train)
    found = [
        {name: tars.pop(name) for name in side.by_name if name in tars}
        for side, tars in zip(sides, offered, strict=True)
    ]
    # From the end of a list in another order, other tars were held out.
    left = {**offered[0], **offered[1]}
    for side, tars in zip(sides, found, strict=True):
        tars |= {name: left.pop(name) for name in side.by_name if name not in tars and name in left}
    _check_tars(
        [name for side, tars in zip(sides, found, strict=True) for name in side.by_name if name not in tars], left
    )
    arranged = [
        replace(
            source,
            labels=tuple(labels[rows] for rows in side.labels),
            pools=side.pools,
            tars=tuple(replace(tars[name], labels=tar.labels) for name, tar in side.by_name.items()),
        )
        for source, side, tars in zip(sources, sides, found, strict=True)
    ]
    return arranged[0], arranged[1]


def _check_tars(missing: list[Name], surplus: Mapping[Name, Tar]) -> None:
    """Raise MismatchError for recorded tars that are not there, and for tars other than the recorded ones."""
    strangers = [without_secrets(tar.location) for tar in surplus.values()]
    said = [f"no tar of {counted(len(missing), 'shard')}: {listed([shard for _, shard in missing])}"] if missing else []
    said += [f"{counted(len(strangers), 'tar')} that it did not have: {listed(strangers)}"] if strangers else []
    if said:
        wanted = "the tars that the run was started with"
        raise MismatchError("--images", found="; ".join(said), wanted=wanted, remedy=REMEDY)


def _check_pools(source: Source, side: Side) -> None:
    names = list(side.by_name)
    pools = {names[tar]: number for number, pool in enumerate(side.pools) for tar in pool}
    for number, pool in enumerate(source.pools):
        for tar in (source.tars[tar] for tar in pool):
            before = pools.get((source.labels[tar.labels].rows_sha256, tar.shard), number)
            if before != number:
                raise MismatchError(
                    "--images",
                    found=f"{without_secrets(tar.location)} in number {number + 1} of them",
                    wanted=f"that tar in number {before + 1}, whose weight it has had so far",
                    remedy="Name the images in the order in which the run was started.",
                )


def marked(location: str, cache: TarCache, *, known: TarMark | None, moved: bool) -> TarMark:
    """The mark of a tar. `known`: its earlier mark; `moved`: True if it lay in another location then.

    A local file of the same size and time of change in the same location is not read again. A remote tar is marked by
    its copy in the cache; if it moved and has no copy, only its size is asked for.
    """
    if is_local(location):
        path = Path(local_name(location))
        try:
            found = path.stat()
            if known is not None and not moved and (known.bytes, known.changed) == (found.st_size, found.st_mtime_ns):
                return known
            return TarMark(found.st_size, found.st_mtime_ns, mark_of(path))
        except OSError:
            return TarMark()  # opening it for its samples raises the error that names the cause
    if (copy := cache.copy_of(location)) is not None:
        with suppress(FileNotFoundError):  # evicted meanwhile
            return TarMark(copy.stat().st_size, mark=mark_of(copy))
    if known is not None and not moved:
        # The content of a location is assumed never to change, as in the cache.
        return replace(known, changed=None)
    if known is not None and not location.startswith(PIPE):
        with suppress(DownloadError), open_stream(location, allow_pipe=False, timeout_s=cache.timeout_s) as stream:
            return TarMark(stream.size)
    return TarMark()


def mark_of(path: Path) -> str:
    """sha256 of 16 parts of 64 KiB that lie evenly over a file; of the whole file if it is no longer than that."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        last = max(0, size - PART_BYTES)
        for part in range(PARTS):
            start = part * PART_BYTES if size <= PARTS * PART_BYTES else part * last // (PARTS - 1)
            digest.update(os.pread(file.fileno(), PART_BYTES, start))
    return digest.hexdigest()
