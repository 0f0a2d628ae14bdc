"""Every cell of the access matrix, tried; that the matrix speaks of everything there is; and README.md's table of it."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

import access
from access import STATES, Matrix, Scene, State, Trial, Unclear, agrees
from people import people
from sizes import LONG

MATRIX = access.read()
# Grants and policies are the same on both kinds of database; each kind of state is tried on the plain one too.
FEWER = [State("scheduled", "unlisted", "off"), State("live", "public", "on"), State("live", "private", "on"), State("ended", "public", "off")]


def is_chosen(table, action, role, state, states):
    """Whether the short form tries the cell: of those with one line for an answer, one, anywhere among these states."""
    line = MATRIX.line(table, action, role, state)
    same = [one for one in states if MATRIX.line(table, action, role, one) is line]
    return random.Random(f"{table} {action} {role} {line.number}").choice(same) == state


def wrong_cells(db, states, all_states):
    """What does not happen as the matrix says, of all cells of these states, which are some of all."""
    # What the worker sees to in the background would change rows under the scenes.
    db.sql(f"alter database {db.name} set live_stream.background_worker = off")
    trial, world = Trial(db), people(db)
    wrong = []
    try:
        for state in states:
            scene = Scene(world, state, trial)
            for table in MATRIX.tables.values():
                if table.name == "influencers" and db.is_supabase:
                    continue
                for action in table.actions:
                    for role in MATRIX.roles:
                        if not LONG and not is_chosen(table.name, action, role, state, all_states):
                            continue
                        answer = MATRIX.answer(table.name, action, role, state)
                        outcome = scene.outcome(MATRIX, table.name, action, role)
                        if not agrees(answer, outcome):
                            wrong.append(f"{table.name}, {action}, {role}, {state}: {answer} is right, {outcome} happens")
    finally:
        trial.close()
    return wrong


@pytest.mark.parametrize("kind, states", [("supabase", STATES), ("plain", FEWER)], ids=["supabase", "plain"])
def test_every_cell(server, kind, states):
    """In two databases at a time: the transactions of one do not wait for those of the other. In the short form one cell
    of each line of the matrix and role, instead of each."""

    def half(some):
        with server.database(kind) as db:
            return wrong_cells(db, some, states)

    with ThreadPoolExecutor(2) as threads:
        halves = list(threads.map(half, (states[::2], states[1::2])))
    wrong = [cell for half in halves for cell in half]
    assert not wrong, f"{len(wrong)} cells:\n" + "\n".join(wrong[:50])


# That the matrix is whole.


def test_every_cell_has_one_answer():
    cells = 0
    for table in MATRIX.tables.values():
        for action in table.actions:
            for role in MATRIX.roles:
                for state in STATES:
                    MATRIX.answer(table.name, action, role, state)
                    cells += 1
    assert cells > 30_000


def test_every_line_is_the_answer_of_a_cell():
    for table in MATRIX.tables.values():
        for action, lines in table.actions.items():
            used = set()
            for role in MATRIX.roles:
                for state in STATES:
                    found = [line for line in lines if line.speaks_of(state)]
                    named = [line for line in found if line.roles and role in line.roles]
                    used |= {line.number for line in named or found if line.roles is None or role in line.roles}
            assert {line.number for line in lines} == used, (table.name, action)


def test_a_table_has_every_action():
    for table in MATRIX.tables.values():
        kinds = [kind for kind in table.classes]
        actions = ["select", *(["insert", "delete"] if kinds else [])]
        actions += [f"{verb} {kind}" for verb in ("insert", "update") for kind in kinds]
        assert sorted(table.actions) == sorted(actions), table.name


@pytest.mark.parametrize("kind", ["plain", "supabase"])
def test_everything_in_public_is_in_the_matrix(server, kind):
    """A new table, view or column must be thought about."""
    with server.connect(kind) as connection:
        rows = connection.execute(
            "select c.relname, c.relkind::text, array_agg(a.attname::text) as columns from pg_class c"
            " join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
            " where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f') group by c.oid, 1, 2"
        ).fetchall()
    there = {row["relname"]: row for row in rows if row["relname"] not in MATRIX.not_ours}
    assert sorted(there) == sorted(MATRIX.tables)
    for table in MATRIX.tables.values():
        columns = [column for kind in table.classes.values() for column in kind]
        if there[table.name]["relkind"] == "v":
            assert columns == []
        elif not (kind == "supabase" and table.name == "influencers"):
            assert sorted(columns) == sorted(there[table.name]["columns"]), table.name


@pytest.mark.parametrize(
    "lines, words",
    [
        ("a | always | yes", "lines with one: none"),
        ("a, b | always | yes\n    b | live | none", "lines with one: 5, 6"),
        ("others | live | yes\n    others | public | none\n    others | always | none", "lines with one: 5, 6, 7"),
        ("a | alive | yes", "unknown state alive"),
        ("c | always | yes", "unknown role c"),
    ],
)
def test_a_matrix_with_a_gap_or_two_answers_is_refused(lines, words):
    with pytest.raises(Unclear, match=words):
        matrix = Matrix(f"roles a b\ntable t\n  class x: y\n  select\n    {lines}\n")
        for role in ("a", "b"):
            matrix.answer("t", "select", role, State("live", "public", "on"))


def test_the_readme_shows_the_matrix():
    page = access.README.read_text()
    assert page == access.with_security_table(page), "run python tests/access.py"
