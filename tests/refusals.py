"""How a test says that a request is refused.

    with refused("42501", "not the caller's"):
        world.stranger.api.rpc("live_stream_end", session_id=session["id"])
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator

from postgrest import RequestError


@contextmanager
def refused(sqlstate: str, words: str = "", hint: bool = False) -> Iterator[None]:
    """The block ends in a refusal with this SQLSTATE and these words in its message, and with a hint if one is due."""
    try:
        yield
    except RequestError as error:
        assert error.sqlstate == sqlstate and words in error.message, str(error)
        assert error.hint or not hint, f"no hint: {error}"
    else:
        raise AssertionError(f"not refused; {sqlstate} was expected")
