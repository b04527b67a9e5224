"""Streams: bytes of tars from a web server, an S3 server and commands, and what each failure is called."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import CONTENT, WebServer, read_stream, web_server
from trainer.data.tar_streams import DownloadError
from vocab.errors import InputError


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


def failure(place: str, *, timeout_s: float = 20.0) -> tuple[str, bool]:
    with pytest.raises(DownloadError) as caught:
        read_stream(place, allow_pipe=True, timeout_s=timeout_s)
    return str(caught.value), caught.value.passing


def test_a_web_server_gives_length_and_bytes(web: WebServer) -> None:
    web.files["/0.tar"] = CONTENT
    assert read_stream(f"{web.address}/0.tar?signed=1#part") == (len(CONTENT), CONTENT)
    assert web.requests == {"/0.tar?signed=1": 1}


def test_a_length_that_is_not_told_is_none(web: WebServer) -> None:
    web.files["/0.tar"] = CONTENT
    web.unsized.add("/0.tar")
    assert read_stream(f"{web.address}/0.tar") == (None, CONTENT)


def test_names_are_encoded_once_and_passwords_are_no_part_of_them(web: WebServer) -> None:
    web.files["/my%20set/%C3%A9.tar"] = b"x"
    host = web.address.removeprefix("http://")
    assert read_stream(f"http://{host}/my set/é.tar")[1] == b"x"
    assert read_stream(f"http://me:s%40me@{host}/my%20set/%C3%A9.tar")[1] == b"x"
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
    assert read_stream("pipe:printf 'a%s' b | cat", allow_pipe=True) == (None, b"ab")
    assert read_stream("pipe:cat", allow_pipe=True) == (None, b"")


def test_a_command_runs_only_where_that_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--allow-pipe"):
        read_stream(f"pipe:touch {tmp_path}/ran")
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
    assert cause == "a command that still runs 0.2 s after the end of its output"
    threading.Event().wait(1.2)
    assert not alive.exists()
