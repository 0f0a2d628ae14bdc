"""What the SELECT policies cost a row: a count of 100,000 rows as the owner, whom no policy concerns, and as others."""

from __future__ import annotations

import json
import time
from statistics import median

from load import FIRST_OF_MANY, HOT
from report import table
from server import OWNER, Server

ROWS, TIMES = 100_000, 9
SEEN_BY = ("anon", "signed in", "the influencer")
INFLUENCER = f"00000000-0000-4000-8000-{HOT}"


def policies(server: Server) -> None:
    server.fill("ours", viewers=ROWS, messages=ROWS, first=HOT, last=FIRST_OF_MANY + 999)
    with server.connect("ours") as connection:
        connection.execute("vacuum analyze")
        (host,) = connection.execute("select user_id from public.influencers where id = %s", [INFLUENCER]).fetchall()
    claims = {
        "anon": ("anon", {"role": "anon"}),
        "signed in": ("authenticated", {"role": "authenticated", "sub": "00000000-0000-4000-9000-100000000001"}),
        "the influencer": ("authenticated", {"role": "authenticated", "sub": str(host["user_id"])}),
    }
    rows = []
    for name in ("live_stream_chat", "live_stream_viewers"):
        count = f"select count(*) as n, count(t.*) from public.{name} t"
        bare, _ = timed(server, count)
        cells = [f"`{name}`", f"{bare * 1e3:.1f} ms"]
        for who in SEEN_BY:
            took, seen = timed(server, count, *claims[who])
            cells.append(f"{took * 1e3:.1f} ms, {(took - bare) / ROWS * 1e9:+.0f} ns a row, {seen:,} seen")
        rows.append(cells)
    print(table((f"{ROWS:,} rows in 1,001 sessions", "no policy", *SEEN_BY), rows))


def timed(server: Server, query: str, role: str | None = None, claims: dict[str, str] | None = None) -> tuple[float, int]:
    """The median of some runs in seconds, and how many rows were seen."""
    took, seen = [], 0
    with server.connect("ours", "authenticator" if role else OWNER) as connection:
        connection.execute("set max_parallel_workers_per_gather = 0")
        for _ in range(TIMES):
            with connection.transaction():
                if role:
                    connection.execute(f"set local role {role}")
                    connection.execute("select set_config('request.jwt.claims', %s, true)", [json.dumps(claims)])
                begin = time.monotonic()
                seen = connection.execute(query).fetchone()["n"]
                took.append(time.monotonic() - begin)
    return median(took), seen
