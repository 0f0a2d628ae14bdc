"""What only reads writes nothing: each function of ours, in transactions that may not write, and on a standby."""

from __future__ import annotations

import json
from typing import Any, Iterator

import psycopg
import pytest

from database import Database
from everybody import ICS
from publishing import db, near  # noqa: F401
from replica import Show, copied, mark, until

# Of the functions that are marked as changing something, since a query must not leave them out: those that only look.
LOOKING = {"require_own_message", "require_own_session", "own_influencer", "moderated_influencer"}
TIMES = {"range_start": "2030-01-01", "range_end": "2030-03-01", "after": "2030-01-01", "last_start": "2030-06-01"}


class Stage:
    """A session with what can be asked about it, and the value of every argument by its name."""

    def __init__(self, db: Database) -> None:
        self.show = show = Show(db)
        self.world = world = show.world
        session = world.read({"id": show.id})
        viewer = world.join(session, world.viewer)
        message = world.say(session, world.viewer, viewer=viewer)
        product = world.product(session)
        schedule = world.schedule(is_recurring=True, recurrence_pattern="daily")
        order = world.service.rpc(
            "live_stream_record_order", session_id=session["id"], product_id=product["product_id"], amount=5, order_reference="A-1"
        )
        link = world.influencer.api.rpc("live_stream_create_invitation", session_id=session["id"])
        self.values: dict[str, Any] = TIMES | {
            "session_id": session["id"], "id": session["id"], "code": session["session_code"], "session_code": session["session_code"],
            "influencer_id": world.influencer.influencer_id, "influencer": world.influencer.influencer_id,
            "of_influencer": world.influencer.influencer_id, "visibility": "public",
            "viewer_id": viewer["id"], "message_id": message["id"], "schedule_id": schedule["id"],
            "session_product_id": product["id"], "product_id": product["product_id"],
            "user_id": world.viewer.user_id, "invitation_id": link["invitation_id"], "token": link["token"],
            "original_starts_at": "2030-01-08T15:00Z", "starts_at": "2030-01-08T16:00Z", "title": "A show", "message": "hello",
            "reaction": "🔥", "reason": "spam", "seconds": 60, "amount": 5, "quantity": 1, "ics": ICS, "max_rows": 10,
            "scheduled_date": "2030-01-07", "scheduled_start_time": None, "recurrence_rule": "FREQ=DAILY", "value": None,
            "table_name": "live_stream_chat", "column_name": "username", "reactions": "{}", "chat": "1 day",
            "order_reference": order["order_reference"],
            "timezone": "UTC", "has_exceptions": "false", "expected_duration_minutes": 60,
        }  # fmt: skip
        self.roles = {
            "anon": {"role": "anon"},
            "authenticated": {"role": "authenticated", "sub": world.influencer.user_id},
            "service_role": {"role": "service_role"},
            "app_owner": {},
        }

    def call(self, function: dict[str, Any]) -> str:
        args = []
        for name, kind in zip(function["names"] or [], function["kinds"]):
            value = self.values.get(name)
            if kind == "anyelement":
                table = "live_stream_chat" if function["name"] == "send_message" else "live_stream_viewers"
                args.append(f'"{name}" => null::public.{table}')
            elif name == "scheduled_start_time" and "time" in kind:
                args.append(f"\"{name}\" => '{'15:00' if kind.startswith('time without') else '2030-01-07 15:00Z'}'::{kind}")
            else:
                args.append(f'"{name}" => ' + ("null" if value is None else f"'{value}'") + f"::{kind}")
        return f'select * from {function["schema"]}."{function["name"]}"({", ".join(args)})'


def functions(db: Database) -> list[dict[str, Any]]:
    """All that can be called, with the names and types of what they take."""
    return db.sql(
        """select n.nspname as schema, p.proname as name, p.proargnames[1 : p.pronargs] as names, p.provolatile = 'v' as writes,
                  array(select format_type(t, null) from unnest(p.proargtypes::oid[]) with ordinality as u (t, nth) order by nth) as kinds
             from pg_proc p join pg_namespace n on n.oid = p.pronamespace
            where n.nspname in ('public', 'live_stream') and p.prorettype <> 'trigger'::regtype order by 1, 2"""
    )


def outcomes(db: Database, stage: Stage, mode: str) -> Iterator[tuple[str, bool, str, str | None, str | None]]:
    """Of each function, called by each role in a transaction of its own: the SQLSTATE, and a transaction id if it took one."""
    with db.connect() as connection:
        connection.execute("set search_path = public, extensions")
        for function in functions(db):
            reads = not function["writes"] or function["name"] in LOOKING
            for role, claims in stage.roles.items():
                with connection.transaction(force_rollback=True):
                    if mode:
                        connection.execute(f"set transaction {mode}")
                    connection.execute("select set_config('request.jwt.claims', %s, true)", [json.dumps(claims)])
                    connection.execute(f"set local role {role}")
                    state = None
                    try:
                        with connection.transaction():
                            connection.execute(stage.call(function))
                    except psycopg.Error as error:
                        state = error.sqlstate
                    connection.execute("reset role")
                    taken = None
                    if mode != "read write" or reads:
                        (row,) = connection.execute("select pg_current_xact_id_if_assigned()::text as id").fetchall()
                        taken = row["id"]
                    yield f"{function['schema']}.{function['name']}", reads, role, state, taken


def check(db: Database, stage: Stage, mode: str) -> None:
    answered: dict[str, bool] = {}
    wrong = []
    for name, reads, role, state, taken in outcomes(db, stage, mode):
        if reads:
            answered[name] = answered.get(name, False) or state is None
            if taken is not None or state in ("25006", "XX000"):
                wrong.append((name, role, state, taken))
        # What writes is told so, in PostgreSQL's words or ours.
        elif mode != "read write" and (state == "XX000" or taken is not None):
            wrong.append((name, role, state, taken))
    assert not wrong, "\n".join(map(str, wrong))
    assert [name for name, ever in answered.items() if not ever] == []
    assert len(answered) > 30


@pytest.mark.parametrize("mode", ["read only", "read write", "isolation level repeatable read, read only"])
def test_no_function_that_reads_takes_a_transaction_id(db, mode):
    stage = Stage(db)
    stage.show.fill_the_log(20)
    check(db, stage, mode)


def test_every_function_that_reads_answers_on_a_standby(db, near):
    stage = Stage(db)
    stage.show.fill_the_log(20)
    with copied(near, standby=True) as server, server.open(db.name, schema=db.schema) as standby:
        place = mark(db)
        until(lambda: standby.value("select pg_last_wal_replay_lsn() >= %s::pg_lsn", [place]), "catching up")
        check(standby, stage, "")
        assert server.complaints() == []
