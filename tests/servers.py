"""A web server and an S3 server on the loopback, for tests of streams and remote tars."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from trainer.data.tar_streams import open_stream

CONTENT = bytes(range(256)) * 9000


class WebServer:
    """A web server on the loopback whose failures a test chooses."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.statuses: dict[str, list[int]] = {}
        """statuses that answer the first requests for a path"""
        self.halves: Counter[str] = Counter()
        """how many responses to a path break off in the middle"""
        self.unsized: set[str] = set()
        """paths whose responses have no Content-Length"""
        self.passwords: dict[str, str | None] = {}
        self.requests: Counter[str] = Counter()
        self.held: set[str] = set()
        """paths whose responses wait for `release` after the first half"""
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
    """Serve from a thread for as long as the context lasts."""
    state = WebServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                state.answer(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # a client that was killed

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            state.release.set()
            server.shutdown()
            thread.join()


def read_stream(place: str, *, allow_pipe: bool = False, timeout_s: float = 20.0) -> tuple[int | None, bytes]:
    """Read a whole stream: its announced size, and its bytes."""
    with open_stream(place, allow_pipe=allow_pipe, timeout_s=timeout_s) as stream:
        return stream.size, b"".join(stream.blocks)


S3_FILES = {
    "images/a/00000.tar": CONTENT,
    "images/a/00001.tar": CONTENT * 16,
    "images/a/00000.parquet": b"x",
    "images/b/00000.tar": b"b",
    "other/00000.tar": b"o",
}


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run an S3 server whose bucket "tars" holds S3_FILES, and point this environment to it."""
    pytest.importorskip("s3fs", reason="the remote extra is not installed")
    server_of_moto = pytest.importorskip("moto.server", reason="moto is not installed")
    import boto3
    import s3fs

    server = server_of_moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # An instance that fsspec kept would still ask the server of an earlier test.
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    try:
        client.create_bucket(Bucket="tars")
        for key, content in S3_FILES.items():
            client.put_object(Bucket="tars", Key=key, Body=content)
        yield
    finally:
        client.close()
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()
