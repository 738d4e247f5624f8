"""Files from elsewhere, fetched once: an address in, a whole file in the cache out, with its digest said.

    VITPOSE_CACHE         where they are kept; default vitpose in XDG_CACHE_HOME, else in ~/.cache

Knows neither models nor detectors.
"""

import hashlib
import http.client
import os
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from vitpose.files import whole_file

_CHUNK = 1 << 20
_SECONDS = 30  # without a byte, after which a server counts as gone

Say = Callable[[str], None]


class NotThere(FileNotFoundError):
    """The server has no such file."""


def to_stderr(line: str) -> None:
    """How progress is told where nobody asks for it otherwise."""
    print(line, file=sys.stderr, flush=True)


def cache_folder() -> Path:
    """Where fetched files are kept."""
    own = os.environ.get("VITPOSE_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else (Path(shared) if shared else Path.home() / ".cache") / "vitpose"


def fetch(url: str, target: Path, *, digest: str = "", licence: str = "", say: Say = to_stderr) -> Path:
    """`target`, fetched where it is not there; what is there is taken as it is.

    Args:
        url: http or https.
        target: whole or not at all, also when the connection breaks.
        digest: how the SHA-256 of the file must begin, in hex; "" for any.
        licence: of the file, to be said.
        say: hears of what was fetched.

    Raises:
        NotThere: the server says that it has no such file. FileNotFoundError: it cannot be reached; the
            message says where to put the file. ValueError: a file with another digest.
    """
    if target.is_file():
        return target
    by_hand = f"where there is no network, put the file at {target}"
    say(f"fetching {url}")
    total = hashlib.sha256()
    size = 0
    try:
        with urlopen(Request(url, headers={"User-Agent": "vitpose"}), timeout=_SECONDS) as answer:
            expected = answer.headers.get("Content-Length")
            with whole_file(target) as beside:
                with beside.open("wb") as file:
                    while part := answer.read(_CHUNK):
                        file.write(part)
                        total.update(part)
                        size += len(part)
                if expected is not None and size != int(expected):
                    raise FileNotFoundError(
                        f"{url} broke off after {size} of {expected} bytes; try again"
                    )
                if not total.hexdigest().startswith(digest):
                    raise ValueError(
                        f"{url} has SHA-256 {total.hexdigest()}, expected one that begins with {digest}: "
                        "not the file that was published; it was not kept"
                    )
    except HTTPError as error:
        if error.code == 404:
            raise NotThere(f"there is no {url}; {by_hand}") from None
        raise FileNotFoundError(f"{url} cannot be fetched ({error}); {by_hand}") from None
    except (URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise FileNotFoundError(f"{url} cannot be fetched ({reason}); {by_hand}") from None
    except OSError as error:
        if error.errno is None:  # said above
            raise
        told = f"{target} cannot be written ({error})"
        raise OSError(f"{told}; VITPOSE_CACHE names another folder for what is fetched") from None
    said = f", licence {licence}" if licence else ""
    say(f"{target}: {size / 1e6:.1f} MB, sha256 {total.hexdigest()}{said}")
    return target
