"""Which media type PostgREST 14 answers a call of a function with, and what it sends (Plan/Negotiate.hs, Response.hs).

    answer = fetch(api, "live_stream_calendar_feed", "text/html, */*;q=0.8", influencer_id=i)
    answer.status, answer.headers["content-type"], answer.body
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from postgrest import Api, RequestError, _q, _Query, _text

BUILT_IN = {"*/*": "application/json", "application/json": "application/json", "text/csv": "text/csv", "application/geo+json": "application/geo+json"}
WITHOUT_CHARSET = ("application/octet-stream",)


@dataclass
class Answer:
    """Names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: str


def accepted(accept: str | None) -> list[str]:
    """What a client asks for, what it likes most first; of what it likes alike, the more special first."""
    wanted = []
    for item in (accept or "*/*").split(","):
        media, *parameters = (part.strip() for part in item.split(";"))
        quality = next((float(part[2:]) for part in parameters if part.startswith("q=")), 1.0)
        special = 0 if media == "*/*" else 1 if media.endswith("/*") else 2
        wanted.append((-quality, -special, len(wanted), media))
    return [media for *_, media in sorted(wanted)]


def handlers(api: Api, function: str) -> dict[str, tuple[str, str]]:
    """Of each media type that a function has a handler for: what it is sent as, and the domain that makes it."""
    with api._gateway._connect() as connection:
        rows = connection.execute(
            "select n.nspname as schema, t.typname as name from pg_proc p join pg_type t on t.oid = p.prorettype"
            " join pg_namespace n on n.oid = t.typnamespace where p.proname = %s and p.pronamespace = 'public'::regnamespace"
            " and t.typbasetype <> 0 and not p.proretset and p.prokind = 'f'",
            [function],
        ).fetchall()
    found = {}
    for row in rows:
        name = row["name"].lower()
        if name == "*/*" or re.fullmatch(r"[A-Za-z0-9.-]+/[A-Za-z0-9.+-]+", name):
            sent = "application/octet-stream" if name == "*/*" else name
            found[name] = sent, f"{_q(row['schema'])}.{_q(row['name'])}"
    return found


def fetch(api: Api, function: str, accept: str | None = None, method: str = "GET", **args: object) -> Answer:
    """The answer to a GET or HEAD of a function that returns one value."""
    own = handlers(api, function)
    chosen = None
    for media in accepted(accept):
        if media.startswith("application/vnd.pgrst."):
            chosen = media, None
        elif "*/*" in own:
            chosen = own["*/*"]
        elif media in own:
            chosen = own[media]
        elif media in BUILT_IN:
            chosen = BUILT_IN[media], None
        if chosen:
            break
    if chosen is None:
        return Answer(406, {"content-type": "application/json; charset=utf-8"}, "")
    sent, domain = chosen
    query = _Query().text(f"with pgrst_source as (select pgrst_call.* from (select public.{_q(function)}(")
    for position, (name, value) in enumerate(args.items()):
        query.text(f"{', ' if position else ''}{_q(name)} := ").param(_text(value))
    body = "''::text" if method == "HEAD" else f"{domain}(_postgrest_t.pgrst_scalar)" if domain else "json_agg(_postgrest_t.pgrst_scalar)->0"
    query.text(
        ") as pgrst_scalar) pgrst_call) select null::bigint as total_result_set, 1 as page_total, " + body + " as body,"
        " nullif(current_setting('response.headers', true), '') as response_headers,"
        " nullif(current_setting('response.status', true), '') as response_status,"
        " '' as response_inserted from (select * from pgrst_source) _postgrest_t"
    )
    headers = {"accept": accept} if accept is not None else {}
    try:
        row = api._answer(method, f"/rpc/{function}", query, **headers)
    except RequestError as error:
        told = {"code": error.sqlstate, "message": error.message, "details": error.detail, "hint": error.hint}
        return Answer(error.status, {"content-type": "application/json; charset=utf-8"}, json.dumps(told))
    told = {"content-type": sent + ("" if sent in WITHOUT_CHARSET or domain else "; charset=utf-8")}
    for one in json.loads(row["response_headers"] or "[]"):
        ((name, value),) = one.items()
        told[name.lower()] = value
    return Answer(int(row["response_status"] or 200), told, row["body"] if domain or method == "HEAD" else json.dumps(row["body"]))
