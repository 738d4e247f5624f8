"""The viewer's local server: `site` over HTTP, for the browser of whoever sits here.

Listens on this machine only. A request by another name than this machine's is refused, so that no page
elsewhere can have a browser read labels or write corrections.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipelines.viewer.corrections import Outdated, read_corrections, save_corrections
from pipelines.viewer.site import STATIC, NoSuchPath, Site

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_LARGEST = 512 * 2**20  # bytes of a correction file


def static(name: str) -> bytes:
    """One of the files that run in the browser."""
    return (files("pipelines.viewer") / name).read_bytes()


def make_server(site: Site, corrections: Path, port: int) -> ThreadingHTTPServer:
    """A server that is bound and not yet serving; `port` 0 takes a free one.

    Raises `ValueError` where the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # one connection for all frames
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path).lstrip("/")
            try:
                if not self._is_ours():
                    self._answer(403, "text/plain", b"by this machine's name only")
                elif path == "corrections.json":
                    document, digest = read_corrections(corrections)
                    said = {"document": document, "digest": digest, "file": corrections.name}
                    self._answer(200, "application/json", json.dumps(said).encode())
                elif path in ("", *STATIC):
                    name = path or STATIC[0]
                    self._answer(200, _TYPES[name.rpartition(".")[2]], static(name))
                else:
                    kind, content = site.get(path)
                    # Frames and labels stay what they are as long as this server runs.
                    self._answer(
                        200, kind, content, "max-age=600" if kind == "image/jpeg" else "no-store"
                    )
            except NoSuchPath as error:
                self._answer(404, "text/plain", str(error).encode())
            except (ValueError, OSError) as error:
                self._answer(500, "text/plain", str(error).encode())

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            # A form of another page cannot send this type without being asked first.
            typed = self.headers.get("Content-Type", "").startswith("application/json")
            if not self._is_ours() or self.path != "/corrections.json" or not typed or size > _LARGEST:
                self.close_connection = True
                self._answer(403, "text/plain", b"refused")
                return
            try:
                document = json.loads(self.rfile.read(size))
                before = self.headers.get("If-Match", "").strip('"')
                skeleton = site.sets[0].skeleton
                digest = save_corrections(corrections, document, skeleton, site.frames(), before)
            except Outdated as error:
                self._answer(409, "text/plain", str(error).encode())
            except (ValueError, OSError) as error:
                self._answer(400, "text/plain", str(error).encode())
            else:
                said = {"digest": digest, "file": str(corrections)}
                self._answer(200, "application/json", json.dumps(said).encode())

        def _is_ours(self) -> bool:
            host = (self.headers.get("Host") or "").rpartition(":")[0]
            return host in ("127.0.0.1", "localhost")

        def _answer(self, status: int, kind: str, content: bytes, keep: str = "no-store") -> None:
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8" if "text" in kind else kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", keep)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            try:
                self.wfile.write(content)
            except ConnectionError:  # the browser no longer wants that frame
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    try:
        return Server(("127.0.0.1", port), Handler)
    except (OSError, OverflowError) as error:
        raise ValueError(f"port {port} cannot be taken ({error}); give another --port, or 0") from None
