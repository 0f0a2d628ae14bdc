"""Which status of a session may follow which, as the tests have it."""

from __future__ import annotations

STATUSES = ("scheduled", "live", "paused", "ended", "cancelled", "error")
NEXT = {
    "scheduled": {"live", "cancelled", "error"},
    "live": {"paused", "ended", "error"},
    "paused": {"live", "ended", "error"},
    "error": {"live", "ended"},
    "ended": set(),
    "cancelled": set(),
}
ALLOWED = [(before, after) for before in STATUSES for after in STATUSES if before == after or after in NEXT[before]]
REFUSED = [(before, after) for before in STATUSES for after in STATUSES if (before, after) not in ALLOWED]
