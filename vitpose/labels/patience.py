"""Object storage that is away for a minute: asked again, with one line, for five.

S3 answers 503 when it is asked too much, and networks break. What is wrong for good (no such bucket, no
right to it) ends at once, as an `OSError` of one line.
"""

import random
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

PATIENCE_S = 300.0
"""Asked again for so long."""
LONGEST_S = 20.0
"""Between two tries."""

_PASSING = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "ThrottlingException"}
_AGAIN = {"ConditionalRequestConflict", "OperationAborted"}
"""Two put the same object at one moment; who is asked again finds out who was first."""
_ABSENT = {"NoSuchKey", "NoSuchUpload", "404", "NotFound"}


class Away(OSError):
    """The storage did not answer for `PATIENCE_S`."""


Answer = TypeVar("Answer")

_told_at = -1e9


def patiently(call: Callable[[], Answer], place: Any) -> Answer:
    """What `call`, a request of boto3's, gives; tried again while `place`'s storage is away.

    Raises:
        FileNotFoundError: no such object or bucket. FileExistsError: a condition on what is there is
            not met. PermissionError: no right to it. Away: no answer for `PATIENCE_S`. OSError:
            something else.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    began, wait = time.monotonic(), 0.2
    while True:
        try:
            return call()
        except ClientError as error:
            told, passing = _told(error, place)
        except BotoCoreError as error:
            told = OSError(f"{place}: {str(error) or type(error).__name__}")
            passing = _of_the_network(error)
        if not passing:
            raise told from None
        spent = time.monotonic() - began
        if spent > PATIENCE_S:
            raise Away(f"{told}; given up after {spent:.0f} s, run this again when it answers") from None
        _say(f"{told}; trying again, for up to {PATIENCE_S / 60:g} minutes")
        time.sleep(wait * random.uniform(0.5, 1))
        wait = min(2 * wait, LONGEST_S)


def _told(error: Any, place: Any) -> tuple[OSError, bool]:
    """A client's error as one of Python's, and whether it may pass."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    said = f"{place}: the storage answers {code or status}"
    if code in _PASSING or status >= 500 or status == 429 or code in _AGAIN:
        return OSError(said), True
    if code in _ABSENT:
        return FileNotFoundError(f"nothing at {place}"), False
    if code == "NoSuchBucket":
        return FileNotFoundError(f"{place}: there is no such bucket; make it, or mend the name"), False
    if status == 412:
        return FileExistsError(f"{place} is there, or is another one now"), False
    if status in (401, 403):
        return PermissionError(f"{said}; mend the credentials or their rights"), False
    return OSError(f"{said}: {error}"), False


def _of_the_network(error: Exception) -> bool:
    from botocore import exceptions

    return isinstance(
        error,
        exceptions.HTTPClientError | exceptions.ConnectionError | exceptions.IncompleteReadError,
    )


def _say(line: str) -> None:
    """Once an outage: not again within `PATIENCE_S`."""
    global _told_at
    if time.monotonic() - _told_at > PATIENCE_S:
        _told_at = time.monotonic()
        print(line, file=sys.stderr, flush=True)
