"""A small web server with files that misbehaves on request, for the download tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(slots=True)
class FileServer:
    """files: path → content. asked: (path, Range header) of every request so far, passwords: its Authorization header.

    cut_after: the next answers end after so many bytes of their body, one per answer; break_after: the
    next answer is of unknown length and breaks off after so many. resumes: whether Range is honoured.
    status: answers with this status instead. lie: claims a file of this size.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    passwords: list[str | None] = field(default_factory=list)
    cut_after: list[int] = field(default_factory=list)
    break_after: int | None = None
    resumes: bool = True
    status: int | None = None
    lie: int | None = None


@contextmanager
def file_server() -> Iterator[FileServer]:
    """A server on a free loopback port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with suppress(ConnectionError):  # the client may leave early
                _answer(self, server)
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = FileServer(f"http://127.0.0.1:{http.server_address[1]}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def _answer(handler: BaseHTTPRequestHandler, server: FileServer) -> None:
    asked = handler.headers["Range"]
    server.asked.append((handler.path, asked))
    server.passwords.append(handler.headers["Authorization"])
    content = server.files.get(handler.path)
    if server.status or content is None:
        handler.send_error(server.status or 404)
        return
    start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.resumes else 0
    if server.break_after:
        server.break_after, size = None, server.break_after
        _start_chunk(handler, content[:size])
        return
    if start >= len(content) > 0:
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(content)}")
        handler.end_headers()
        return
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    handler.send_header("Content-Type", "text/html" if handler.path.endswith("/") else "application/octet-stream")
    handler.send_header("Content-Length", str(server.lie or len(content) - start))
    handler.end_headers()
    body = content[start:]
    handler.wfile.write(body[: server.cut_after.pop(0)] if server.cut_after else body)


def _start_chunk(handler: BaseHTTPRequestHandler, part: bytes) -> None:
    """An answer of unknown length that breaks off after its first chunk."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
