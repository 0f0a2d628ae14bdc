"""Policies cost a statement, not a row: subscribers and pages of rows are many, and who is calling does not change."""

from __future__ import annotations

import json
import re

import pytest

from people import people
from sizes import both_shapes, own_db

pytestmark = both_shapes

# Called for each row that the rest of the condition leaves, with the reason.
PER_ROW = {
    # A BEFORE trigger sets it for the row that the statement itself inserts: asked once, it would be asked too early.
    ("live_stream_viewers", "live_stream.viewer_id()"),
}


def plan_of(db, role, claims, statement):
    with db.connect("authenticator") as connection, connection.transaction():
        connection.execute(f"set local role {role}")
        connection.execute("select set_config('request.jwt.claims', %s, true)", [claims])
        (row,) = connection.execute(f"explain (verbose, format json) {statement}").fetchall()
        return row["QUERY PLAN"][0]["Plan"]


def nodes(plan, of_statement=True):
    """Each node, and whether it runs for rows rather than once for the statement."""
    once = plan.get("Parent Relationship") == "InitPlan"
    yield plan, of_statement and not once
    for child in plan.get("Plans", []):
        yield from nodes(child, of_statement and not once)


def calls_per_row(plan):
    found = set()
    for node, per_row in nodes(plan):
        if per_row:
            for key in ("Filter", "Index Cond", "Join Filter", "Hash Cond", "Recheck Cond", "One-Time Filter"):
                if key != "One-Time Filter":
                    found |= set(re.findall(r"live_stream\.\w+\([^()]*\)", node.get(key, "")))
    return found


@pytest.fixture
def tables(db):
    rows = db.sql(
        "select c.relname as name from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'"
        " and c.relrowsecurity and c.relname like 'live\\_stream\\_%' order by 1"
    )
    return [row["name"] for row in rows]


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_who_is_calling_is_asked_once(db, tables, role):
    person = people(db).viewer
    claims = json.dumps({"role": role} | ({"sub": person.user_id} if role == "authenticated" else {}))
    seen = set()
    for table in tables:
        for statement in ("select * from public.{}", "delete from public.{}", "update public.{} set {} = {}"):
            column = db.value("select attname from pg_attribute where attrelid = %s::regclass and attnum = 1", [f"public.{table}"])
            may = "select" if statement.startswith("select") else statement[:6]
            if not db.value("select has_table_privilege(%s, %s, %s)", [role, f"public.{table}", may]):
                continue
            text = statement.format(table, column, column)
            seen |= {(table, call) for call in calls_per_row(plan_of(db, role, claims, text))}
    assert seen - PER_ROW == set()
    assert seen >= PER_ROW, "an exception that is none any more"


@own_db("alters policies")
def test_the_test_sees_a_call_for_each_row(db):
    db.owner("create policy careless on public.live_stream_products for select to public using (session_id = live_stream.uid())")
    plan = plan_of(db, "anon", "{}", "select * from public.live_stream_products")
    assert calls_per_row(plan) == {"live_stream.uid()"}
