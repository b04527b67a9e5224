"""Draw the sample: the story, from a seed to a folder of shards.

In: a `SampleConfig`. Out: a folder as img2dataset writes it, by mode:

    scenes      00000.tar (KEY.jpg, KEY.txt, KEY.json), 00000.parquet, 00000_stats.json, 00001.tar, ...
    objects     00000.tar (KEY.jpg, KEY.cls, KEY.json), ..., classes.json
    captions    00000.parquet, ...: the rows that "scenes" would write, without painting

and last config.json: the options that decide the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any, NamedTuple

from tqdm import tqdm

from pipeline.config import SampleConfig
from pipeline.sample.captions import write_caption
from pipeline.sample.chance import stream
from pipeline.sample.kinds import OBJECTS
from pipeline.sample.scenes import Picture, Scene, compose, compose_one, paint
from pipeline.sample.shards import add_sample, key_of, open_tar, shard_name, write_json, write_sidecar, write_stats
from vocab.errors import OutputExistsError
from vocab.store.files import write_whole
from vocab.store.locations import refuse_unwritable
from vocab.wordnet import wnid_of

DRAWING = ".drawing.json"
"""options of an unfinished drawing; removed when the drawing is complete"""
# The share of links that are dead, about one in forty.
DEAD_LINKS = 0.025
ERRORS = ("HTTP Error 404: Not Found", "HTTP Error 403: Forbidden", "<urlopen error timed out>")


class Row(NamedTuple):
    """One sample before its image is painted."""

    number: int
    key: str
    scene: Scene
    caption: str
    mentioned: list[int]
    error: str | None

    @property
    def status(self) -> str:
        return "failed_to_download" if self.error else "success"


def draw_sample(config: SampleConfig) -> None:
    """Draw the data set that the options describe.

    Raises OutputExistsError for a folder that holds something, before anything is written.
    """
    refuse_unwritable(config.out)
    _claim_output(config)
    with tqdm(total=config.samples, unit=" samples", disable=None) as bar:
        for drawn in _draw_all(config):
            bar.update(drawn)
    if config.mode == "objects":
        _write_classes(config)
    write_json(config.out / "config.json", _drawn(config))
    (config.out / DRAWING).unlink()


def draw_shard(config: SampleConfig, shard: int) -> int:
    """Draw one shard and say how many samples it has; it needs no other shard, so any process may draw it."""
    if config.mode == "objects":
        return _draw_objects(config, shard)
    name = shard_name(shard)
    rows = list(_rows(config, shard))
    if config.mode == "scenes":
        _draw_scenes(config, name, rows)
        write_stats(config.out / f"{name}_stats.json", [row.status for row in rows])
    write_sidecar(config.out / f"{name}.parquet", [_record(row, config.size) for row in rows])
    return len(rows)


def _claim_output(config: SampleConfig) -> None:
    """Make the folder, or take over the one that the same drawing left when it died: its files are drawn again."""
    marker = config.out / DRAWING
    if marker.is_file() and marker.read_bytes() == _text(config):
        for unfinished in config.out.glob(".*.tmp"):
            unfinished.unlink()
        return
    if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise OutputExistsError(
            config.out,
            found="something there already",
            wanted="a new or empty folder",
            remedy="Choose another folder, or remove this one.",
        )
    config.out.mkdir(parents=True, exist_ok=True)
    with write_whole(marker) as file:
        file.write(_text(config))


def _text(config: SampleConfig) -> bytes:
    return json.dumps(_drawn(config)).encode()


def _draw_all(config: SampleConfig) -> Iterator[int]:
    """Draw every shard, and yield its number of samples as it is done."""
    if config.workers == 1:
        yield from (draw_shard(config, shard) for shard in range(config.shards))
        return
    # Spawned, not forked: a fork would copy the locks of threads that the caller may run.
    pool = ProcessPoolExecutor(config.workers, mp_context=get_context("spawn"))
    try:
        for done in as_completed([pool.submit(draw_shard, config, shard) for shard in range(config.shards)]):
            yield done.result()
    finally:
        # After an error, or Ctrl-C, the shards not begun are not worth waiting for.
        pool.shutdown(cancel_futures=True)


def _numbers(config: SampleConfig, shard: int) -> range:
    """The numbers of the samples in a shard."""
    start = shard * config.per_shard
    return range(start, min(start + config.per_shard, config.samples))


def _rows(config: SampleConfig, shard: int) -> Iterator[Row]:
    for index, number in enumerate(_numbers(config, shard)):
        chance = stream(config.seed, number, "words")
        scene = compose(chance)
        text, mentioned = write_caption(scene, chance)
        error = ERRORS[number % len(ERRORS)] if chance.random() < DEAD_LINKS else None
        yield Row(number, key_of(shard, index), scene, text, mentioned, error)


def _record(row: Row, size: int) -> dict[str, Any]:
    """The sample's row in the Parquet file of its shard."""
    side = None if row.error else size
    return {
        "key": row.key,
        "caption": row.caption,
        "url": f"https://example.org/{row.key}.jpg",
        "status": row.status,
        "error_message": row.error,
        "width": side,
        "height": side,
        "synsets": row.scene.synsets,
        "mentioned": row.mentioned,
    }


def _draw_scenes(config: SampleConfig, name: str, rows: Sequence[Row]) -> None:
    with open_tar(config.out / f"{name}.tar") as tar:
        for row in rows:
            if row.error is None:
                picture = paint(row.scene, size=config.size, chance=stream(config.seed, row.number, "picture"))
                truth = _scene_truth(row, picture)
                add_sample(tar, row.key, image=picture.image, text={"txt": row.caption}, truth=truth)


def _scene_truth(row: Row, picture: Picture) -> dict[str, Any]:
    record = _record(row, picture.image.width)
    objects = [{"kind": kind.name, "synset": kind.synset, "box": box} for kind, box in picture.boxes]
    truth = {name: value for name, value in record.items() if name not in ("url", "error_message")}
    return truth | {"kinds": row.scene.kinds, "objects": objects}


def _draw_objects(config: SampleConfig, shard: int) -> int:
    """Every class in turn, so that the set and each shard are balanced to within one image a class."""
    numbers = _numbers(config, shard)
    with open_tar(config.out / f"{shard_name(shard)}.tar") as tar:
        for index, number in enumerate(numbers):
            key, label = key_of(shard, index), number % len(OBJECTS)
            kind = OBJECTS[label]
            chance = stream(config.seed, number, "picture")
            picture = paint(compose_one(chance, kind), size=config.size, chance=chance)
            truth = {
                "key": key,
                "wnid": wnid_of(kind.synset),
                "words": ", ".join(_words(label)),
                "kind": kind.name,
                "width": config.size,
                "height": config.size,
                "box": picture.boxes[0][1],
            }
            add_sample(tar, key, image=picture.image, text={"cls": str(label)}, truth=truth)
    return len(numbers)


def _words(label: int) -> list[str]:
    return list(dict.fromkeys(noun.singular for noun in OBJECTS[label].nouns))


def _write_classes(config: SampleConfig) -> None:
    classes = {
        str(label): {"wnid": wnid_of(kind.synset), "name": kind.name, "words": _words(label)}
        for label, kind in enumerate(OBJECTS)
    }
    write_json(config.out / "classes.json", classes)


def _drawn(config: SampleConfig) -> dict[str, Any]:
    """The options that decide the bytes: content of config.json, which is written last and says that all is there."""
    drawn = {"mode": config.mode, "samples": config.samples, "samples_per_shard": config.per_shard}
    return drawn | {"seed": config.seed, "size": config.size}
