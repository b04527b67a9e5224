"""The cache: each tar comes once and whole, the folder keeps to its size, and no death or failure is in the way."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.forks import Forks
from tests.servers import CONTENT, WebServer, s3_server, web_server
from trainer.data.tar_cache import MARKER, TarCache
from vocab.errors import InputError


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        server.files["/0.tar"] = CONTENT
        yield server


def cache_in(folder: Path, *, max_bytes: int = 1 << 30, **options: Any) -> TarCache:
    return TarCache(folder, max_bytes=max_bytes, **{"first_wait_s": 0.01, "timeout_s": 20.0, "tries": 3} | options)


def held(cache: TarCache) -> list[str]:
    """Stems of what the folder holds beside the marker: 0.cached, 1.part."""
    names = [name for name in os.listdir(cache.folder) if name != MARKER]  # noqa: PTH208
    return sorted(f"{name.rpartition('-')[0]}.{name.rpartition('.')[2]}" for name in names)


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, "this took too long"
        time.sleep(0.01)


def ask(cache: TarCache, places: list[str]) -> None:
    """What another process does."""
    for place in places:
        assert cache.local_path(place).read_bytes() == CONTENT


def test_a_local_tar_stays_where_it_is(tmp_path: Path) -> None:
    cache = cache_in(tmp_path / "cache")
    assert cache.local_path("images/0.tar") == Path("images/0.tar")
    assert cache.local_path("file:///images/a%20b.tar") == Path("/images/a b.tar")
    with pytest.raises(InputError, match="found No such file or directory; wanted a tar that can be opened"):
        cache.open(str(tmp_path / "0.tar"))


def test_a_tar_is_downloaded_once_and_kept(web: WebServer, tmp_path: Path) -> None:
    cache = pickle.loads(pickle.dumps(cache_in(tmp_path)))  # noqa: S301 - as workers get it
    place = f"{web.address}/0.tar"
    assert cache.local_path(place).read_bytes() == CONTENT
    assert cache.local_path(place).read_bytes() == CONTENT
    with cache_in(tmp_path).open(place) as file:
        assert file.read() == CONTENT
    assert web.requests == {"/0.tar": 1}
    assert held(cache) == ["0.cached"]


def test_tars_of_one_name_and_differently_signed_ones_are_kept_apart(web: WebServer, tmp_path: Path) -> None:
    cache = cache_in(tmp_path, allow_pipe=True)
    web.files["/other/0.tar"] = b"other"
    assert cache.local_path(f"{web.address}/0.tar").read_bytes() == CONTENT
    assert cache.local_path(f"{web.address}/other/0.tar").read_bytes() == b"other"
    assert cache.local_path(f"{web.address}/0.tar?signed=1").read_bytes() == CONTENT
    assert cache.local_path("pipe:echo /tmp/0.tar").read_bytes() == b"/tmp/0.tar\n"
    assert cache.local_path("pipe:echo").read_bytes() == b"\n"
    assert held(cache) == [".cached", "0.cached", "0.cached", "0.cached", "0.cached"]


def test_an_object_of_a_store_is_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with s3_server(monkeypatch):
        cache = cache_in(tmp_path)
        assert cache.local_path("s3://tars/images/a/00001.tar").read_bytes() == CONTENT * 16
        with pytest.raises(InputError, match="no tar after 1 try"):
            cache.local_path("s3://tars/images/a/00009.tar")
    assert held(cache) == ["00001.cached"]


def test_failures_that_pass_are_tried_again(web: WebServer, tmp_path: Path) -> None:
    web.statuses["/0.tar"] = [503, 503]
    assert cache_in(tmp_path).local_path(f"{web.address}/0.tar").read_bytes() == CONTENT
    assert web.requests["/0.tar"] == 3


def test_a_download_that_breaks_off_is_begun_anew(web: WebServer, tmp_path: Path) -> None:
    web.halves["/0.tar"] = 2
    assert cache_in(tmp_path).local_path(f"{web.address}/0.tar").read_bytes() == CONTENT
    assert web.requests["/0.tar"] == 3


@pytest.mark.parametrize(
    ("statuses", "halves", "requests", "found"),
    [
        ([404], 0, 1, "no tar after 1 try .status 404"),
        ([403], 0, 1, "no tar after 1 try .status 403"),
        ([503] * 9, 0, 3, "no tar after 3 tries .status 503"),
        ([], 9, 3, "no tar after 3 tries .1,152,000 of 2,304,000 bytes"),
    ],
)
def test_what_cannot_be_had_is_named_with_tries_and_cause(
    web: WebServer, tmp_path: Path, statuses: list[int], halves: int, requests: int, found: str
) -> None:
    web.statuses["/0.tar"] = statuses
    web.halves["/0.tar"] = halves
    cache = cache_in(tmp_path)
    with pytest.raises(InputError, match=found) as caught:
        cache.local_path(f"{web.address}/0.tar?secret")
    assert caught.value.thing == f"{web.address}/0.tar?..."
    assert web.requests["/0.tar?secret"] == requests
    assert held(cache) == []


def test_commands_run_only_where_allowed_and_say_how_they_failed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--allow-pipe"):
        cache_in(tmp_path).local_path("pipe:echo 0.tar")
    cache = cache_in(tmp_path, allow_pipe=True)
    place = f"pipe:echo run >> {tmp_path}.runs; echo half; echo no such bucket >&2; exit 3"
    with pytest.raises(InputError, match=r"after 3 tries .exit status 3 of the command: no such bucket"):
        cache.local_path(place)
    with pytest.raises(InputError, match="no bytes"):
        cache.local_path("pipe:true 1.tar")
    assert Path(f"{tmp_path}.runs").read_text() == "run\n" * 3
    assert held(cache) == []


@pytest.mark.parametrize("told", [True, False], ids=["size told", "size not told"])
def test_the_tar_longest_unused_makes_room(web: WebServer, tmp_path: Path, told: bool) -> None:
    for number in range(4):
        web.files[f"/{number}.tar"] = CONTENT
        if not told:
            web.unsized.add(f"/{number}.tar")
    cache = cache_in(tmp_path, max_bytes=3 * len(CONTENT) + 100)
    first, second, third, fourth = (f"{web.address}/{number}.tar" for number in range(4))
    for place in (first, second, third):
        cache.local_path(place)
        time.sleep(0.01)
    with cache.open(second) as file:
        time.sleep(0.01)
        cache.local_path(first)
        cache.local_path(fourth)
        assert held(cache) == (["0.cached", "1.cached", "3.cached"] if told else ["0.cached", "3.cached"])
        cache.local_path(third)
        assert "1.cached" not in held(cache)
        assert file.read() == CONTENT
    assert sum(path.stat().st_size for path in tmp_path.glob("*.cached")) <= cache.max_bytes


@pytest.mark.parametrize("told", [True, False], ids=["size told", "size not told"])
def test_a_tar_larger_than_the_cache_is_an_error(web: WebServer, tmp_path: Path, told: bool) -> None:
    if not told:
        web.unsized.add("/0.tar")
    cache = cache_in(tmp_path, max_bytes=len(CONTENT) - 1)
    with pytest.raises(InputError, match=r"at most the cache's 2,303,999 bytes. Let the cache in .* hold more"):
        cache.local_path(f"{web.address}/0.tar")
    assert held(cache) == []


def test_downloads_wait_for_each_other_where_the_folder_holds_one(web: WebServer, tmp_path: Path) -> None:
    web.files["/1.tar"] = CONTENT
    web.held.add("/0.tar")
    web.files["/small.tar"] = b"small"
    cache = cache_in(tmp_path, max_bytes=len(CONTENT) + 10)
    cache.local_path(f"{web.address}/small.tar")
    threads = [threading.Thread(target=cache.local_path, args=(f"{web.address}/0.tar",))]
    threads[0].start()
    wait_until(lambda: sum(path.stat().st_size for path in tmp_path.glob("0-*.part")) == len(CONTENT))
    threads.append(threading.Thread(target=cache.local_path, args=(f"{web.address}/1.tar",)))
    threads[1].start()
    wait_until(lambda: web.requests["/1.tar"] == 1)
    assert held(cache) == ["0.part", "1.part", "small.cached"]
    web.release.set()
    for thread in threads:
        thread.join()
    assert held(cache) == ["1.cached"]


def test_files_of_others_are_never_deleted(web: WebServer, tmp_path: Path) -> None:
    cache = cache_in(tmp_path, max_bytes=len(CONTENT))
    precious = [tmp_path / name for name in ("images.tar", "notes.tar.cached", "x-0123.tar.part")]
    for path in precious:
        path.write_bytes(CONTENT)
    (tmp_path / f"link-{'0' * 32}.tar.cached").symlink_to(precious[0])
    web.files["/1.tar"] = CONTENT
    for name in ("0.tar", "1.tar"):
        cache.local_path(f"{web.address}/{name}")
    assert all(path.exists() for path in precious)
    assert len(list(tmp_path.iterdir())) == 6


def test_a_folder_that_holds_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"1 entries that no cache made, 'thesis\.tex' among them"):
        cache_in(tmp_path)
    with pytest.raises(InputError, match="File exists"):
        cache_in(tmp_path / "thesis.tex")


def test_a_cache_whose_folder_went_away_is_an_error(web: WebServer, tmp_path: Path) -> None:
    cache = cache_in(tmp_path / "cache")
    (tmp_path / "cache" / MARKER).unlink()
    with pytest.raises(InputError, match="wanted a folder for copies of tars"):
        cache.local_path(f"{web.address}/0.tar")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from trainer.data.tar_cache import TarCache; from vocab.errors import InputError\n"
        "cache = TarCache(Path(sys.argv[1]), max_bytes=1 << 30, allow_pipe=True)\n"
        "try: cache.local_path('pipe:head -c 3000000 /dev/zero')\n"
        "except InputError as error: print(error, os.listdir(sys.argv[1]))"
    )
    script = 'mount -t tmpfs -o size=1m tmpfs "$1" && echo mounted && exec "$2" -c "$3" "$1"'
    ran = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-c", script, "bash", str(tmp_path), sys.executable, code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if "mounted" not in ran.stdout:
        pytest.skip(f"no small file system may be mounted here: {ran.stderr}")
    assert "found a full disk" in ran.stdout
    assert "Free space there, or let the cache hold less. ['.catlip-tar-cache']" in ran.stdout


def test_two_processes_download_a_tar_once(forks: Forks, web: WebServer, tmp_path: Path) -> None:
    web.files["/1.tar"] = CONTENT
    web.held.add("/0.tar")
    cache = cache_in(tmp_path / "cache")
    places = [f"{web.address}/{number}.tar" for number in range(2)]
    processes = forks.start(2, tmp_path / "log", ask, cache, places)
    processes.wait_for(lambda: web.requests["/0.tar"] == 1)
    time.sleep(0.5)
    web.release.set()
    assert processes.wait() == [0, 0], processes.said()
    assert web.requests == {"/0.tar": 1, "/1.tar": 1}
    assert held(cache) == ["0.cached", "1.cached"]


def test_a_killed_downloader_blocks_nobody_and_its_half_is_no_tar(forks: Forks, web: WebServer, tmp_path: Path) -> None:
    web.files |= {"/1.tar": CONTENT, "/2.tar": CONTENT}
    web.held |= {"/0.tar", "/1.tar"}
    cache = cache_in(tmp_path / "cache")
    killed = [forks.start(1, tmp_path / "log", ask, cache, [f"{web.address}/{n}.tar"]) for n in range(2)]
    parts = lambda: [path.stat().st_size for path in cache.folder.glob("*.part")]  # noqa: E731
    wait_until(lambda: parts() == [len(CONTENT)] * 2)
    waiter = threading.Thread(target=cache.local_path, args=(f"{web.address}/0.tar",))
    waiter.start()
    for process in killed:
        os.kill(process.pids[0], signal.SIGKILL)
        assert process.wait() == [-signal.SIGKILL], process.said()
    wait_until(lambda: web.requests["/0.tar"] == 2)
    web.release.set()
    waiter.join()
    assert cache.local_path(f"{web.address}/0.tar").read_bytes() == CONTENT
    cache.local_path(f"{web.address}/2.tar")
    assert held(cache) == ["0.cached", "2.cached"]


def test_tars_are_fetched_ahead_once(web: WebServer, tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    web.files["/1.tar"] = CONTENT
    web.held.add("/0.tar")
    places = [f"{web.address}/{number}.tar" for number in range(2)]
    for _ in range(100):
        cache.fetch_ahead([*places, str(tmp_path / "local.tar")])
    wait_until(lambda: web.requests["/0.tar"] == 1)
    cache.fetch_ahead(places)
    web.release.set()
    wait_until(lambda: held(cache) == ["0.cached", "1.cached"])
    assert cache.local_path(places[0]).read_bytes() == CONTENT
    cache.fetch_ahead(places)
    assert web.requests == {"/0.tar": 1, "/1.tar": 1}
    assert [thread.name for thread in threading.enumerate()].count("tars-ahead") == 1


def test_a_failure_ahead_shows_when_its_tar_is_asked_for(web: WebServer, tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    web.files["/2.tar"] = CONTENT
    cache.fetch_ahead([f"{web.address}/1.tar", f"{web.address}/2.tar"])
    wait_until(lambda: held(cache) == ["2.cached"])
    with pytest.raises(InputError, match="status 404"):
        cache.local_path(f"{web.address}/1.tar")
    assert web.requests["/1.tar"] == 2
