"""How much of the suite runs: its short form (`make test`), or all of it (`make test-long`).

    @both_shapes                         # runs on a plain and on a Supabase-shaped database, in the short form too
    @own_db("drops a column")            # in a database that no other test sees, and why
    rules = scale(2_000, 20_000)         # short, long
    @pytest.mark.parametrize("limit", scale([1, 300], [1, 20, 300, 1_400]))
"""

from __future__ import annotations

import os
from typing import TypeVar

import pytest

LONG = os.environ.get("TEST_LONG") == "1"

both_shapes = pytest.mark.both_shapes
own_db = pytest.mark.own_db

T = TypeVar("T")


def scale(short: T, long: T) -> T:
    """A test of which there is a short form is the same test with less of something; its docstring says both sizes."""
    return long if LONG else short
