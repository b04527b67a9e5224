"""The sample keeps its promises: reproducible bytes, a truth that matches the paint, captions as rough as the web's."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageChops

from pipeline.config import SampleConfig
from pipeline.sample import draw as draw_module
from pipeline.sample.captions import write_caption
from pipeline.sample.chance import stream
from pipeline.sample.draw import draw_sample
from pipeline.sample.kinds import COLOURS, OBJECTS, PLACES, WORDS, ObjectKind, plural_of
from pipeline.sample.pen import Pen
from pipeline.sample.scenes import ObjectGroup, Scene, compose, paint
from vocab.errors import InputError, OutputExistsError


def draw(out: Path, **options: Any) -> Path:
    draw_sample(
        SampleConfig(out=out, **{"samples": 60, "samples_per_shard": 25, "size": 48, "processes": 1, **options})
    )
    return out


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def members_of(folder: Path) -> dict[str, bytes]:
    members = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for info in tar:
                file = tar.extractfile(info)
                assert file is not None
                members[info.name] = file.read()
    return members


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def captions(count: int) -> list[tuple[Scene, str, list[int]]]:
    written = []
    for number in range(count):
        chance = stream(0, number, "words")
        scene = compose(chance)
        written.append((scene, *write_caption(scene, chance)))
    return written


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def many() -> list[tuple[Scene, str, list[int]]]:
    return captions(5000)


# What is written


def test_the_same_seed_gives_the_same_bytes_whatever_the_processes(scenes: Path, tmp_path: Path) -> None:
    assert files_of(draw(tmp_path / "again", processes=2)) == files_of(scenes)


def test_another_seed_gives_another_sample(scenes: Path, tmp_path: Path) -> None:
    assert files_of(draw(tmp_path / "other", seed=1))["00000.tar"] != files_of(scenes)["00000.tar"]


def test_a_sample_depends_on_its_number_and_not_on_its_shard(scenes: Path, tmp_path: Path) -> None:
    other = draw(tmp_path / "one", samples=30, samples_per_shard=30)
    assert [row["caption"] for row in rows_of(other)] == [row["caption"] for row in rows_of(scenes)][:30]
    # The sample 26 is the second of the second shard there.
    assert members_of(other)["000000026.jpg"] == members_of(scenes)["000010001.jpg"]


def test_the_folder_looks_as_img2dataset_leaves_it(scenes: Path) -> None:
    shards = [f"{stem}{end}" for stem in ("00000", "00001", "00002") for end in (".parquet", ".tar", "_stats.json")]
    assert sorted(files_of(scenes)) == sorted([*shards, "config.json"])
    assert json.loads((scenes / "00002_stats.json").read_text())["count"] == 10


def test_every_tar_opens_and_every_image_decodes(scenes: Path) -> None:
    members = members_of(scenes)
    for row in rows_of(scenes):
        names = [f"{row['key']}.{extension}" for extension in ("jpg", "txt", "json")]
        if row["status"] == "success":
            assert Image.open(io.BytesIO(members[names[0]])).convert("RGB").size == (48, 48)
            assert members[names[1]].decode() == row["caption"]
            truth = json.loads(members[names[2]])
            assert {name: truth[name] for name in ("key", "caption", "synsets", "mentioned")} == {
                name: row[name] for name in ("key", "caption", "synsets", "mentioned")
            }
        else:
            assert row["error_message"]
            assert row["width"] is None
            assert not set(names) & set(members)


def test_some_downloads_fail(tmp_path: Path) -> None:
    rows = rows_of(draw(tmp_path / "rows", mode="captions", samples=2000, samples_per_shard=2000))
    assert 20 < sum(row["status"] == "failed_to_download" for row in rows) < 90


def test_captions_mode_writes_the_same_rows_and_no_tar(scenes: Path, tmp_path: Path) -> None:
    folder = draw(tmp_path / "captions", mode="captions")
    assert sorted(files_of(folder)) == ["00000.parquet", "00001.parquet", "00002.parquet", "config.json"]
    assert rows_of(folder) == rows_of(scenes)


def test_objects_mode_writes_one_labelled_object_an_image(tmp_path: Path) -> None:
    folder = draw(tmp_path / "objects", mode="objects")
    members, classes = members_of(folder), json.loads((folder / "classes.json").read_text())
    assert classes["0"] == {"wnid": "n02084071", "name": "dog", "words": ["dog", "domestic dog"]}
    assert len(classes) == len(OBJECTS)
    labels = [int(content) for name, content in members.items() if name.endswith(".cls")]
    assert set(labels) == set(range(len(OBJECTS)))
    for name, content in members.items():
        if name.endswith(".json"):
            assert json.loads(content)["wnid"] == classes[members[name.replace(".json", ".cls")].decode()]["wnid"]


def test_a_folder_that_holds_something_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(OutputExistsError, match="Choose another folder"):
        draw(tmp_path)
    assert files_of(tmp_path) == {"mine.txt": b"precious"}


@pytest.mark.parametrize(
    ("option", "value"), [("samples", 0), ("samples_per_shard", 10_001), ("seed", -1), ("size", 4), ("processes", 0)]
)
def test_an_option_out_of_range_is_refused_before_anything_is_written(tmp_path: Path, option: str, value: int) -> None:
    with pytest.raises(InputError, match=f"--{option.replace('_', '-')}"):
        draw(tmp_path / "new", **{option: value})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("samples", "shards", "each"), [(12_000, 12, 1_000), (600, 4, 150), (3_001, 4, 751), (1, 1, 1)]
)
def test_a_small_sample_has_tars_to_train_on_and_to_evaluate_on(samples: int, shards: int, each: int) -> None:
    config = SampleConfig(Path("out"), samples=samples)
    assert (config.shards, config.per_shard) == (shards, each)


# What is drawn


def test_synsets_and_names_are_unique_and_in_range() -> None:
    things = [*OBJECTS, *PLACES]
    assert len({thing.synset for thing in things}) == len({thing.name for thing in things}) == len(things)
    # WordNet's first noun is the offset 1740, and its noun file ends below 15.4 million.
    assert all(1740 <= thing.synset < 15_400_000 for thing in things)


def test_the_ambiguous_words_are_drawn_in_both_senses() -> None:
    senses = Counter(noun for kind in OBJECTS for noun in {noun.singular for noun in kind.nouns})
    assert {noun for noun, count in senses.items() if count == 2} == {"mouse", "bat", "crane"}


def test_every_kind_has_a_name_in_every_language() -> None:
    assert set(WORDS["kinds"]) == {kind.name for kind in OBJECTS}
    assert {len(kind.foreign) for kind in OBJECTS} == {len(WORDS["languages"])}


@pytest.mark.parametrize(
    ("singular", "plural"), [("bus", "buses"), ("couch", "couches"), ("butterfly", "butterflies"), ("key", "keys")]
)
def test_a_regular_plural_is_spelt_right(singular: str, plural: str) -> None:
    assert plural_of(singular) == plural


def test_kinds_come_in_a_long_tail_whose_rarest_is_in_seven_of_a_thousand_images(
    many: list[tuple[Scene, str, list[int]]],
) -> None:
    images = Counter(name for scene, _, _ in many for name in set(scene.kinds))
    shares = [images[kind.name] / len(many) for kind in OBJECTS]
    assert min(shares) > 0.007
    assert max(shares) > 6 * min(shares)


def test_a_scene_holds_one_to_four_objects(many: list[tuple[Scene, str, list[int]]]) -> None:
    assert {sum(group.number for group in scene.groups) for scene, _, _ in many} == {1, 2, 3, 4}


def test_the_truth_matches_the_drawn_objects(scenes: Path) -> None:
    for name, content in members_of(scenes).items():
        if name.endswith(".json"):
            truth = json.loads(content)
            drawn = {thing["synset"] for thing in truth["objects"]}
            places = {place.synset for place in PLACES if place.name in truth["kinds"]}
            assert truth["synsets"] == sorted(drawn | places)
            for left, top, right, bottom in (thing["box"] for thing in truth["objects"]):
                assert 0 <= left < right <= 48
                assert 0 <= top < bottom <= 48


def portrait(kind: ObjectKind, background: tuple[int, int, int], colour: str = "") -> tuple[Image.Image, Pen]:
    image = Image.new("RGB", (96, 96), background)
    named = COLOURS[colour] if colour else (120, 120, 120)
    pen = Pen(image, centre=(48, 48), scale=40, angle=0, mirrored=False, colour=named, chance=Random(0))
    kind.draw(pen)
    return image, pen


@pytest.mark.parametrize("kind", OBJECTS, ids=lambda kind: kind.name)
def test_a_kind_is_drawn_visibly_and_inside_its_box(kind: ObjectKind) -> None:
    for colour in kind.colours or ("",):
        image, pen = portrait(kind, (200, 205, 235), colour)
        paint_only = ImageChops.difference(image, Image.new("RGB", image.size, (200, 205, 235))).convert("L")
        assert np.count_nonzero(np.asarray(paint_only) > 20) > 0.05 * 96 * 96
        box, seen = pen.box, paint_only.point(lambda value: 255 * (value > 20)).getbbox()
        assert seen is not None
        # Edges are a line around the shape: at most two pixels more.
        assert all(low - 3 <= value for low, value in zip(box[:2], seen[:2], strict=True))
        assert all(value <= high + 3 for high, value in zip(box[2:], seen[2:], strict=True))


def test_no_two_kinds_have_the_same_outline() -> None:
    def outline(kind: ObjectKind) -> np.ndarray[Any, Any]:
        image = portrait(kind, (0, 255, 0))[0].resize((24, 24))
        return np.asarray(image, dtype=float)

    outlines = [outline(kind) for kind in OBJECTS]
    for i, one in enumerate(outlines):
        for other in outlines[:i]:
            assert np.abs(one - other).mean() > 8


def test_a_scene_can_be_painted_on_every_background() -> None:
    for place in PLACES:
        scene = Scene((ObjectGroup(OBJECTS[0], 2, "brown"),), place, place.name)
        assert len(paint(scene, size=32, chance=Random(3)).boxes) == 2


# What is told


def test_mentioned_synsets_are_a_part_of_the_drawn_ones(many: list[tuple[Scene, str, list[int]]]) -> None:
    for scene, _, mentioned in many:
        assert mentioned == sorted(set(mentioned))
        assert set(mentioned) <= set(scene.synsets)


def test_captions_leave_out_some_of_what_is_drawn(many: list[tuple[Scene, str, list[int]]]) -> None:
    partly = sum(0 < len(mentioned) < len(scene.synsets) for scene, _, mentioned in many)
    assert 0.2 < partly / len(many) < 0.6


def test_a_mentioned_object_is_named_in_the_caption(many: list[tuple[Scene, str, list[int]]]) -> None:
    for scene, text, mentioned in many:
        plain = re.sub(r"%20|[-_]", " ", re.sub(r"</?b>", "", text)).lower()
        for group in scene.groups:
            if group.kind.synset in mentioned:
                assert any(n.singular in plain or n.plural in plain for n in group.kind.nouns), text


def test_no_template_names_a_kind_by_accident() -> None:
    words = {noun.lower() for kind in OBJECTS for pair in kind.nouns for noun in (pair.singular, pair.plural)}
    words |= {place.name for place in PLACES}
    for template in (*WORDS["templates"], *WORDS["untold"]):
        assert not words & set(re.findall(r"[a-z]+", template.lower())), template


NOISE = {
    "product": r"SKU \d{4}-B",
    "a catalogue's Cat. No.": r"Cat\. No\.",
    "HTML tag": r"<b>\S+</b>",
    "HTML entity": r"&amp;",
    "URL escape": r"%20",
    "camera file name": r"^IMG_\d{4}\.jpg$",
    "descriptive file name": r"^[a-z]+([-_].*)+\.(jpg|png)$",
    "Title Case": r"^([A-Z][a-z]+ ){2,}[A-Z][a-z]+$",
    "ALL CAPS": r"^[A-Z ]{8,}$",
    "lower case": r"^[a-z ]+$",
    "emoji": "[\U0001f300-\U0001faff]",
    "Unicode quotes": r"“.*”",
    "apostrophe": r"it’s",
    "empty": r"^$",
    "white space": r"^\s+$",
    "French": r"sur fond blanc",
    "German": r"auf weißem Hintergrund",
    "Spanish": r"sobre fondo blanco",
    "Russian": r"[а-я]{3}",
    "Chinese": r"[\u4e00-\u9fff]",
    "irregular plural": r"\b(mice|geese|loaves|leaves|knives|cacti)\b",
    "plural like the singular": r"\b(two|three|four) (\w+ ){0,2}(sheep|fish)\b",
    "multi-word noun": r"\b(golden retriever|traffic light|hot dog|wine glass|soccer ball)\b",
    "synonym": r"\b(couch|automobile|bike|aeroplane)\b",
}


@pytest.mark.parametrize("noise", NOISE)
def test_the_promised_noise_occurs_among_5000_captions(noise: str, many: list[tuple[Scene, str, list[int]]]) -> None:
    assert any(re.search(NOISE[noise], text) for _, text, _ in many)


def test_the_shares_of_empty_and_foreign_captions_are_as_promised(many: list[tuple[Scene, str, list[int]]]) -> None:
    assert 0.01 < sum(not text.strip() for _, text, _ in many) / len(many) < 0.03
    foreign = (
        r"[а-я\u4e00-\u9fff]|blanc|Hintergrund|Bild:|fond|Foto de|Dibujo|kaufen|envío|Dessin|Photo :|l'été|für Kinder"
    )
    assert 0.025 < sum(bool(re.search(foreign, text)) for _, text, _ in many) / len(many) < 0.055


@pytest.mark.parametrize("shards", [0, 1, 2])
def test_a_drawing_that_died_goes_on_with_the_same_command_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    def asked(name: str, **options: Any) -> SampleConfig:
        return SampleConfig(tmp_path / name, samples=30, samples_per_shard=10, processes=1, **options)

    draw_sample(asked("whole"))
    draw = draw_module.draw_shard

    def dying(config: SampleConfig, shard: int) -> int:
        if shard == shards:
            (config.out / f".{shard:05d}.tar.1.tmp").write_bytes(b"half")
            raise KeyboardInterrupt
        return draw(config, shard)

    with monkeypatch.context() as patch:
        patch.setattr(draw_module, "draw_shard", dying)
        with pytest.raises(KeyboardInterrupt):
            draw_sample(asked("torn"))
    with pytest.raises(OutputExistsError):
        draw_sample(asked("torn", seed=1))
    draw_sample(asked("torn"))
    torn, whole = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("torn", "whole"))
    assert torn == whole
    with pytest.raises(OutputExistsError):
        draw_sample(asked("torn"))
