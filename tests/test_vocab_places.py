"""Places: one spelling of each, files read from wherever they lie, and what is known of one before any work."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.report.coverage import read_classes
from tests.servers import s3_server
from vocab.errors import CatlipError, InputError, OutputExistsError, sentence_of
from vocab.store.files import filesystem_of, write_whole
from vocab.store.locations import (
    Location,
    location_of,
    name_of,
    read_whole,
    refuse_taken,
    refuse_unwritable,
    suffix_of,
    with_locations,
)
from vocab.vocabulary import Vocabulary


@dataclass(frozen=True)
class Part:
    cache: Path | None = None


@dataclass(frozen=True)
class Options:
    labels: Location
    out: Path | None = None
    name: str = "s3://no/place"
    part: Part = field(default_factory=Part)


@pytest.fixture(scope="module")
def store() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch, s3_server(monkeypatch):
        yield


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a web server that gives the files of tmp_path."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if "secret" in self.path:
                self.send_error(403)
            else:
                super().do_GET()

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("spelt", "path"),
    [
        ("file:///d/a%20b/", "/d/a b"),
        ("file:/d/a%20b", "/d/a b"),
        ("file:/d/a b", "/d/a b"),
        ("FILE://localhost/d/%C3%A9", "/d/é"),
        ("file:////d//e/../f", "/d/f"),
        ("/d/a%20b/", "/d/a%20b"),
        ("~/a", "/home/me/a"),
        ("/d/~/a", "/d/~/a"),
    ],
)
def test_a_local_place_is_its_path_however_it_is_spelt(spelt: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert filesystem_of(spelt)[1] == path
    assert isinstance(location_of(spelt), Path)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    "spelt", ["tars/a", "tars/a/", "tars//a", "tars/a?region=us-east-1", "tars?region=us-east-1/a"]
)
def test_a_place_in_a_store_is_one_however_it_is_spelt(spelt: str) -> None:
    for scheme in ("s3", "s3a", "s3n", "S3"):
        assert filesystem_of(f"{scheme}://{spelt}")[1] == "tars/a"
    # pathlib takes one slash away
    assert filesystem_of(Path("s3://tars/a"))[1] == "tars/a"
    assert location_of(Path("s3://tars/a/")) == "s3://tars/a"


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    "name", ["a b", "a%20b", "é/ü", "a+b", "a?b", "a#b", "a&b=c", "?", "a:b", "日本.txt", "[1]{2}*"]
)
def test_names_in_a_store_are_taken_as_they_are_written(name: str) -> None:
    with write_whole(f"s3://tars/names/{name}") as file:
        file.write(b"x")
    assert read_whole(f"s3a://tars/names/{name}") == b"x"
    filesystem, path = filesystem_of("s3://tars/names")
    assert filesystem.get_file_info(f"{path}/{name}").size == 1


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("size", [3, 1 << 20])
def test_a_write_to_a_store_that_fails_leaves_what_was_there(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vocab.store.files.HELD_BYTES", 1 << 10)
    with write_whole("s3://tars/whole") as file:
        file.write(b"old")

    def fail() -> None:
        for place in ("s3://tars/whole", "s3://tars/never"):
            with write_whole(place) as file:
                file.write(b"n" * size)
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert read_whole("s3://tars/whole") == b"old"
    with pytest.raises(FileNotFoundError):
        read_whole("s3://tars/never")


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://h/x",
        "s3://",
        "s3:",
        "s3:b/x",
        "GS:b",
        "",
        "s3:///x",
        "nope://h/x",
        "http:h/x",
        "http://h/x",
        "file://other/x",
    ],
)
def test_a_uri_that_opens_nothing_is_refused(uri: str) -> None:
    with pytest.raises(InputError):
        filesystem_of(uri)


def test_files_of_a_web_server_are_read_and_nothing_is_written_there(served: str, tmp_path: Path) -> None:
    counts = pa.table({"synset": np.array([2084071], np.int32), "captions": np.array([3], np.int64)})
    Vocabulary.from_counts(counts, rows=3, min_count=1).save(tmp_path / "my vocabulary.parquet")
    (tmp_path / "é.txt").write_text("n02084071\n")
    assert Vocabulary.load(f"{served}/my%20vocabulary.parquet").names == ["dog.n.01"]
    assert Vocabulary.load(f"{served}/my vocabulary.parquet?signature=x").rows == 3
    assert read_classes(f"{served}/é.txt").tolist() == [2084071]
    with pytest.raises(InputError, match=r"no readable text file .*404"):
        read_classes(f"{served}/gone.txt")
    with pytest.raises(InputError) as caught:
        read_classes(f"{served}/gone.txt?X-Amz-Signature=secret")
    assert "gone.txt?...: found" in str(caught.value)
    assert "secret" not in str(caught.value)
    for write in (refuse_taken, refuse_unwritable, lambda place: write_whole(place).__enter__()):
        with pytest.raises(InputError, match="found an address of a web server"):
            write(f"{served}/out")


@pytest.mark.usefixtures("store")
def test_what_cannot_be_read_is_a_sentence_with_the_place(served: str) -> None:
    for place, said in {
        f"{served}/gone": "404",
        f"{served}/secret": "403",
        "http://127.0.0.1:9/x": "refused",
        "s3://tars/gone": "not exist",
        "s3://no-such-bucket/x": "",
        "gone": "No such file",
    }.items():
        with pytest.raises((OSError, CatlipError)) as caught:
            read_whole(place)
        sentence = str(sentence_of(caught.value) or caught.value)
        assert sentence.startswith(place)
        assert said in sentence


def test_the_type_of_an_option_says_whether_it_takes_uris() -> None:
    given = Options(labels="s3://b/labels/", part=Part(Path("~/cache")))
    assert with_locations(given) == Options("s3://b/labels", None, "s3://no/place", Part(Path("~/cache").expanduser()))
    assert with_locations(Options("file:///a%20b")).labels == Path("/a b")
    with pytest.raises(InputError, match=r"^--out s3://b/x: found a URI.*copy the result from there"):
        with_locations(Options("l", out=Path("s3://b/x")))
    with pytest.raises(InputError, match=r"^--part\.cache gs://b/x: found a URI.*mounted path\.$"):
        with_locations(Options("l", part=Part(Path("gs://b/x"))))


@pytest.mark.usefixtures("store")
def test_a_place_that_is_taken_is_told_from_one_that_is_new(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with write_whole("s3://tars/taken/inside") as file:
        file.write(b"x")
    for place in (tmp_path, tmp_path / "link", "s3://tars/taken", "s3://tars/taken/inside/", "s3://tars"):
        with pytest.raises(OutputExistsError):
            refuse_taken(place)
    for place in (tmp_path / "new/deep", "s3://tars/taken/other", "s3://tars/new/deep"):
        refuse_taken(place)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]
    refuse_unwritable("/dev/stderr")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_of_the_same_name_is_removed_a_day_later(tmp_path: Path, kind: str) -> None:
    names = [".v.parquet.0a1b2c3d.tmp", ".v.parquet.99999999.tmp"]
    others = [".w.parquet.0a1b2c3d.tmp", ".v.parquet.0a1b2c3d", ".v.parquet.x.tmp", "v.parquet.0a1b2c3d.tmp"]
    for name in [*names, *others]:
        path = tmp_path / name
        if kind == "folder":
            path.mkdir()
            (path / "part").write_text("")
        else:
            path.write_text("")
        if name != names[1]:
            os.utime(path, (0, 0))
    (tmp_path / ".v.parquet.11111111.tmp").symlink_to(tmp_path / others[0])
    refuse_taken(tmp_path / "v.parquet")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {names[1], ".v.parquet.11111111.tmp", *others}


def test_the_name_of_a_place() -> None:
    assert [name_of(place) for place in ("s3://b/m/", Path("a/b.JSON"), "https://h/b.json?x=/y")] == [
        "m", "b.JSON", "b.json",
    ]  # fmt: skip
    assert suffix_of("https://h/B.JSON?signature=a.b") == ".json"
