"""Every option of every verb that names a file or folder: it takes URIs, or refuses them before any work."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch", reason="the trainer extra is not installed")
pytest.importorskip("pyspark", reason="the pipeline extra is not installed")

import torch

import pipeline.__main__
import trainer.__main__
import vocab.__main__
from pipeline.config import Align, Check, Explain, Label, Prune, Report, SampleConfig, Verify
from tests import detection, segmentation
from tests.corpus import Corpus, command, make_corpus
from tests.labels import label_table
from tests.pictures import write_tar
from tests.released_weights import CLASSES, COUNTS, released
from tests.servers import s3_server
from tests.synsets import CAR, CAT, DOG
from trainer.config import PretrainConfig
from trainer.pretrain import pretrain
from trainer.transfer.config import FinetuneConfig, ProbeConfig, TransferConfig, ZeroShotConfig
from trainer.transfer.dense_config import SegmentConfig
from trainer.transfer.detect_config import DetectConfig
from trainer.transfer.tasks_file import read_tasks
from trainer.verb_config import ExportConfig, FeedConfig, ImportConfig, PlanConfig
from trainer.weights.export import export
from vocab.errors import CatlipError, InputError, sentence_of
from vocab.store.label_shards import LabelShards
from vocab.store.label_writing import write_label_shards

TAKES, REFUSES = "takes URIs", "refuses URIs"
DATA = dict.fromkeys(["images", "labels", "vocabulary", "eval-images", "eval-labels"], TAKES) | {"cache": REFUSES}
RUN = DATA | {"out": REFUSES, "probe-images": TAKES, "probe-eval-images": TAKES, "init": TAKES}
TASK = dict.fromkeys(["task.train", "task.test", "task.class-names", "model"], TAKES) | {"task.cache": REFUSES}
DENSE = dict.fromkeys(["task.train", "task.test", "task.train-list", "task.test-list", "out"], REFUSES) | {
    "model": TAKES,
    "task.class-names": TAKES,
}
WORDNET = {"wordnet": REFUSES, "spacy-model": REFUSES}


class Verb(NamedTuple):
    """A verb, and which of its options name places."""

    kind: type
    places: dict[str, str]
    nested: bool = True


VERBS = {
    "pipeline label": Verb(Label, {"captions": TAKES, "out": TAKES, "log": REFUSES, "lexicon": TAKES, **WORDNET}),
    "pipeline prune": Verb(Prune, dict.fromkeys(["labels", "out", "only", "without"], TAKES)),
    "pipeline report": Verb(Report, dict.fromkeys(["labels", "out", "captions", "classes"], TAKES)),
    "pipeline explain": Verb(Explain, {"lexicon": TAKES}),
    "pipeline check": Verb(Check, dict.fromkeys(["labels", "images", "out"], TAKES)),
    "pipeline align": Verb(Align, dict.fromkeys(["labels", "images", "out"], TAKES)),
    "pipeline verify": Verb(Verify, {"captions": TAKES, "out": TAKES, "lexicon": TAKES, **WORDNET}),
    "pipeline sample": Verb(SampleConfig, {"out": REFUSES}),
    "trainer pretrain": Verb(PretrainConfig, RUN, nested=False),
    "trainer plan": Verb(PlanConfig, RUN, nested=False),
    "trainer feed": Verb(FeedConfig, DATA, nested=False),
    "trainer export": Verb(ExportConfig, {"run": TAKES, "out": TAKES}),
    "trainer import": Verb(ImportConfig, {"weights": TAKES, "vocabulary": TAKES, "out": TAKES}),
    "trainer probe": Verb(ProbeConfig, TASK | {"out": TAKES, "features": REFUSES}),
    "trainer zeroshot": Verb(ZeroShotConfig, TASK | {"out": TAKES, "features": REFUSES}),
    "trainer finetune": Verb(FinetuneConfig, TASK | {"out": REFUSES}),
    "trainer segment": Verb(SegmentConfig, DENSE),
    "trainer detect": Verb(DetectConfig, DENSE),
    "trainer transfer": Verb(
        TransferConfig, {"model": TAKES, "tasks": TAKES, "out": REFUSES, "features": REFUSES, "cache": REFUSES}
    ),
    "vocab build": Verb(vocab.__main__.Build, {"wordnet": REFUSES, "out": REFUSES}),
    "vocab fit-tagger": Verb(
        vocab.__main__.FitTagger,
        dict.fromkeys(["treebank", "semcor", "captions", "names", "wordnet", "out"], REFUSES),
    ),
    "vocab fit-senses": Verb(
        vocab.__main__.FitSenses, dict.fromkeys(["semcor", "listed", "names", "wordnet", "out"], REFUSES)
    ),
    "vocab mark-depictable": Verb(vocab.__main__.MarkDepictable, {"out": REFUSES}),
}
NO_PLACES = frozenset(
    "caption-columns synset-columns key-column shard-column columns separator master id-column resolution-schedule "
    "wandb gpu licence task.csv-columns blocks".split()
) | {"trainer pretrain model", "trainer plan model", "pipeline explain captions"}
POSITIONAL = ("run", "weights", "model", "words")
NEEDED = {
    "pipeline label": {"captions": "in", "out": "o"},
    "pipeline prune": {"labels": "l", "min-count": "1"},
    "pipeline report": {"labels": "l", "out": "o"},
    "pipeline check": {"labels": "l", "images": "i"},
    "pipeline align": {"labels": "l", "images": "i", "id-column": "uid", "out": "o"},
    "pipeline verify": {"captions": "in"},
    "pipeline sample": {"samples": "1"},
    "trainer pretrain": {"labels": "l", "vocabulary": "v", "images": "i"},
    "trainer export": {"run": "r", "out": "o"},
    "trainer import": {"weights": "w", "vocabulary": "v", "out": "o"},
    "trainer transfer": {"model": "m", "tasks": "t", "out": "o"},
    "vocab fit-tagger": {"treebank": "t"},
    "vocab fit-senses": {"semcor": "s", "listed": "l"},
} | {
    f"trainer {verb}": {"model": "m", "task.train": "a.tar", "task.test": "b.tar", "out": "o"}
    for verb in ("probe", "zeroshot", "finetune", "segment", "detect")
}
MAINS = {"pipeline": pipeline.__main__.main, "trainer": trainer.__main__.main, "vocab": vocab.__main__.main}


def options(kind: type, *, nested: bool, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Each option that holds text, and whether it is a path alone."""
    hints = get_type_hints(kind, include_extras=True)
    for name in (field.name for field in dataclasses.fields(kind)):
        hint = hints[name]
        option = f"{prefix}{name.replace('_', '-')}"
        hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if dataclasses.is_dataclass(hint):
            yield from options(hint, nested=nested, prefix=f"{option}." if nested else prefix)  # type: ignore[arg-type]
        elif get_origin(hint) is not Literal and {str, Path} & {hint, *get_args(hint)}:
            yield option, str not in (hint, *get_args(hint))


