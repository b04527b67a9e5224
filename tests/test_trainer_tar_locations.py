"""Places: what patterns name, on this machine, in an S3 server, on the web and in commands; and what labels call it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.reading.inputs import list_inputs
from tests.conftest import ROOT
from tests.servers import CONTENT, read_stream, s3_server
from trainer.data.tar_locations import is_local, label_path, list_tars, local_name, shown_tar
from trainer.data.tar_streams import STORE_BLOCK, DownloadError
from vocab.errors import InputError


@pytest.fixture(scope="module")
def s3() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch, s3_server(monkeypatch):
        yield


def touch(*paths: Path) -> list[str]:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return [str(path) for path in paths]


def test_local_folders_globs_braces_and_files_are_listed_once_in_order(tmp_path: Path) -> None:
    tars = touch(*(tmp_path / name for name in ("a/00000.tar", "a/00001.tar", "b/00000.tar")))
    touch(tmp_path / "a/00000.parquet", tmp_path / "a/._00000.tar")
    assert list_tars([str(tmp_path)]) == tars
    patterns = [f"{tmp_path}/*/00000.*", f"{tmp_path}/a/{{00000..00001}}.tar", tars[0], f"file://{tars[0]}"]
    assert list_tars(patterns) == tars
    assert list_tars([f"{tmp_path}/**/*.tar"]) == tars


def linked(folder: Path, *, loop: bool = False) -> list[str]:
    """A folder with links to a tar, to a folder and to one that holds a link, and with what is left out; its tars."""
    wanted = touch(folder / "in/0.tar", folder / "in/deep/er/1.tar")
    touch(folder / "far/2.tar", folder / "farther/3.tar")
    (folder / "in/far").symlink_to(folder / "far")
    (folder / "far/on").symlink_to("../farther")
    (folder / "in/4.tar").symlink_to("far/2.tar")
    left_out = ("_5.tar", ".6.tar", "__MACOSX/7.tar", ".git/8.tar", "9.tar.zst", "#recycle/4.tar", "deep/@eaDir/4.tar")
    touch(*(folder / "in" / name for name in left_out))
    if loop:
        (folder / "farther/back").symlink_to(folder / "in")
        (folder / "in/deep/here").symlink_to(".")
    return sorted([*wanted, *(f"{folder}/in/{name}" for name in ("far/2.tar", "far/on/3.tar", "4.tar"))])


@pytest.mark.parametrize("pattern", ["in", "in/", "in/**/*.tar", "in/**", "./**/in/**/[0-9].tar"])
def test_linked_folders_and_tars_are_found_as_the_labelling_job_finds_them(tmp_path: Path, pattern: str) -> None:
    wanted = linked(tmp_path)
    assert list_tars([f"{tmp_path}/{pattern}"]) == wanted
    assert [file.path for file in list_inputs((f"{tmp_path}/in",), "webdataset").files] == wanted


@pytest.mark.parametrize("pattern", ["in", "in/**/*.tar", "i*/**/*.tar"])
def test_links_in_a_circle_add_nothing(tmp_path: Path, pattern: str) -> None:
    wanted = linked(tmp_path, loop=True)
    assert list_tars([f"{tmp_path}/{pattern}"]) == wanted
    assert [file.path for file in list_inputs((f"{tmp_path}/in",), "webdataset").files] == wanted


@pytest.mark.parametrize("name", ["1.tar", "folder", "deep/1.tar", "self"])
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "in/0.tar", tmp_path / "in/deep/2.tar")
    (tmp_path / "in" / name).symlink_to("self" if name == "self" else "gone")
    message = f"in/{name}: found a link that leads nowhere.*Fix or remove it"
    with pytest.raises(InputError, match=message):
        list_tars([f"{tmp_path}/in"])
    with pytest.raises(InputError, match=message):
        list_inputs((f"{tmp_path}/in",), "webdataset")


@pytest.mark.parametrize("name", ["1.tar.gz", "b/1.tgz", "b/2.tar.gz"])
def test_a_tar_that_lies_there_compressed_alone_is_not_passed_over(tmp_path: Path, name: str) -> None:
    tars = touch(tmp_path / "0.tar")
    touch(tmp_path / "0.tar.gz", tmp_path / "0.tgz", tmp_path / "b/_2.tgz")
    assert list_tars([str(tmp_path)]) == list_tars([f"{tmp_path}/*"]) == tars
    touch(tmp_path / name)
    for place in ("", "**", "{b,.}/*", f"**/{Path(name).name}"):
        with pytest.raises(InputError, match=rf"{name}: found a file compressed with gzip.*gzip -d.*\*\.tar"):
            list_tars([f"{tmp_path}/{place}"])
    assert list_tars([f"{tmp_path}/**/*.tar"]) == tars


def test_a_file_whose_name_looks_like_a_glob_is_found(tmp_path: Path) -> None:
    tars = touch(tmp_path / "[0].tar")
    assert list_tars(tars) == tars


@pytest.mark.parametrize("pattern", ["gone.tar", "*.tar", "{0..3}.tar", "", "empty"])
def test_a_pattern_without_tars_is_an_error(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="wanted a WebDataset tar"):
        list_tars([f"{tmp_path}/{pattern}"])


def test_an_empty_pattern_is_an_error() -> None:
    with pytest.raises(InputError, match="wanted a WebDataset tar"):
        list_tars([""])


def test_exact_names_elsewhere_are_taken_as_they_are() -> None:
    # Nobody answers at these addresses.
    assert list_tars(["s3://gone/x/{1..0}.tar", "s3a://gone/0.tar?versionId=4", "hdfs://gone:8020/0.tar"]) == [
        "hdfs://gone:8020/0.tar",
        "s3://gone/x/0.tar",
        "s3://gone/x/1.tar",
        "s3a://gone/0.tar?versionId=4",
    ]
    assert list_tars(["https://h.invalid/{0..1}.tar?key=*[a]", "http://[::1]/0.tar"]) == [
        "http://[::1]/0.tar",
        "https://h.invalid/0.tar?key=*[a]",
        "https://h.invalid/1.tar?key=*[a]",
    ]


@pytest.mark.parametrize(
    "pattern",
    ["http://h.invalid/images/", "https://h.invalid/*.tar", "https://h.invalid/[01].tar", "https://h.invalid/?f=0.tar"],
)
def test_a_web_server_lists_nothing(pattern: str) -> None:
    with pytest.raises(InputError, match="a folder or glob on a web server"):
        list_tars([pattern])


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("nonsense://bucket/0.tar", "a scheme that fsspec does not know"),
        ("file://folder/0.tar", "a host in a file's URI"),
        ("s3://bucket/{0..999999999}.tar", "more than 10,000,000 names"),
    ],
)
def test_what_cannot_be_a_place_is_an_error(pattern: str, found: str) -> None:
    with pytest.raises(InputError, match=found):
        list_tars([pattern])


def test_a_missing_backend_is_named_with_its_remedy() -> None:
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from trainer.data.tar_locations import list_tars; from vocab.errors import MissingRequirementError\n"
        "try: list_tars(['s3://bucket/0.tar'])\n"
        "except MissingRequirementError as error: print(error)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert "s3://: found no package that opens it" in printed
    assert "pip install '.[remote]'" in printed


def test_a_command_is_listed_only_where_that_is_allowed() -> None:
    pattern = "pipe:aws s3 cp s3://b/{0..1}.tar - | awk '{a,b}'"
    with pytest.raises(InputError, match="Pass --allow-pipe"):
        list_tars([pattern])
    assert list_tars([pattern], allow_pipe=True) == [
        "pipe:aws s3 cp s3://b/0.tar - | awk '{a,b}'",
        "pipe:aws s3 cp s3://b/1.tar - | awk '{a,b}'",
    ]


@pytest.mark.usefixtures("s3")
def test_an_object_store_lists_folders_and_globs() -> None:
    in_a = ["s3://tars/images/a/00000.tar", "s3://tars/images/a/00001.tar"]
    in_b = ["s3://tars/images/b/00000.tar"]
    for folder in ("s3://tars/images", "s3://tars/images/"):
        assert list_tars([folder]) == in_a + in_b
    assert list_tars(["s3://tars/images/*/00000.*"]) == in_a[:1] + in_b
    assert list_tars(["s3://tars/**/00000.tar"]) == [*in_a[:1], *in_b, "s3://tars/other/00000.tar"]
    assert list_tars(["s3a://tars/other"]) == ["s3a://tars/other/00000.tar"]
    assert list_tars(["s3://tars/images/{a,b}"]) == in_a + in_b


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize("pattern", ["s3://tars/empty/", "s3://tars/images/a/*.zip", "s3://no-such-bucket/images"])
def test_an_object_store_without_such_tars_is_an_error(pattern: str) -> None:
    with pytest.raises(InputError, match="wanted a WebDataset tar"):
        list_tars([pattern])


@pytest.mark.usefixtures("s3")
def test_an_object_gives_length_and_bytes_in_blocks() -> None:
    assert len(CONTENT) * 16 > STORE_BLOCK
    size, content = read_stream("s3://tars/images/a/00001.tar")
    assert size == len(CONTENT) * 16
    assert content == CONTENT * 16


@pytest.mark.usefixtures("s3")
def test_an_absent_object_is_not_tried_again() -> None:
    with pytest.raises(DownloadError) as caught:
        read_stream("s3://tars/images/a/00009.tar")
    assert not caught.value.passing


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("images/emoji/00017.tar", "images/emoji/00017.tar"),
        ("images/what?.tar#1.tar", "images/what?.tar#1.tar"),
        ("file:///a%20b/00017.tar", "/a b/00017.tar"),
        ("s3://bucket/emoji/00017.tar", "bucket/emoji/00017.tar"),
        ("s3://bucket/00017.tar?versionId=4", "bucket/00017.tar"),
        ("s3://bucket/a%20#1.tar", "bucket/a%20#1.tar"),
        ("https://me:secret@host:80/my%20set/00017.tar?X-Amz-Signature=x.tar#y", "host:80/my set/00017.tar"),
        ("pipe:aws s3 cp s3://b/x/00017.tar -", "b/x/00017.tar"),
        ("pipe:cat 1.tar '2.tar'|cat", "2.tar"),
        ("pipe:curl -s 'https://h/x/00017.tar?a=b.tar' | cat", "h/x/00017.tar"),
        ("pipe:get --key=x/00017.tar", "x/00017.tar"),
    ],
)
def test_labels_are_found_by_the_path_alone(place: str, path: str) -> None:
    assert label_path(place) == path


def test_a_command_that_names_no_tar_has_no_labels() -> None:
    with pytest.raises(InputError, match=r"a word that ends in \.tar"):
        label_path("pipe:cat images.zip")


def test_local_places_are_told_by_their_form() -> None:
    assert [is_local(place) for place in ("a.tar", "/a.tar", "file:/a.tar", "file:///a.tar", "a:b.tar")] == [True] * 5
    assert [is_local(place) for place in ("pipe:cat a.tar", "s3://b/a.tar", "HTTP://h/a.tar")] == [False] * 3
    assert [local_name(place) for place in ("a%20.tar", "file:/a%20.tar", "file://localhost/a")] == [
        "a%20.tar",
        "/a .tar",
        "/a",
    ]


def test_messages_hide_passwords_and_signatures() -> None:
    assert shown_tar("https://me:secret@host/0.tar?X-Amz-Signature=secret") == "https://host/0.tar?..."
    assert shown_tar("s3://bucket/0.tar") == "s3://bucket/0.tar"


def test_a_command_is_shown_by_its_tar_alone() -> None:
    assert shown_tar("pipe:curl -u me:word 'https://h/x/00017.tar?sig=b.tar' | cat") == "pipe:... 00017.tar"
    assert shown_tar("pipe:cat secret.zip") == "pipe:..."
    with pytest.raises(InputError, match=r"^pipe:\.\.\. 00017\.tar: found a shell command"):
        list_tars(["pipe:curl -u me:word https://h/x/00017.tar"])
    with pytest.raises(InputError) as caught:
        list_tars(["https://me:secret@host/folder/?token=secret"])
    assert "secret" not in str(caught.value)
