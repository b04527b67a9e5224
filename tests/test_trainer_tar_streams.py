"""Streams: bytes of tars from a web server, an S3 server and commands, and what each failure is called."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from trainer.data.tar_streams import DownloadError, open_stream
from vocab.errors import InputError

CONTENT = bytes(range(256)) * 9000


class WebServer:
    """A web server on the loopback that fails as it is told to."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.statuses: dict[str, list[int]] = {}
        """statuses that the first requests for a path get instead of it"""
        self.halves: Counter[str] = Counter()
        """requests for a path that end in the middle"""
        self.unsized: set[str] = set()
        """paths whose length is not told"""
        self.passwords: dict[str, str | None] = {}
        self.requests: Counter[str] = Counter()
        self.held: set[str] = set()
        """paths that send a half and then wait for `release`"""
        self.release = threading.Event()
        self.address = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path
        self.requests[path] += 1
        self.passwords[path] = request.headers["Authorization"]
        name = path.partition("?")[0]
        statuses = self.statuses.get(name, [])
        if statuses or name not in self.files:
            request.send_error(statuses.pop(0) if statuses else 404)
            return
        content = self.files[name]
        request.send_response(200)
        if name not in self.unsized:
            request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        middle = len(content) // 2
        request.wfile.write(content[:middle])
        if name in self.held:
            self.release.wait(60)
        if self.halves[name] > 0:
            self.halves[name] -= 1
            return
        request.wfile.write(content[middle:])


@contextmanager
def web_server() -> Iterator[WebServer]:
    told = WebServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                told.answer(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # a client that was killed

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield told
        finally:
            told.release.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


def read(place: str, *, allow_pipe: bool = False, timeout_s: float = 20.0) -> tuple[int | None, bytes]:
    with open_stream(place, allow_pipe=allow_pipe, timeout_s=timeout_s) as stream:
        return stream.size, b"".join(stream.blocks)


def failure(place: str, *, timeout_s: float = 20.0) -> tuple[str, bool]:
    with pytest.raises(DownloadError) as caught:
        read(place, allow_pipe=True, timeout_s=timeout_s)
    return str(caught.value), caught.value.passing


def test_a_web_server_gives_length_and_bytes(web: WebServer) -> None:
    web.files["/0.tar"] = CONTENT
    assert read(f"{web.address}/0.tar?signed=1#part") == (len(CONTENT), CONTENT)
    assert web.requests == {"/0.tar?signed=1": 1}


def test_a_length_that_is_not_told_is_none(web: WebServer) -> None:
    web.files["/0.tar"] = CONTENT
    web.unsized.add("/0.tar")
    assert read(f"{web.address}/0.tar") == (None, CONTENT)


def test_names_are_encoded_once_and_passwords_are_no_part_of_them(web: WebServer) -> None:
    web.files["/my%20set/%C3%A9.tar"] = b"x"
    host = web.address.removeprefix("http://")
    assert read(f"http://{host}/my set/é.tar")[1] == b"x"
    assert read(f"http://me:s%40me@{host}/my%20set/%C3%A9.tar")[1] == b"x"
    assert web.passwords["/my%20set/%C3%A9.tar"] == "Basic bWU6c0BtZQ=="


@pytest.mark.parametrize(("status", "passing"), [(404, False), (403, False), (429, True), (500, True), (503, True)])
def test_a_status_tells_whether_to_try_again(web: WebServer, status: int, passing: bool) -> None:
    web.statuses["/0.tar"] = [status]
    cause, found = failure(f"{web.address}/0.tar")
    assert f"status {status}" in cause
    assert found is passing


def test_a_server_that_is_silent_or_absent_may_be_tried_again(web: WebServer) -> None:
    web.files["/0.tar"] = CONTENT
    web.held.add("/0.tar")
    assert failure(f"{web.address}/0.tar", timeout_s=0.3) == ("TimeoutError: timed out", True)
    assert failure("http://127.0.0.1:9/0.tar")[1]


def test_an_address_that_cannot_be_is_not_tried_again() -> None:
    assert not failure("http://127.0.0.1:port/0.tar")[1]


def test_a_command_gives_its_output() -> None:
    assert read("pipe:printf 'a%s' b | cat", allow_pipe=True) == (None, b"ab")
    assert read("pipe:cat", allow_pipe=True) == (None, b"")


def test_a_command_runs_only_where_that_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--allow-pipe"):
        read(f"pipe:touch {tmp_path}/ran")
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_fails_anywhere_says_why() -> None:
    cause, passing = failure("pipe:(echo half; echo no such bucket >&2; exit 3) | cat")
    assert (cause, passing) == ("exit status 3 of the command: no such bucket", True)


def test_a_command_that_hangs_is_killed_with_all_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    assert failure(f"pipe:(sleep 1; touch {alive}) | cat", timeout_s=0.2) == (
        "no byte from the command for 0.2 s",
        True,
    )
    cause, _ = failure(f"pipe:exec >&-; sleep 1; touch {alive}", timeout_s=0.2)
    assert cause == "a command that goes on 0.2 s after its output"
    threading.Event().wait(1.2)
    assert not alive.exists()
