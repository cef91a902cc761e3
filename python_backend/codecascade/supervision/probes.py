"""Answers /health/live, /health/ready and /metrics on a port of the supervisor's own."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from codecascade.supervision.state import State


def answer_probes(state: State, address: str, port: int) -> None:
    """From now on, in threads that end with this process. Raises OSError if the port cannot be used."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health/live":
                self._send(200 if state.live else 503, json.dumps({"live": state.live, "phase": state.phase}))
            elif self.path == "/health/ready":
                document = state.document()
                self._send(200 if document["ready"] else 503, json.dumps(document))
            elif self.path == "/metrics":
                self._send(200, state.metrics(), "text/plain; version=0.0.4")
            else:
                self._send(404, json.dumps({"error": f"{self.path} must be /health/live, /health/ready or /metrics"}))

        def log_message(self, *_: object) -> None:
            """Probes come every few seconds."""

        def _send(self, status: int, text: str, kind: str = "application/json") -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer((address, port), Handler)
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