def run(verb: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call a verb as the command line does."""
    room, name = verb.split()
    # In pretrain `model` is timm's name of an architecture.
    first = [] if name in ("pretrain", "plan") else [given[option] for option in POSITIONAL if option in given]
    recipe = ["sample"] if name in ("pretrain", "plan") else []
    words = [
        word
        for option, value in given.items()
        if first == [] or option not in POSITIONAL
        for word in (f"--{option}", *(value if isinstance(value, list) else [value]))
    ]
    monkeypatch.setattr(sys, "argv", [room, name, *recipe, *first, *words])
    MAINS[room]()


def test_every_option_that_holds_text_is_known_to_take_uris_to_refuse_them_or_to_be_no_place() -> None:
    for verb, (kind, places, nested) in VERBS.items():
        found = dict(options(kind, nested=nested))
        plain = {option for option in found if option not in NO_PLACES and f"{verb} {option}" not in NO_PLACES}
        assert plain == places.keys(), verb
        # A path alone cannot hold a URI.
        assert all(places[option] == REFUSES for option, is_path in found.items() if is_path), verb


REFUSED = [(verb, option) for verb, (_, places, _) in VERBS.items() for option in places if places[option] == REFUSES]


@pytest.mark.parametrize("uri", ["s3://b/x", "gs://b/x/", "hdfs://h:8020/x", "https://h/x"])
@pytest.mark.parametrize(("verb", "option"), REFUSED, ids=[" ".join(each) for each in REFUSED])
def test_a_uri_is_refused_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, option: str, uri: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"^--{option} {uri.rstrip('/')}/?: found a URI; wanted a path of this mach"):
        run(verb, {**NEEDED.get(verb, {}), option: uri}, monkeypatch)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_is_local_and_so_are_images_in_no_tars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["trainer", "pretrain", "s3://bucket/mine.py"])
    with pytest.raises(InputError, match=r"recipe s3://bucket/mine\.py: found a URI"):
        trainer.__main__.main()
    (tmp_path / "tasks.toml").write_text(
        '[[task]]\nname = "a"\ntest = "t"\nmethods=["zeroshot"]\nclass_names = "gs://b/n"'
    )
    nothing: dict[str, Any] = {"probe": {}, "zeroshot": {}, "finetune": {}}
    assert read_tasks(tmp_path / "tasks.toml", nothing)[0].class_names == "gs://b/n"


@pytest.fixture(scope="module")
def store() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch, s3_server(monkeypatch):
        yield


@pytest.fixture(scope="module")
def world(store: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of the verbs, and the same in the bucket "verbs" below world/."""
    root = tmp_path_factory.mktemp("world")
    corpus = make_corpus(root, tars=2, samples=9)
    assert pretrain(corpus.config(root / "run", steps=2, warmup_steps=1)) == 0
    export(ExportConfig(root / "run", root / "model"))
    write_task(root / "task/train.tar", 12)
    write_task(root / "task/test.tar", 6)
    (root / "mask_names.json").write_text(json.dumps(segmentation.NAMES))
    (root / "object_names.json").write_text(json.dumps({each["name"]: "dog" for each in detection.CATEGORIES}))
    (root / "names.json").write_text(json.dumps({"0": "dog", "1": "cat", "2": "car"}))
    (root / "tasks.toml").write_text(
        '[[task]]\nname = "squares"\ntest = "s3://verbs/world/task/test.tar"\nmethods = ["zeroshot"]\n'
        'class_names = "s3://verbs/world/names.json"\n'
    )
    (root / "in").mkdir()
    # Keys that alternate between files: the parts overlap, and are sorted once more.
    for name, keys in (("a", (3, 1)), ("b", (2, 4))):
        rows = "".join(f"k{key}\ta dog and a cat\tall\n" for key in keys)
        (root / "in" / f"{name}.tsv").write_text(f"key\tcaption\tset\n{rows}")
    (root / "classes.txt").write_text("n02084071\nn02121620\n")
    (root / "words.txt").write_text("pikachu = toy.n.03\n")
    (root / "only.txt").write_text("entity.n.01+\n")
    (root / "without.txt").write_text("wound.n.01\n")
    ids = [("x", "u0", [DOG]), ("x", "u1", [CAR]), ("y", "u2", []), ("y", "u3", [CAT])]
    write_label_shards(root / "ids", label_table(*ids), labeler="test", fingerprint="f" * 64)
    (root / "sidecars").mkdir()
    for number in range(2):
        sidecar = {"key": ["a", "b"], "uid": [f"u{number}", f"u{number + 2}"], "status": ["success"] * 2}
        pq.write_table(pa.table(sidecar), root / "sidecars" / f"{number:05d}.parquet")
        write_tar(root / "sidecars" / f"{number:05d}.tar", {"a.jpg": b"a", "b.jpg": b"b"})
    torch.save(released(), root / "vit.pt")
    (root / "released.pkl").write_bytes(pickle.dumps(COUNTS))
    upload(root, "world")
    return root


def write_task(path: Path, images: int) -> None:
    from tests.corpus import COLOURS
    from tests.pictures import picture

    members: dict[str, bytes] = {}
    for number in range(images):
        members[f"{path.stem}{number:03d}.png"] = picture(list(COLOURS.values())[number % 3], size=(24, 20 + number))
        members[f"{path.stem}{number:03d}.cls"] = str(number % 3).encode()
    write_tar(path, members)


def upload(root: Path, below: str) -> None:
    import boto3

    client = boto3.client("s3")
    # A bucket of its own: servers of one process hold the same ones.
    client.create_bucket(Bucket="verbs")
    for path in root.rglob("*"):
        if path.is_file() and "cache" not in path.parts:
            client.upload_file(str(path), "verbs", f"{below}/{path.relative_to(root)}")
    client.close()


def held(below: str) -> list[str]:
    """Names of what the bucket holds below a prefix."""
    import boto3

    client = boto3.client("s3")
    found = client.list_objects_v2(Bucket="verbs", Prefix=below).get("Contents", [])
    client.close()
    return [entry["Key"].removeprefix(below) for entry in found]


S3 = "s3://verbs/world"
SMALL = {"device": "cpu", "workers": "0", "batch": "4"}
MODEL = {"model": f"{S3}/model", "task.test": f"{S3}/task/test.tar", "task.class-names": f"{S3}/names.json"}
TRAIN = {"task.train": f"{S3}/task/train.tar"}
IMAGES = {
    "images": f"{S3}/images/00000.tar",
    "eval-images": f"{S3}/images/00001.tar",
    "labels": f"{S3}/labels/",
    "eval-labels": f"{S3}/labels",
    "vocabulary": f"{S3}/vocabulary.parquet",
}
PROBED = {"probe-images": f"{S3}/task/train.tar", "probe-eval-images": f"{S3}/task/test.tar"}
GIVEN: dict[str, dict[str, Any]] = {
    "pipeline label": {
        "captions": f"{S3}/in",
        "shard-column": "set",
        "key-column": "key",
        "lexicon": f"{S3}/words.txt",
        "out": "s3://verbs/made/labels/",
    },
    "pipeline explain": {"words": "a dog", "lexicon": f"{S3}/words.txt"},
    "pipeline prune": {
        "labels": f"{S3}/labels",
        "min-count": "1",
        "only": f"{S3}/only.txt",
        "without": f"{S3}/without.txt",
        "out": "s3a://verbs/made/v é%20 1.parquet",
    },
    "pipeline report": {
        "labels": "s3://verbs/made/labels",
        "captions": f"{S3}/in",
        "classes": f"{S3}/classes.txt",
        "out": "s3://verbs/made/report.html",
    },
    "pipeline check": {"labels": f"{S3}/labels", "images": f"{S3}/images", "out": "s3://verbs/made/check.json"},
    "pipeline align": {
        "labels": f"{S3}/ids/",
        "images": f"{S3}/sidecars",
        "id-column": "uid",
        "out": "s3://verbs/made/aligned",
    },
    "pipeline verify": {
        "lexicon": f"{S3}/words.txt",
        "captions": f"{S3}/in/a.tsv",
        "out": "s3://verbs/made/verify.json",
    },
    "trainer export": {"run": f"{S3}/run/", "out": "s3://verbs/made/exported/"},
    "trainer import": {
        "weights": f"{S3}/vit.pt",
        "vocabulary": f"{S3}/released.pkl",
        "classes": str(CLASSES),
        "out": "s3://verbs/made/imported",
    },
    "trainer zeroshot": {**MODEL, **TRAIN, **SMALL, "out": "s3://verbs/made/zeroshot"},
    "trainer probe": {**MODEL, **TRAIN, **SMALL, "out": "s3://verbs/made/probe", "epochs": "1", "percent": "100"},
    "trainer finetune": {**MODEL, **TRAIN, **SMALL, "out": "tuned", "epochs": "1"},
    "trainer segment": {
        **SMALL,
        "model": f"{S3}/model",
        "task.class-names": f"{S3}/mask_names.json",
        "out": "segmented",
        "image-size": "16",
        "epochs": "1",
        "blocks": "last",
        "learning-rates": "1e-3",
    },
    "trainer detect": {
        **SMALL,
        "model": f"{S3}/model",
        "task.class-names": f"{S3}/object_names.json",
        "out": "detected",
        "image-size": "64",
        "epochs": "1",
        "head-width": "16",
        "head-convolutions": "1",
        "proposals": "40",
        "boxes": "32",
    },
    "trainer transfer": {"model": f"{S3}/model", "tasks": f"{S3}/tasks.toml", **SMALL, "out": "suite"},
    "trainer feed": {**IMAGES, "batch-size": "4", "image-size": "16", "workers": "0", "seconds": "0.1"},
    "trainer plan": {**IMAGES, **PROBED, "init": f"{S3}/model"},
    "trainer pretrain": {**IMAGES, **PROBED, "init": f"{S3}/model"},
}
MADE = {
    "pipeline label": ("made/labels/", {"manifest.json"}),
    "pipeline prune": ("made/v é%20 1.parquet", {""}),
    "pipeline report": ("made/report.html", {""}),
    "pipeline check": ("made/check.json", {""}),
    "pipeline align": ("made/aligned/", {"manifest.json"}),
    "pipeline verify": ("made/verify.json", {""}),
    "trainer export": ("made/exported/", {"config.json", "model.safetensors"}),
    "trainer import": ("made/imported/", {"config.json", "model.safetensors"}),
    "trainer zeroshot": ("made/zeroshot/", {"results.json"}),
    "trainer probe": ("made/probe/", {"results.json"}),
}


@pytest.mark.parametrize("verb", [verb for verb in VERBS if TAKES in VERBS[verb].places.values()])
def test_what_takes_uris_works_on_an_object_store(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark: Any, verb: str
) -> None:
    given = GIVEN[verb]
    for option, kind in VERBS[verb].places.items():
        assert (kind == TAKES) == str(given.get(option, "")).startswith("s3"), option
    if verb == "trainer pretrain":
        given = as_options(Corpus(world / "images", world / "labels", world / "vocabulary.parquet"), tmp_path) | given
    elif verb in ("trainer segment", "trainer detect"):
        write = segmentation.write_scenes if verb == "trainer segment" else detection.write_scenes
        sides = {side: write(tmp_path / side, numbers) for side, numbers in (("train", [1, 2, 3, 4]), ("test", [5]))}
        given = given | {f"task.{side}": location for side, location in sides.items()}
    elif "trainer" in verb and any("cache" in option for option in VERBS[verb].places):
        given = given | {next(option for option in VERBS[verb].places if "cache" in option): str(tmp_path / "cache")}
    for module in ("session", "check", "align.story"):
        monkeypatch.setattr(f"pipeline.{module}.spark_session", lambda *_, **__: nullcontext(spark))
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        # Spark's workers get the environment of its Java process, which is older than the server.
        monkeypatch.setitem(spark.sparkContext.environment, name, os.environ[name])
    from pipeline.verify import load_labeler

    monkeypatch.setattr("pipeline.verify.load_labeler", lambda *_, **__: load_labeler("catlip"))
    monkeypatch.chdir(tmp_path)
    if verb == "pipeline report" and not held("made/labels/"):
        run("pipeline label", GIVEN["pipeline label"], monkeypatch)
    if verb != "pipeline label" or not held("made/labels/"):
        run(verb, given, monkeypatch)
    assert not [path for path in tmp_path.rglob("*") if "s3" in path.name]
    if verb == "pipeline label":
        # Files that overlap were sorted over both.
        assert LabelShards.open("s3://verbs/made/labels").read_all()["key"].to_pylist() == ["k1", "k2", "k3", "k4"]
    if verb in MADE:
        place, names = MADE[verb]
        assert names <= set(held(place))
        assert not [name for name in held(place) if name.startswith("_")], "leftovers"


WRITTEN = [(verb, option) for verb, (_, places, _) in VERBS.items() for option in ("out", "log") if option in places]
# Nothing is written there: they say what a run would cost.
WRITTEN.remove(("trainer plan", "out"))


@pytest.mark.parametrize(("verb", "option"), WRITTEN, ids=[" ".join(each) for each in WRITTEN])
def test_a_place_that_cannot_be_written_is_named_before_any_work(
    store: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, option: str
) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    places = ["file/x", str(tmp_path / "file/x/y"), "/proc/x/y", "gone/x", "x" * 300, "s3:b/x", ""]
    places += [str(tmp_path)] if option == "log" or verb.startswith("vocab") else []
    places += ["s3://no-such-bucket/x"] if VERBS[verb].places[option] == TAKES else []
    for place in places:
        # Of what it would read there is nothing: only who looks at the place first can name it.
        with pytest.raises((CatlipError, OSError)) as caught:
            run(verb, {**NEEDED.get(verb, {}), option: place}, monkeypatch)
        said = str(caught.value) if isinstance(caught.value, CatlipError) else str(sentence_of(caught.value))
        assert place.removesuffix("/y").removesuffix("/x") in said, said
        assert sorted(tmp_path.iterdir()) == before


def as_options(corpus: Corpus, out: Path) -> dict[str, Any]:
    """The command line of a small run, a value for each option."""
    words = command(corpus.config(out / "run", steps=2, warmup_steps=1, checkpoint_every=2, eval_every=0))[2:]
    found: dict[str, Any] = {}
    for word in words:
        if word.startswith("--"):
            option = word[2:]
            found[option] = []
        else:
            found[option].append(word)
    return found
