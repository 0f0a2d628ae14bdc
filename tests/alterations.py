"""What the owner of the tables can do to them, at random, and the way back.

    catalog = Catalog(connection)                            # of a database as it was installed
    alteration = alterations(catalog, random.Random(7))      # the same for the same seed
    alteration.do                                            # statements, run as the owner
    alteration.undo                                          # the way back; None: there is none

A statement of `do` may be refused: that is an answer too. What the statements need besides the tables is in the schema
`harness`, which `BESIDES` makes as a superuser.

In one file, as it is one list: each entry is a kind of alteration with its way back, and draws from the same catalog.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field, replace
from typing import Any, Callable

import psycopg

from database import OWNER

INSTALL = "select live_stream.install()"
OTHER_OWNER = "fuzz_other_owner"

# Types, domains, functions and tables of the harness' own. `{owner}` is the owner of the tables.
BESIDES = """
create extension if not exists file_fdw;
create foreign data wrapper harness_nothing;
create server harness_nowhere foreign data wrapper harness_nothing;
create server harness_files foreign data wrapper file_fdw;
grant usage on foreign server harness_nowhere, harness_files to {owner};
create access method harness_heap type table handler heap_tableam_handler;
create schema harness authorization {owner};
grant usage on schema harness to public;
grant create, usage on schema public, live_stream to {other};
set role {owner};
create type harness.pair as (a integer, b text);
create domain harness.a_uuid as uuid;
create domain harness.a_text as text;
create domain harness.a_integer as integer;
create domain harness.a_bigint as bigint;
create domain harness.a_boolean as boolean;
create domain harness.a_time as timestamptz;
create domain harness.a_status as public.live_stream_status;
create domain harness.never as uuid check (value is null);
create collation harness.backwards (provider = icu, locale = 'sv', deterministic = false);
create table harness.seen (at timestamptz default now(), what text);

create function harness.sees() returns trigger language plpgsql as
  $$ begin return coalesce(new, old); end $$;
create function harness.refuses() returns trigger language plpgsql as
  $$ begin raise 'the owner says no'; end $$;
create function harness.skips() returns trigger language plpgsql as
  $$ begin return null; end $$;
create function harness.keeps_old() returns trigger language plpgsql as
  $$ begin return coalesce(old, new); end $$;
-- Empties the column that is the trigger's argument.
create function harness.empties() returns trigger language plpgsql as
  $$ begin return jsonb_populate_record(new, jsonb_build_object(tg_argv[0], null)); end $$;
create function harness.writes() returns trigger language plpgsql as
  $$ begin
       if pg_trigger_depth() < 3 then
         insert into public.live_stream_viewers (session_id)
           select id from public.live_stream_sessions where status = 'live' order by id limit 1;
         update public.live_stream_sessions set title = title || '.' where status = 'live' and length(title) < 200;
       end if;
       return coalesce(new, old);
     end $$;
create function harness.deletes() returns trigger language plpgsql as
  $$ begin
       if pg_trigger_depth() < 3 then
         delete from public.live_stream_viewers
          where id = (select id from public.live_stream_viewers where user_id is null order by id limit 1);
         delete from public.live_stream_chat
          where id = (select id from public.live_stream_chat order by id limit 1);
       end if;
       return coalesce(new, old);
     end $$;
create function harness.catches() returns trigger language plpgsql as
  $$ begin
       begin
         insert into public.live_stream_chat (session_id, message)
           select id, 'caught' from public.live_stream_sessions where status = 'live' order by id limit 1;
         raise 'rolled back';
       exception when others then null;
       end;
       return coalesce(new, old);
     end $$;
create function harness.alters() returns trigger language plpgsql as
  $$ begin
       alter table public.live_stream_viewers set (fillfactor = 80);
       comment on table live_stream.metric_changes is 'altered';
       return coalesce(new, old);
     end $$;
create function harness.empties_the_log() returns trigger language plpgsql as
  $$ begin truncate live_stream.metric_changes; return coalesce(new, old); end $$;
create function harness.becomes_another() returns trigger language plpgsql as
  $$ begin
       perform set_config('request.jwt.claims', '{{"role": "service_role"}}', true);
       perform set_config('search_path', 'harness', true);
       return coalesce(new, old);
     end $$;
create function harness.lies(public.live_stream_status) returns text language sql immutable as $$ select 'live' $$;
create function harness.never(public.live_stream_status, public.live_stream_status) returns boolean
  language sql immutable as $$ select false $$;
create function harness.never(uuid, uuid) returns boolean language sql immutable as $$ select false $$;
create function harness.first_letter(text) returns text language sql immutable as $$ select left($1, 1) $$;
reset role;
"""

# Each value of any type as one of another, by its text: `{}`. Different ones stay different where there is room.
BY_TEXT = {
    "text": "{}",
    "character varying(5)": "left(md5({}), 5)::varchar(5)",
    "character(1)": "left(md5({}), 1)::char(1)",
    '"char"': 'left(md5({}), 1)::"char"',
    "name": "left({}, 60)::name",
    "bigint": "hashtextextended({}, 0)",
    "integer": "hashtext({})",
    "smallint": "(hashtext({}) % 30000)::smallint",
    "boolean": "(hashtext({}) > 0)",
    "uuid": "md5({})::uuid",
    "uuid[]": "array[md5({})::uuid]",
    "text[]": "array[{}]",
    "timestamp with time zone[]": "array[timestamptz '2030-01-01' + hashtext({}) * interval '1 second']",
    "json": "to_json({})",
    "jsonb": "to_jsonb({})",
    "numeric": "(hashtext({})::numeric / 7)",
    "double precision": "hashtext({})::double precision",
    "real": "hashtext({})::real",
    "money": "hashtext({})::money",
    "timestamp without time zone": "(timestamp '2030-01-01' + hashtext({}) * interval '1 second')",
    "timestamp with time zone": "(timestamptz '2030-01-01' + hashtext({}) * interval '1 second')",
    "date": "(date '2030-01-01' + hashtext({}) % 100000)",
    "time without time zone": "(time '00:00' + hashtext({}) * interval '1 second')",
    "interval": "(hashtext({}) * interval '1 second')",
    "inet": "(inet '10.0.0.0' + abs(hashtext({})::bigint) % 16777216)",
    "bytea": "decode(md5({}), 'hex')",
    "oid": "abs(hashtext({})::bigint)::oid",
    "xid": "abs(hashtext({})::bigint)::text::xid",
    "tid": "('(' || abs(hashtext({})::bigint) || ',1)')::tid",
    "point": "point(hashtext({}), 1)",
    "int4range": "int4range(hashtext({}), null)",
    "tsvector": "to_tsvector('simple', {})",
    "regclass": "abs(hashtext({})::bigint)::oid::regclass",
    "public.live_stream_status": "(case when hashtext({}) > 0 then 'live' else 'ended' end)::public.live_stream_status",
    "public.live_stream_ban_kind": "(case when hashtext({}) > 0 then 'ban' else 'timeout' end)::public.live_stream_ban_kind",
    "harness.pair": "row(hashtext({0}), {0})::harness.pair",
}  # fmt: skip
DOMAINS = {
    "uuid": "harness.a_uuid",
    "text": "harness.a_text",
    "integer": "harness.a_integer",
    "bigint": "harness.a_bigint",
    "boolean": "harness.a_boolean",
    "timestamp with time zone": "harness.a_time",
    "public.live_stream_status": "harness.a_status",
}
# What a value of another type becomes on the way back, until the old one is put in its place.
BACK = {
    "integer": "1",
    "smallint": "1",
    "bigint": "1",
    "boolean": "true",
    "timestamp with time zone": "now()",
    "timestamp without time zone": "now()::timestamp",
    "date": "date '2030-01-01'",
    "time without time zone": "time '15:00'",
    "jsonb": "'{{}}'::jsonb",
    "inet": "inet '10.0.0.1'",
    "numeric": "1",
    "uuid[]": "'{{}}'::uuid[]",
    "integer[]": "'{{}}'::integer[]",
    "timestamp with time zone[]": "null::timestamptz[]",
    "bytea": "decode(md5({}), 'hex')",
    "uuid": "md5({})::uuid",
    "text": "md5({})",
    "interval": "interval '1 hour'",
}
# Tables that more is done to.
BUSY = (
    "public.live_stream_sessions", "public.live_stream_viewers", "public.live_stream_chat", "public.influencers",
    "live_stream.metric_changes", "live_stream.metric_sessions", "live_stream.metric_worker",
)  # fmt: skip


@dataclass(frozen=True)
class Alteration:
    """`exact`: once it is undone, every number is right by itself. Otherwise the sessions must be counted again, as the
    rows were changed, hidden or written behind the triggers' back. `alone`: no transaction around the statements."""

    kind: str
    name: str
    do: list[str]
    undo: list[str] | None
    exact: bool = True
    alone: bool = False


@dataclass
class Column:
    table: str
    name: str
    type: str
    not_null: bool
    default: str | None
    generated: bool


@dataclass
class Table:
    """`name` and all other names are as SQL has them."""

    name: str
    schema: str
    relname: str
    columns: list[Column] = field(default_factory=list)
    key: list[str] = field(default_factory=list)

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


@dataclass
class Dependent:
    """What hangs on columns of a table. Without `make`, it comes back by installing again."""

    kind: str
    name: str
    table: str
    drop: str
    make: str | None
    on: set[tuple[str, str]] = field(default_factory=set)


@dataclass
class Index:
    name: str
    schema: str
    table: str
    definition: str
    constraint: str | None
    columns: list[str]

    @property
    def full(self) -> str:
        return f"{self.schema}.{self.name}"


class Catalog:
    """What there is to alter."""

    def __init__(self, connection: psycopg.Connection) -> None:
        def ask(query: str) -> list[dict[str, Any]]:
            return connection.execute(query).fetchall()

        connection.execute("set search_path = ''")
        self.tables: dict[str, Table] = {}
        for row in ask(_COLUMNS):
            table = self.tables.setdefault(row["table"], Table(row["table"], row["schema"], row["relname"]))
            table.columns.append(Column(*(row[key] for key in ("table", "name", "type", "not_null", "default", "generated"))))
        for row in ask(_KEYS):
            if row["table"] in self.tables:
                self.tables[row["table"]].key = row["columns"]
        self.constraints = ask(_CONSTRAINTS)
        self.indexes = [Index(**row) for row in ask(_INDEXES)]
        self.triggers = ask(_TRIGGERS)
        self.policies = ask(_POLICIES)
        self.views = ask(_VIEWS)
        self.functions = ask(_FUNCTIONS)
        self.enums = {row["name"]: row["labels"] for row in ask(_ENUMS)}
        self.domains = [row["name"] for row in ask(_DOMAINS)]
        self.dependents: dict[tuple[str, str], Dependent] = {}
        for row in ask(_DEPENDENTS):
            found = self.dependents.setdefault(
                (row["kind"], row["name"]),
                Dependent(row["kind"], row["name"], row["table"], row["drop"], row["make"]),
            )
            found.on.add((row["on_table"], row["on_column"]))
        for name, label in [(name, labels) for name, labels in self.enums.items()]:
            BY_TEXT.setdefault(name, "{}::text::" + name)

    @property
    def columns(self) -> list[Column]:
        return [column for table in self.tables.values() for column in table.columns]

    def hanging_on(self, columns: list[Column], also_by_type: bool = True) -> list[Dependent]:
        """Foreign keys first: what they point to must not go before them."""
        wanted = {(column.table, column.name) for column in columns}
        found = [d for d in self.dependents.values() if d.on & wanted and (also_by_type or d.kind not in ("key", "index"))]
        order = ["foreign key", "policy", "trigger", "view", "check", "expression", "index", "key"]
        return sorted(found, key=lambda d: (order.index(d.kind), d.name))


def text_of(column: Column) -> str:
    return f"{column.name}::text"


def as_type(column: Column, type: str) -> str:
    """The column's value as one of another type."""
    if type in BY_TEXT:
        return BY_TEXT[type].format(text_of(column))
    return f"{column.name}::{type}"


def back_from(type: str, text: str) -> str:
    """Any value of the type, made of the text where it can."""
    if type.startswith("character varying("):
        return f"left(md5({text}), {type.split('(')[1].rstrip(')')})"
    if type.startswith("numeric"):
        return "1"
    return BACK[type].format(text) if type in BACK else f"(enum_first(null::{type}))"


def retype(
    catalog: Catalog, changes: list[tuple[Column, str]], kept: str, forced: bool, default: bool = False
) -> Alteration:
    """Columns become columns of other types, and get their types and values back. With `forced`, what hangs on them
    and does not let PostgreSQL do it goes first, and comes back last."""
    do: list[str] = []
    undo: list[str] = []
    hanging = catalog.hanging_on([column for column, _ in changes], also_by_type=False) if forced else []
    do += [dependent.drop for dependent in hanging]
    for number, (column, type) in enumerate(changes):
        table = catalog.tables[column.table]
        side = f"{kept}_{number}"
        expression = as_type(column, type)
        new_default = f", alter column {column.name} set default null" if default and not column.not_null else ""
        if default and column.not_null:
            new_default = f", alter column {column.name} set default {as_type(replace(column, name='''1'''), type)}"
        if table.key:
            key = ", ".join(name for name in table.key if name != column.name)
            do.append(
                f"create table {side} as select {key + ', ' if key else ''}{column.name} as old,"
                f" ({expression})::text as new from {table.name}"
            )
        dropped = f"alter column {column.name} drop default, " if column.default and not column.generated else ""
        do.append(f"alter table {table.name} {dropped}alter column {column.name} type {type} using {expression}{new_default}")
        undo.append(
            f"alter table {table.name} alter column {column.name} drop default, alter column {column.name}"
            f" type {column.type} using {back_from(column.type, text_of(column))}"
        )
        if table.key:
            same = " and ".join(
                f"t.{name} = {back_from(column.type, 'k.new')}" if name == column.name else f"t.{name} = k.{name}"
                for name in table.key
            )
            undo += [
                f"alter table {table.name} disable trigger user",
                f"update {table.name} t set {column.name} = k.old from {side} k where {same}",
                f"alter table {table.name} enable trigger user",
                f"drop table {side}",
            ]
        if column.default:
            undo.append(f"alter table {table.name} alter column {column.name} set default {column.default}")
    undo += [dependent.make for dependent in reversed(hanging) if dependent.make]
    if any(dependent.make is None for dependent in hanging):
        undo.append(INSTALL)
    what = ", ".join(f"{column.table}.{column.name} {type}" for column, type in changes)
    return Alteration("column type", what, do, undo, exact=False)


SUBSTITUTES = (
    "view", "other view", "materialized view", "sequence", "partitioned table", "foreign table", "file", "reversed table",
    "composite type", "table without columns", "unlogged table", "empty table", "index", "text table",
)  # fmt: skip


def substitute(table: Table, how: str, with_rows: bool = False) -> Alteration:
    """Another thing under the table's name; the table itself is renamed meanwhile."""
    away = f"{table.relname}_away"
    full = f"{table.schema}.{away}"
    columns = [f"{column.name} {column.type}" for column in table.columns]
    names = ", ".join(column.name for column in reversed(table.columns))
    like = f"(like {full} including all)"
    make, kind = {
        "view": (f"create view {table.name} as select * from {full}", "view"),
        "other view": (f"create view {table.name} as select 1 as id, 'x'::text as session_id", "view"),
        "materialized view": (f"create materialized view {table.name} as select * from {full}", "materialized view"),
        "sequence": (f"create sequence {table.name}", "sequence"),
        "partitioned table": (
            f"create table {table.name} (like {full} including defaults) partition by list ({table.columns[0].name})",
            "table",
        ),
        "foreign table": (f"create foreign table {table.name} ({', '.join(columns)}) server harness_nowhere", "foreign table"),
        "file": (
            f"create foreign table {table.name} ({', '.join(columns)}) server harness_files options (filename '/dev/null')",
            "foreign table",
        ),
        "reversed table": (f"create table {table.name} ({', '.join(reversed(columns))})", "table"),
        "composite type": (f"create type {table.name} as ({', '.join(columns)})", "type"),
        "table without columns": (f"create table {table.name} ()", "table"),
        "unlogged table": (f"create unlogged table {table.name} {like}", "table"),
        "empty table": (f"create table {table.name} {like}", "table"),
        "index": (f"create index {table.relname} on {full} ({table.columns[0].name})", "index"),
        "text table": (f"create table {table.name} ({', '.join(c.name + ' text' for c in table.columns)})", "table"),
    }[how]  # fmt: skip
    do = [f"alter table {table.name} rename to {away}", make]
    if kind in ("table", "view", "foreign table", "materialized view"):
        do.append(f"grant all on {table.name} to anon, authenticated, service_role")
    if with_rows and how == "reversed table":
        do.append(f"insert into {table.name} ({names}) select {names} from {full}")
        do += [f"alter table {table.name} alter {c.name} set default {c.default}" for c in table.columns if c.default]
    if with_rows and how == "partitioned table":
        do.append(f"create table harness.part_of_it partition of {table.name} default")
    undo = [f"drop {kind} {table.name}", f"alter table {full} rename to {table.relname}"]
    return Alteration("another thing", f"{how} {table.name}", do, undo, exact=False)


def moved(catalog: Catalog, table: Table, names: list[str], kept: str) -> Alteration:
    """Columns are dropped and added again with their values, so that they are the last ones."""
    columns = [table.column(name) for name in names]
    hanging = catalog.hanging_on(columns)
    key = ", ".join(table.key)
    do = [dependent.drop for dependent in hanging]
    if table.key:
        do.append(f"create table {kept} as select {key}, {', '.join(n for n in names if n not in table.key)} from {table.name}")
    for column in columns:
        do.append(f"alter table {table.name} drop column {column.name} cascade")
        do.append(f"alter table {table.name} add column {column.name} {column.type}")
    if table.key:
        do.append(f"alter table {table.name} disable trigger user")
        sets = ", ".join(f"{column.name} = k.{column.name}" for column in columns)
        same = " and ".join(f"t.{name} = k.{name}" for name in table.key)
        do.append(f"update {table.name} t set {sets} from {kept} k where {same}")
        do.append(f"alter table {table.name} enable trigger user")
        do.append(f"drop table {kept}")
    for column in columns:
        if column.default:
            do.append(f"alter table {table.name} alter column {column.name} set default {column.default}")
        if column.not_null:
            do.append(f"alter table {table.name} alter column {column.name} set not null")
    do += [dependent.make for dependent in reversed(hanging) if dependent.make]
    if any(dependent.make is None for dependent in hanging):
        do.append(INSTALL)
    return Alteration("column moved", f"{table.name} ({', '.join(names)})", do, [])


INDEXED = (
    "hash", "another column", "false", "expression", "of another table", "descending", "unique", "brin", "reversed",
    "including", "table", "sequence", "view", "no equality",
)  # fmt: skip


def another_index(catalog: Catalog, index: Index, how: str, rng: random.Random) -> Alteration | None:
    """Another index, or no index at all, under an index's name; the index itself is renamed meanwhile."""
    table = catalog.tables[index.table]
    others = [column for column in table.columns if column.name not in index.columns[:1]]
    other = rng.choice(others) if others else table.columns[0]
    first, columns = index.columns[0], index.columns
    elsewhere = rng.choice([t for t in catalog.tables.values() if t.schema == index.schema and t.name != table.name])
    away = f"{index.name[:55]}_away"
    make = {
        "hash": f"create index {index.name} on {table.name} using hash ({first})",
        "another column": f"create index {index.name} on {table.name} ({other.name})",
        "false": f"create index {index.name} on {table.name} ({', '.join(columns)}) where false",
        "expression": f"create index {index.name} on {table.name} ((md5({first}::text)))",
        "of another table": f"create index {index.name} on {elsewhere.name} ({elsewhere.columns[0].name})",
        "descending": f"create index {index.name} on {table.name} ({', '.join(c + ' desc nulls last' for c in columns)})",
        "unique": f"create unique index {index.name} on {table.name} ({other.name}, {', '.join(columns)})",
        "brin": f"create index {index.name} on {table.name} using brin ({first})",
        "reversed": f"create index {index.name} on {table.name} ({', '.join(reversed(columns))})",
        "including": f"create index {index.name} on {table.name} ({other.name}) include ({', '.join(columns)})",
        "table": f"create table {index.full} (id uuid)",
        "sequence": f"create sequence {index.full}",
        "view": f"create view {index.full} as select * from {table.name}",
        "no equality": f"create index {index.name} on {table.name} using gin ((array[{first}::text]))",
    }[how]  # fmt: skip
    kind = how if how in ("table", "sequence", "view") else "index"
    do = [f"alter index {index.full} rename to {away}", make]
    undo = [f"drop {kind} {index.full}", f"alter index {index.schema}.{away} rename to {index.name}"]
    return Alteration("another index", f"{how} {index.full}", do, undo)


class Alterations:
    """Makes one alteration after the other. Tables have most of them."""

    _numbers = itertools.count(1)

    def __init__(self, catalog: Catalog, rng: random.Random) -> None:
        self.catalog, self.rng = catalog, rng
        self.kinds: list[tuple[int, Callable[[], Alteration | None]]] = [
            (26, self.column_type), (4, self.key_type), (5, self.rename_column), (3, self.swap_columns),
            (6, self.drop_column), (7, self.move_columns), (4, self.add_column), (5, self.nulls_and_defaults),
            (5, self.drop_constraint), (5, self.add_constraint), (3, self.drop_index), (3, self.add_index),
            (9, self.replace_index), (2, self.invalid_index), (8, self.add_trigger), (6, self.our_trigger),
            (4, self.disable_trigger), (3, self.drop_trigger), (4, self.rule), (5, self.policy),
            (5, self.inheritance), (14, self.another_thing), (6, self.rename), (6, self.storage), (5, self.privileges),
            (2, self.owner), (7, self.function), (4, self.function_property), (3, self.view), (4, self.type),
            (3, self.drop), (4, self.private_rows), (3, self.setting), (3, self.shadow), (2, self.collation),
            (2, self.publication), (2, self.other_schema), (1, self.extension),
        ]  # fmt: skip

    def next(self) -> Alteration:
        weights = [weight for weight, _ in self.kinds]
        while True:
            (make,) = self.rng.choices([make for _, make in self.kinds], weights)
            if alteration := make():
                return alteration

    # What to alter.

    def _table(self) -> Table:
        tables = self.catalog.tables
        return tables[self.rng.choice(BUSY if self.rng.random() < 0.5 else sorted(tables))]

    def _column(self) -> Column:
        return self.rng.choice(self._table().columns)

    def _kept(self) -> str:
        return f"harness.kept_{next(self._numbers)}"

    def _new_type(self, column: Column) -> str:
        if column.type in DOMAINS and self.rng.random() < 0.1:
            return DOMAINS[column.type]
        if not column.not_null and self.rng.random() < 0.05:
            return self.rng.choice(["public.live_stream_chat", "harness.never"])
        likely = ["text", "bigint", "integer", "boolean", "uuid", "uuid[]", "jsonb", "timestamp without time zone", "bytea"]
        return self.rng.choice(likely if self.rng.random() < 0.6 else sorted(BY_TEXT))

    # Columns.

    def column_type(self) -> Alteration | None:
        column = self._column()
        type = self._new_type(column)
        if column.generated or type == column.type or type in ("public.live_stream_chat", "harness.never"):
            return None
        return retype(self.catalog, [(column, type)], self._kept(), self.rng.random() < 0.85, self.rng.random() < 0.5)

    def key_type(self) -> Alteration | None:
        """An id and all the columns that point to it, alike."""
        table = self._table()
        if len(table.key) != 1:
            return None
        column = table.column(table.key[0])
        type = self.rng.choice(["text", "bigint", "integer", "bytea", "numeric", "name", "harness.a_uuid", "uuid[]"])
        pointing = [
            self.catalog.tables[key["table"]].column(key["columns"][0])
            for key in self.catalog.constraints
            if key["type"] == "f" and key["to_table"] == table.name and len(key["columns"]) == 1
        ]
        changes = [(c, type) for c in [column, *pointing] if c.type == column.type]
        if column.type == type or not changes:
            return None
        return replace(retype(self.catalog, changes, self._kept(), True), kind="key type")

    def rename_column(self) -> Alteration:
        column, table = self._column(), "alter table {} "
        start = table.format(column.table)
        do, undo = [f"{start}rename {column.name} to renamed"], [f"{start}rename renamed to {column.name}"]
        if self.rng.random() < 0.4:
            do.append(f"{start}add column {column.name} {self.rng.choice([column.type, *sorted(BY_TEXT)])}")
            undo.insert(0, f"{start}drop column {column.name}")
        return Alteration("column renamed", f"{column.table}.{column.name}", do, undo, exact=len(do) == 1)

    def swap_columns(self) -> Alteration | None:
        table = self._table()
        if len(table.columns) < 2:
            return None
        a, b = self.rng.sample(table.columns, 2)
        if self.rng.random() < 0.5:
            alike = [c for c in table.columns if c.type == a.type and c is not a]
            b = self.rng.choice(alike) if alike else b
        swap = [
            f"alter table {table.name} rename {x} to {y}" for x, y in ((a.name, "swapped"), (b.name, a.name), ("swapped", b.name))
        ]
        return Alteration("columns swapped", f"{table.name} {a.name}, {b.name}", swap, swap, exact=False)

    def drop_column(self) -> Alteration | None:
        column = self._column()
        table = self.catalog.tables[column.table]
        if column.name in table.key or column.generated:
            return Alteration("column dropped", f"{table.name}.{column.name}", [
                f"alter table {table.name} drop column {column.name} cascade"], None)  # fmt: skip
        hanging, side = self.catalog.hanging_on([column]), self._kept()
        do = [f"create table {side} as select {', '.join([*table.key, column.name])} from {table.name}"]
        do.append(f"alter table {table.name} drop column {column.name} cascade")
        undo = [f"alter table {table.name} add column {column.name} {column.type}"]
        if column.not_null:
            undo.append(f"update {table.name} set {column.name} = {back_from(column.type, 'random()::text')}")
        if table.key:
            same = " and ".join(f"t.{name} = k.{name}" for name in table.key)
            undo.append(f"update {table.name} t set {column.name} = k.{column.name} from {side} k where {same}")
        undo = [undo[0], f"alter table {table.name} disable trigger user", *undo[1:], f"alter table {table.name} enable trigger user"]
        if column.default:
            undo.append(f"alter table {table.name} alter column {column.name} set default {column.default}")
        if column.not_null:
            undo.append(f"alter table {table.name} alter column {column.name} set not null")
        undo += [dependent.make for dependent in reversed(hanging) if dependent.make]
        undo += [f"drop table {side}", INSTALL]
        return Alteration("column dropped", f"{table.name}.{column.name}", do, undo, exact=False)

    def move_columns(self) -> Alteration | None:
        table = self._table()
        movable = [c.name for c in table.columns if not c.generated and c.name not in table.key]
        if not movable:
            return None
        names = self.rng.sample(movable, min(len(movable), self.rng.choice([1, 1, 2, 5])))
        return moved(self.catalog, table, names, self._kept())

    def add_column(self) -> Alteration:
        table = self._table()
        column = self.rng.choice([
            "added integer not null default 7", "added text default repeat('x', 3000)", "added serial", "added integer not null",
            "added integer generated always as identity", "added timestamptz default clock_timestamp()", "added uuid unique",
            "added integer generated always as (1 + 1) stored", "added public.live_stream_sessions", "added harness.never",
            f"added text generated always as ({self.rng.choice(table.columns).name}::text) stored",
            "added text check (added <> 'x') default 'y'", "added uuid default gen_random_uuid() primary key",
        ])  # fmt: skip
        do = [f"alter table {table.name} add column {column}"]
        return Alteration("column added", f"{table.name} {column}", do, [f"alter table {table.name} drop column added"])

    def nulls_and_defaults(self) -> Alteration:
        column = self._column()
        start = f"alter table {column.table} alter column {column.name} "
        back = f"set default {column.default}" if column.default else "drop default"
        ways = [
            ("drop not null", "set not null" if column.not_null else "drop not null"),
            ("set not null", "set not null" if column.not_null else "drop not null"),
            ("drop default", back),
            (f"set default {back_from(column.type, '1::text')}", back),
            ("set default null", back),
            ("add generated always as identity", "drop identity if exists"),
        ]
        do, undo = self.rng.choice(ways)
        name = f"{column.table}.{column.name} {do}"
        if do == "drop not null" and column.not_null and self.rng.random() < 0.5:
            # And nulls where none are expected.
            return Alteration("nulls", name, [start + do, f"update {column.table} set {column.name} = null"], None)
        return Alteration("nulls and defaults", name, [start + do], [start + undo])

    # Constraints and indexes.

    def drop_constraint(self) -> Alteration | None:
        constraint = self.rng.choice(self.catalog.constraints)
        start = f"alter table {constraint['table']} "
        pointing = [
            other for other in self.catalog.constraints
            if constraint["type"] in "pu" and other["type"] == "f" and other["to_table"] == constraint["table"]
        ]  # fmt: skip
        do = [f"{start}drop constraint {constraint['name']} cascade"]
        undo = [f"{start}add constraint {constraint['name']} {constraint['definition']}"]
        undo += [f"alter table {o['table']} add constraint {o['name']} {o['definition']}" for o in pointing]
        return Alteration("constraint dropped", f"{constraint['table']} {constraint['name']}", do, undo)

    def add_constraint(self) -> Alteration:
        table, column = self._table(), None
        column, other = self.rng.choice(table.columns), self.rng.choice(table.columns)
        target = self.rng.choice([t for t in self.catalog.tables.values() if t.key])
        constraint = self.rng.choice([
            "check (false) not valid", "check (true)", f"check ({column.name} is not null) not valid",
            f"check ({column.name} is null) not valid", f"unique ({column.name})", f"unique ({column.name}, {other.name}) deferrable",
            f"foreign key ({column.name}) references {target.name} ({target.key[0]}) not valid",
            f"foreign key ({column.name}) references {target.name} ({target.key[0]}) deferrable initially deferred not valid",
            f"exclude using btree ({column.name} with =)", f"exclude using hash ({column.name} with =)",
            f"check (1 / (length({column.name}::text) - length({column.name}::text)) > 0) not valid",
        ])  # fmt: skip
        start = f"alter table {table.name} "
        return Alteration(
            "constraint added", f"{table.name} {constraint}",
            [f"{start}add constraint added {constraint}"], [f"{start}drop constraint added"],
        )

    def drop_index(self) -> Alteration:
        index = self.rng.choice(self.catalog.indexes)
        if index.constraint:
            away = f"{index.name[:55]}_away"
            return Alteration(
                "index renamed", index.full, [f"alter index {index.full} rename to {away}"],
                [f"alter index {index.schema}.{away} rename to {index.name}"],
            )  # fmt: skip
        return Alteration("index dropped", index.full, [f"drop index {index.full}"], [index.definition])

    def add_index(self) -> Alteration:
        table = self._table()
        column, other = self.rng.choice(table.columns), self.rng.choice(table.columns)
        method = self.rng.choice(["btree", "btree", "hash", "brin", "gin", "gist", "spgist"])
        what = self.rng.choice([column.name, f"{column.name}, {other.name}", f"md5({column.name}::text)", f"{column.name} desc"])
        where = self.rng.choice(["", "", " where false", f" where {other.name} is not null"])
        unique = self.rng.choice(["", "", "unique "])
        return Alteration(
            "index added", f"{table.name} {unique}{method} ({what}){where}",
            [f"create {unique}index added on {table.name} using {method} ({what}){where}"], [f"drop index {table.schema}.added"],
        )  # fmt: skip

    def replace_index(self) -> Alteration | None:
        return another_index(self.catalog, self.rng.choice(self.catalog.indexes), self.rng.choice(INDEXED), self.rng)

    def invalid_index(self) -> Alteration:
        """A unique index that could not be built is there all the same, and is not whole."""
        index = self.rng.choice(self.catalog.indexes)
        away = f"{index.name[:55]}_away"
        do = [
            f"alter index {index.full} rename to {away}",
            f"create unique index concurrently {index.name} on {index.table} ((1))",
        ]
        undo = [f"drop index if exists {index.full}", f"alter index {index.schema}.{away} rename to {index.name}"]
        return Alteration("invalid index", index.full, do, undo, alone=True)

    # Triggers, rules, policies.

    def add_trigger(self) -> Alteration:
        table = self._table()
        function = self.rng.choice([
            "sees", "refuses", "skips", "keeps_old", "empties", "writes", "deletes", "catches", "alters", "empties_the_log",
            "becomes_another",
        ])  # fmt: skip
        argument = f"'{self.rng.choice(table.columns).name}'" if function == "empties" else ""
        timing, level = self.rng.choice(["before", "after"]), self.rng.choice(["row", "row", "statement"])
        events = self.rng.choice(["insert", "update", "delete", "insert or update", "insert or update or delete", "truncate"])
        if events == "truncate":
            level = "statement"
        name = self.rng.choice(["aaa", "zzz"])
        constraint = timing == "after" and level == "row" and self.rng.random() < 0.4
        deferred = " deferrable initially deferred" if constraint else ""
        do = [
            f"create {'constraint ' if constraint else ''}trigger {name} {timing} {events} on {table.name}{deferred}"
            f" for each {level} execute function harness.{function}({argument})"
        ]
        # These have no effect on numbers, or a refusal as theirs, or write what is counted as anything else.
        exact = function in ("sees", "refuses", "writes", "catches", "alters", "deletes") or timing == "after" and function in (
            "skips", "keeps_old", "becomes_another")  # fmt: skip
        return Alteration("trigger added", f"{table.name} {do[0]}", do, [f"drop trigger {name} on {table.name}"], exact=exact)

    def our_trigger(self) -> Alteration:
        """A function of ours at a table, a time or an event that it was not made for."""
        function = self.rng.choice([f for f in self.catalog.functions if f["returns"] == "trigger"])
        table = self._table()
        timing, level = self.rng.choice(["before", "after"]), self.rng.choice(["row", "statement"])
        events = self.rng.choice(["insert", "update", "delete", "insert or update or delete", "truncate"])
        tables = {"insert": "new table as n", "update": "old table as o new table as n", "delete": "old table as o"}
        referencing = ""
        if timing == "after" and events in tables and self.rng.random() < 0.5:
            referencing = f" referencing {tables[events]}"
        constraint = timing == "after" and level == "row" and not referencing and self.rng.random() < 0.5
        deferred = " deferrable initially deferred" if constraint else ""
        name = self.rng.choice(["aaa", "zzz"])
        arguments = self.rng.choice(["", "", "'x', 'y'"])
        create = (
            f"create {'constraint ' if constraint else ''}trigger {name} {timing} {events} on {table.name}{deferred}{referencing}"
            f" for each {level} execute function {function['name']}({arguments})"
        )
        return Alteration("our trigger", create, [create], [f"drop trigger {name} on {table.name}"], exact=False)

    def disable_trigger(self) -> Alteration:
        trigger = self.rng.choice(self.catalog.triggers)
        start = f"alter table {trigger['table']} "
        way = self.rng.choice(["disable trigger", "enable always trigger", "enable replica trigger"])
        which = self.rng.choice([trigger["name"], trigger["name"], "user"])
        way = "disable trigger" if which == "user" else way
        return Alteration(
            "trigger disabled", f"{trigger['table']} {way} {which}", [f"{start}{way} {which}"], [f"{start}enable trigger {which}"],
            exact=way == "enable always trigger",
        )  # fmt: skip

    def drop_trigger(self) -> Alteration:
        trigger = self.rng.choice(self.catalog.triggers)
        do = [f"drop trigger {trigger['name']} on {trigger['table']}"]
        return Alteration("trigger dropped", do[0], do, [trigger["definition"]], exact=False)

    def rule(self) -> Alteration:
        table = self._table()
        event = self.rng.choice(["insert", "update", "delete"])
        column = table.columns[0].name
        what = self.rng.choice([
            "do instead nothing", "do also insert into harness.seen (what) values ('seen')", "do also notify harness",
            f"where {'old' if event == 'delete' else 'new'}.{column} is null do instead nothing",
            "do instead select 1", "do instead insert into harness.seen (what) values ('instead')",
        ])  # fmt: skip
        if what.startswith("where"):
            condition, _, action = what.partition(" do ")
            do = f"create rule added as on {event} to {table.name} {condition} do {action}"
        else:
            do = f"create rule added as on {event} to {table.name} {what}"
        return Alteration("rule", do, [do], [f"drop rule added on {table.name}"], exact=False)

    def policy(self) -> Alteration:
        table = self._table()
        on = f"on {table.name}"
        ways = [
            ([f"alter table {table.name} force row level security"], [f"alter table {table.name} no force row level security"]),
            ([f"alter table {table.name} disable row level security"], [f"alter table {table.name} enable row level security"]),
        ]
        for using in ("true", "false", "1 / 0 > 0", f"exists (select from {table.name})"):
            permissive = self.rng.choice(["permissive", "restrictive"])
            command = self.rng.choice(["all", "select", "update", "delete"])
            make = f"create policy added {on} as {permissive} for {command} to public using ({using})"
            force = self.rng.random() < 0.5
            ways.append((
                [make] + force * [f"alter table {table.name} force row level security"],
                [f"drop policy added {on}"] + force * [f"alter table {table.name} no force row level security"],
            ))  # fmt: skip
        policies = [policy for policy in self.catalog.policies if policy["table"] == table.name]
        if policies:
            name = self.rng.choice(policies)["name"]
            ways.append(([f"drop policy {name} {on}"], [INSTALL]))
            ways.append(([f"alter policy {name} {on} to {OTHER_OWNER}"], [f"drop policy {name} {on}", INSTALL]))
            ways.append(([f"alter policy {name} {on} rename to renamed"], [f"alter policy renamed {on} rename to {name}"]))
        do, undo = self.rng.choice(ways)
        return Alteration("policy", do[0], do, undo, exact="force row" not in " ".join(do))

    # Tables.

    def inheritance(self) -> Alteration:
        table = self._table()
        types = ", ".join(f"{c.name} {c.type}" for c in table.columns)
        partition = f"create table harness.parent ({types}) partition by list ({table.columns[0].name})"
        not_null = [f"alter table harness.parent alter {c.name} set not null" for c in table.columns if c.not_null]
        do, undo, exact = self.rng.choice([
            ([f"create table harness.child () inherits ({table.name})"], ["drop table harness.child"], True),
            ([f"create table harness.child (more text) inherits ({table.name})",
              f"insert into harness.child select * from {table.name}"], ["drop table harness.child"], False),
            ([f"create table harness.parent ({types})", *not_null, f"alter table {table.name} inherit harness.parent"],
             [f"alter table {table.name} no inherit harness.parent", "drop table harness.parent"], True),
            ([partition, *not_null, f"alter table harness.parent attach partition {table.name} default"],
             [f"alter table harness.parent detach partition {table.name}", "drop table harness.parent"], True),
            ([f"create type harness.shape as ({types})", f"alter table {table.name} of harness.shape"],
             [f"alter table {table.name} not of", "drop type harness.shape"], True),
        ])  # fmt: skip
        return Alteration("inheritance", f"{table.name}: {do[0]}", do, undo, exact=exact)

    def another_thing(self) -> Alteration | None:
        table, other = self._table(), self._table()
        if self.rng.random() < 0.15:
            # The names of two tables are swapped.
            if table.schema != other.schema or table is other:
                return None
            swap = [
                f"alter table {table.schema}.{a} rename to {b}"
                for a, b in ((table.relname, "swapped"), (other.relname, table.relname), ("swapped", other.relname))
            ]
            return Alteration("tables swapped", f"{table.name}, {other.name}", swap, swap, exact=False)
        return substitute(table, self.rng.choice(SUBSTITUTES), self.rng.random() < 0.5)

    def rename(self) -> Alteration:
        table = self._table()
        catalog = self.catalog
        constraint, trigger = self.rng.choice(catalog.constraints), self.rng.choice(catalog.triggers)
        view, enum = self.rng.choice(catalog.views), self.rng.choice(sorted(catalog.enums))
        function = self.rng.choice(catalog.functions)
        label = self.rng.choice(catalog.enums[enum])
        constraint_of = f"alter table {constraint['table']} rename constraint "
        do, undo = self.rng.choice([
            (f"alter table {table.name} rename to renamed", f"alter table {table.schema}.renamed rename to {table.relname}"),
            (f"alter table {table.name} rename to renamed", f"alter table {table.schema}.renamed rename to {table.relname}"),
            (f"{constraint_of}{constraint['name']} to renamed", f"{constraint_of}renamed to {constraint['name']}"),
            (f"alter trigger {trigger['name']} on {trigger['table']} rename to aaa",
             f"alter trigger aaa on {trigger['table']} rename to {trigger['name']}"),
            (f"alter view {view['name']} rename to renamed", f"alter view {view['schema']}.renamed rename to {view['relname']}"),
            (f"alter type {enum} rename to renamed", f"alter type public.renamed rename to {enum.partition('.')[2]}"),
            (f"alter type {enum} rename value '{label}' to 'renamed'", f"alter type {enum} rename value 'renamed' to '{label}'"),
            (f"alter type {enum} rename value '{label}' to 'renamed'", f"alter type {enum} rename value 'renamed' to '{label}'"),
            (f"alter function {function['signature']} rename to renamed",
             f"alter function {function['schema']}.renamed({function['args']}) rename to {function['proname']}"),
            ("alter schema live_stream rename to renamed", "alter schema renamed rename to live_stream"),
            ("alter schema public rename to renamed", "alter schema renamed rename to public"),
        ])  # fmt: skip
        return Alteration("renamed", do, [do], [undo])

    def storage(self) -> Alteration:
        table, column = self._table(), None
        column = self.rng.choice(table.columns)
        start, col = f"alter table {table.name} ", f"alter table {table.name} alter column {column.name} "
        key = f"{table.relname}_pkey"
        ways = [
            ([f"{start}set unlogged"], [f"{start}set logged"]),
            ([f"{start}set (fillfactor = 10, autovacuum_enabled = off, parallel_workers = 8)"],
             [f"{start}reset (fillfactor, autovacuum_enabled, parallel_workers)"]),
            ([f"{start}reset (fillfactor)"], [f"{start}set (fillfactor = 50)"]),
            ([f"{start}set (user_catalog_table = true, vacuum_truncate = false, toast_tuple_target = 128)"],
             [f"{start}reset (user_catalog_table, vacuum_truncate, toast_tuple_target)"]),
            ([f"{start}replica identity full"], [f"{start}replica identity default"]),
            ([f"{start}replica identity nothing"], [f"{start}replica identity default"]),
            ([f"cluster {table.name} using {key}"], [f"{start}set without cluster"]),
            ([f"{col}set statistics 1000", f"analyze {table.name}"], [f"{col}set statistics -1"]),
            ([f"{col}set storage external"], [f"{col}set storage extended"]),
            ([f"{col}set storage main"], [f"{col}set storage extended"]),
            ([f"{col}set storage plain"], [f"{col}set storage extended"]),
            ([f"{col}set compression pglz"], [f"{col}set compression default"]),
            ([f"{start}set access method harness_heap"], [f"{start}set access method heap"]),
            ([f"create statistics harness.stats on {column.name}, {table.columns[0].name} from {table.name}", f"analyze {table.name}"],
             ["drop statistics harness.stats"]),
            ([f"{start}set unlogged, add column added integer default 1"], [f"{start}set logged, drop column added"]),
        ]  # fmt: skip
        do, undo = self.rng.choice(ways)
        return Alteration("storage", do[0], do, undo)

    def privileges(self) -> Alteration:
        table, column = self._table(), self._column()
        function = self.rng.choice(self.catalog.functions)
        who = self.rng.choice(["anon", "authenticated", "service_role", OWNER, OWNER])
        what = self.rng.choice(["all", "select", "insert", "update", "delete", "references", "trigger"])
        undo = f"grant all on {table.name} to {who}"
        ways = [
            (f"revoke {what} on {table.name} from {who}", [undo]),
            (f"revoke {what} on {table.name} from {who}", [undo]),
            (f"grant all on {table.name} to public", [f"revoke all on {table.name} from public", INSTALL]),
            (f"revoke execute on function {function['signature']} from {OWNER}, public, anon, authenticated, service_role",
             [f"grant execute on function {function['signature']} to {OWNER}", INSTALL]),
            (f"grant execute on function {function['signature']} to public",
             [f"revoke execute on function {function['signature']} from public", INSTALL]),
            (f"revoke all on schema live_stream from {who}",
             [f"grant {'all' if who == OWNER else 'usage'} on schema live_stream to {who}"]),
            (f"revoke all on schema public from {who}, public",
             [f"grant all on schema public to {OWNER}", "grant usage on schema public to public"]),
            (f"grant update ({column.name}), insert ({column.name}) on {column.table} to anon",
             [f"revoke update ({column.name}), insert ({column.name}) on {column.table} from anon", INSTALL]),
        ]  # fmt: skip
        do, back = self.rng.choice(ways)
        if who != OWNER and back == [undo]:
            back = [f"revoke all on {table.name} from {who}", INSTALL]
        return Alteration("privileges", do, [do], back)

    def owner(self) -> Alteration:
        table, function = self._table(), self.rng.choice(self.catalog.functions)
        view, enum = self.rng.choice(self.catalog.views), self.rng.choice(sorted(self.catalog.enums))
        what = self.rng.choice([
            f"table {table.name}", f"table {table.name}", f"function {function['signature']}", f"view {view['name']}",
            f"type {enum}", "schema live_stream",
        ])  # fmt: skip
        do = f"alter {what} owner to {OTHER_OWNER}"
        return Alteration("owner", do, [do], [f"alter {what} owner to {OWNER}"])

    def other_schema(self) -> Alteration:
        table, function = self._table(), self.rng.choice(self.catalog.functions)
        if self.rng.random() < 0.7:
            do, undo = f"alter table {table.name} set schema harness", f"alter table harness.{table.relname} set schema {table.schema}"
        else:
            do = f"alter function {function['signature']} set schema harness"
            undo = f"alter function harness.{function['proname']}({function['args']}) set schema {function['schema']}"
        return Alteration("another schema", do, [do], [undo])

    # Functions, views, types.

    def function(self) -> Alteration:
        function = self.rng.choice(self.catalog.functions)
        head = f"create or replace function {function['schema']}.{function['proname']}({function['declared']}) returns {function['result']}"
        body = self.rng.choice(["return null;", "raise 'the owner says no';", "return 1;", "return;"])
        if function["returns"] == "trigger":
            body = self.rng.choice(["return null;", "return new;", "return old;", "raise 'the owner says no';"])
        ways = [
            [f"{head} language plpgsql as $$ begin {body} end $$"],
            [f"{head} language sql as $$ select null $$"],
            [f"drop function {function['signature']} cascade"],
        ]
        if function["returns"] != "trigger":
            new = self.rng.choice(["text", "bigint", "boolean", "uuid", "setof uuid", "void", "jsonb", "public.live_stream_chat"])
            ways.append([
                f"drop function {function['signature']} cascade",
                f"create function {function['schema']}.{function['proname']}({function['args']}) returns {new}"
                " language sql as $$ select null $$",
                f"grant execute on function {function['signature']} to public",
            ])  # fmt: skip
        do = self.rng.choice(ways)
        # Nobody but a superuser can make a function in C.
        replaced_sql = function["language"] == "sql" and len(do) == 1 and do[0].startswith("create")
        undo = [function["definition"]] if replaced_sql else None
        return Alteration("function", do[-1].partition(" as $$")[0], do, undo, exact=False)

    def function_property(self) -> Alteration:
        function = self.rng.choice(self.catalog.functions)
        start = f"alter function {function['signature']} "
        do, undo = self.rng.choice([
            ("called on null input", "strict" if function["strict"] else "called on null input"),
            ("called on null input", "strict" if function["strict"] else "called on null input"),
            ("strict", "strict" if function["strict"] else "called on null input"),
            ("immutable", function["volatility"]), ("volatile", function["volatility"]),
            ("security definer", "security definer" if function["definer"] else "security invoker"),
            ("parallel safe", f"parallel {function['parallel']}"),
            ("cost 1000000", f"cost {function['cost']}"),
            ("set search_path = harness", f"reset search_path"),
            (f"set role = {OTHER_OWNER}", "reset role"),
            ("set live_stream.background_worker = off", "reset live_stream.background_worker"),
            ("set statement_timeout = 1", "reset statement_timeout"),
            ("set default_transaction_isolation = serializable", "reset default_transaction_isolation"),
        ])  # fmt: skip
        back = [start + undo]
        if undo == "reset search_path" and function["config"]:
            back = [f"{start}set search_path = {function['config']}"]
        return Alteration("function property", start + do, [start + do], back, exact=function["returns"] != "trigger")

    def view(self) -> Alteration:
        view = self.rng.choice(self.catalog.views)
        columns = view["columns"]
        ways = [
            [f"drop view {view['name']} cascade"],
            [f"drop view {view['name']} cascade", f"create view {view['name']} as select 1 as id",
             f"grant select on {view['name']} to public"],
            [f"drop view {view['name']} cascade", f"create table {view['name']} (id uuid, session_id uuid)"],
            [f"drop view {view['name']} cascade",
             f"create view {view['name']} as select {', '.join(f'null::text as {c}' for c in columns)}",
             f"grant select on {view['name']} to public"],
            [f"alter view {view['name']} set (security_invoker = false, security_barrier = true)"],
            [f"create or replace view {view['name']} as select * from ({view['definition'].rstrip(';')}) as v where false"],
            [f"alter view {view['name']} alter column {columns[0]} set default null"],
        ]  # fmt: skip
        do = self.rng.choice(ways)
        drop = "table" if any("create table" in statement for statement in do) else "view"
        # Some are what the numbers are counted from.
        return Alteration("view", do[-1][:100], do, [f"drop {drop} if exists {view['name']} cascade", INSTALL], exact=False)

    def type(self) -> Alteration:
        enum = self.rng.choice(sorted(self.catalog.enums))
        bare = enum.partition(".")[2]
        domain = self.rng.choice(self.catalog.domains) if self.catalog.domains else None
        labels = self.catalog.enums[enum]
        ways: list[tuple[list[str], list[str] | None]] = [
            ([f"alter type {enum} add value 'added'"], None),
            ([f"alter type {enum} add value 'added' before '{labels[0]}'"], None),
            ([f"alter type {enum} rename to {bare}_away", f"create type {enum} as enum ('x')"],
             [f"drop type {enum}", f"alter type public.{bare}_away rename to {bare}"]),
            ([f"alter type {enum} rename to {bare}_away", f"create domain {enum} as text"],
             [f"drop domain {enum}", f"alter type public.{bare}_away rename to {bare}"]),
            ([f"alter type {enum} rename to {bare}_away", f"create type {enum} as (a text)"],
             [f"drop type {enum}", f"alter type public.{bare}_away rename to {bare}"]),
            ([f"alter type {enum} rename value '{labels[0]}' to 'first'", f"alter type {enum} rename value '{labels[-1]}' to '{labels[0]}'",
              f"alter type {enum} rename value 'first' to '{labels[-1]}'"],
             [f"alter type {enum} rename value '{labels[0]}' to 'first'", f"alter type {enum} rename value '{labels[-1]}' to '{labels[0]}'",
              f"alter type {enum} rename value 'first' to '{labels[-1]}'"]),
            ([f"drop type {enum} cascade"], None),
        ]  # fmt: skip
        if domain:
            too_long = f"alter domain {domain} add constraint added check (length(value) < 3)"
            ways.append(([too_long], [f"alter domain {domain} drop constraint added"]))
            ways.append(([f"alter domain {domain} set not null"], [f"alter domain {domain} drop not null"]))
            ways.append(([f"drop domain {domain} cascade"], [INSTALL]))
        do, undo = self.rng.choice(ways)
        # A label that was swapped is another label of the rows that are there.
        return Alteration("type", "; ".join(do), do, undo, exact=False)

    # All the rest.

    def drop(self) -> Alteration:
        table = self._table()
        do = self.rng.choice([
            [f"drop table {table.name} cascade"], [f"drop table {table.name} cascade", INSTALL],
            ["drop schema live_stream cascade"], [f"drop table {table.name} cascade", f"create table {table.name} (id uuid)"],
            ["drop extension live_stream"], ["drop extension live_stream cascade", "create extension live_stream"],
        ])  # fmt: skip
        return Alteration("dropped", "; ".join(do), do, None)

    def private_rows(self) -> Alteration:
        """Rows of the private tables that nobody but the engine writes."""
        session = "(select id from public.live_stream_sessions where status = 'live' order by id limit 1)"
        largest, smallest = 2**63 - 1, -(2**63)
        log = self.catalog.tables["live_stream.metric_changes"]
        needed = [c.name for c in log.columns if c.not_null and not c.default and c.name not in ("session_id", "at")]
        counters = [c.name for c in log.columns if c.type == "bigint" and c.name not in needed]
        counter, value = self.rng.choice(counters), self.rng.choice([largest, smallest, 2**31, -1, 1, -(2**31) - 1])
        time = self.rng.choice(["infinity", "-infinity", "now", "294276-12-31", "4713-01-01 BC"])
        who = self.rng.choice([session, "gen_random_uuid()"])
        nulls = ", ".join(f"alter {c.name} drop not null" for c in log.columns)
        into, values = "".join(f", {name}" for name in needed), [f", {n}" * len(needed) for n in (7, 8)]
        sessions = "insert into live_stream.metric_sessions (session_id, server_started, complete_before, doubtful)"
        ways = [
            [f"insert into live_stream.metric_changes (session_id, at, {counter}{into}) values ({who}, '{time}', {value}{v})"
             for v in values],
            [f"insert into live_stream.metric_changes (session_id, at, since, doubtful{into})"
             f" values ({who}, '{time}', '{time}', true{values[0]})"],
            ["alter table live_stream.metric_changes drop constraint metric_changes_pkey",
             f"alter table live_stream.metric_changes {nulls}", "insert into live_stream.metric_changes default values"],
            [f"{sessions} values ({who}, pg_postmaster_start_time(), {value}, true) on conflict do nothing"],
            [f"{sessions} values ({who}, '{time}', {value}, false) on conflict do nothing"],
            ["alter table live_stream.metric_sessions drop constraint metric_sessions_pkey",
             *[f"{sessions} values ({session}, pg_postmaster_start_time(), 3, true)"] * 2],
            ["delete from live_stream.metric_worker"], ["update live_stream.metric_worker set folds = 9223372036854775807"],
            ["insert into live_stream.metric_worker (server, pid, started_at) values (0, -1, 'infinity')"],
            ["alter table live_stream.metric_worker drop constraint metric_worker_pkey",
             "insert into live_stream.metric_worker select * from live_stream.metric_worker"],
            ["truncate live_stream.metric_changes, live_stream.metric_sessions, live_stream.metric_worker, live_stream.person_rates"],
            ["delete from live_stream.schedule_turns"], [f"update live_stream.schedule_turns set began_at = '{time}', influencers = '{{null}}'"],
            ["truncate public.live_stream_heartbeats"], ["delete from public.live_stream_archive"],
            [f"update public.live_stream_sessions set created_at = '{time}', scheduled_start_time = '{time}'"],
            [f"alter table public.live_stream_viewers disable trigger user",
             f"update public.live_stream_viewers set joined_at = '-infinity', counted_since = '{time}'",
             f"alter table public.live_stream_viewers enable trigger user"],
            ["alter table public.live_stream_sessions disable trigger user",
             f"update public.live_stream_sessions set {self.rng.choice(['current_viewers', 'peak_viewers', 'total_messages'])} = 2147483647",
             "alter table public.live_stream_sessions enable trigger user"],
        ]  # fmt: skip
        do = self.rng.choice(ways)
        return Alteration("private rows", "; ".join(do), do, None)

    def setting(self) -> Alteration:
        setting, value = self.rng.choice([
            ("live_stream.background_worker", "off"), ("live_stream.flush_interval", "60s"), ("live_stream.message_length", "1"),
            ("live_stream.viewer_timeout", "1s"), ("live_stream.install", "off"), ("live_stream.ip_tracking", "full"),
            ("live_stream.trusted_proxies", "100"), ("live_stream.join_limit", "1"), ("live_stream.viewer_id", "x"),
            ("search_path", "harness"), ("default_transaction_isolation", "serializable"), ("default_transaction_read_only", "on"),
            ("TimeZone", "Pacific/Apia"), ("DateStyle", "German"), ("IntervalStyle", "sql_standard"), ("bytea_output", "escape"),
            ("extra_float_digits", "-15"), ("enable_indexscan", "off"), ("work_mem", "64kB"), ("row_security", "off"),
            ("lock_timeout", "1ms"), ("plan_cache_mode", "force_custom_plan"), ("backslash_quote", "on"), ("lc_monetary", "C"),
            ("max_parallel_workers_per_gather", "8"), ("check_function_bodies", "off"), ("transform_null_equals", "on"),
            ("array_nulls", "off"), ("standard_conforming_strings", "off"), ("quote_all_identifiers", "on"),
        ])  # fmt: skip
        whom = self.rng.choice(["database", "role"])
        start = "alter database {database}" if whom == "database" else f"alter role {OWNER} in database {{database}}"
        return Alteration(
            "setting", f"{whom} {setting} = {value}", [f"{start} set {setting} = '{value}'"], [f"{start} reset {setting}"],
            exact=setting not in ("live_stream.viewer_timeout",),
        )  # fmt: skip

    def shadow(self) -> Alteration:
        """Things under names that queries use, in the schema that comes first on a search path."""
        do, undo = self.rng.choice([
            ("create cast (public.live_stream_status as text) with function harness.lies(public.live_stream_status) as implicit",
             "drop cast (public.live_stream_status as text)"),
            ("create operator public.= (leftarg = public.live_stream_status, rightarg = public.live_stream_status,"
             " function = harness.never)", "drop operator public.= (public.live_stream_status, public.live_stream_status)"),
            ("create operator public.= (leftarg = uuid, rightarg = uuid, function = harness.never)",
             "drop operator public.= (uuid, uuid)"),
            ("create function public.now() returns text language sql as $$ select 'never' $$", "drop function public.now()"),
            ("create function public.gen_random_uuid() returns uuid language sql as $$ select null::uuid $$",
             "drop function public.gen_random_uuid()"),
            ("create domain public.uuid as text", "drop domain public.uuid"),
            ("create table public.pg_class (oid text, relname integer)", "drop table public.pg_class"),
            ("create function live_stream.uid(text default '') returns uuid language sql as $$ select null::uuid $$",
             "drop function live_stream.uid(text)"),
            ("create function live_stream.recount(text) returns void language sql as $$ select $$",
             "drop function live_stream.recount(text)"),
            ("create function live_stream.is_service(integer default 1) returns boolean language sql as $$ select true $$",
             "drop function live_stream.is_service(integer)"),
        ])  # fmt: skip
        return Alteration("shadow", do, [do], [undo])

    def collation(self) -> Alteration | None:
        column = self._column()
        if column.type != "text" and not column.type.startswith("character varying"):
            return None
        collation = self.rng.choice(['pg_catalog."C"', "harness.backwards", 'pg_catalog."POSIX"'])
        hanging = self.catalog.hanging_on([column], also_by_type=False)
        start = f"alter table {column.table} alter column {column.name} type {column.type} collate "
        do = [*(dependent.drop for dependent in hanging), start + collation]
        undo = [start + 'pg_catalog."default"', *(d.make for d in reversed(hanging) if d.make), INSTALL]
        return Alteration("collation", f"{column.table}.{column.name} {collation}", do, undo)

    def publication(self) -> Alteration:
        table = self._table()
        condition = self.rng.choice(["", "", " where (1 = 2)", " (id)"])
        do = [f"create publication added for table {table.name}{condition}"]
        undo = ["drop publication added"]
        if self.rng.random() < 0.5:
            do.append(f"alter table {table.name} replica identity nothing")
            undo.append(f"alter table {table.name} replica identity default")
        return Alteration("publication", "; ".join(do), do, undo)

    def extension(self) -> Alteration:
        function = self.rng.choice([f for f in self.catalog.functions if f["language"] == "c"])
        return Alteration(
            "extension", f"drop {function['signature']}", [f"alter extension live_stream drop function {function['signature']}"],
            [f"alter extension live_stream add function {function['signature']}"],
        )  # fmt: skip


_OURS = """
  (c.relnamespace = 'live_stream'::regnamespace
   or c.relnamespace = 'public'::regnamespace and (c.relname like 'live\\_stream%'
      or c.relname in ('influencers', 'live_sessions_with_details', 'upcoming_streams', 'session_analytics_summary')))
"""

_COLUMNS = f"""
select format('%I.%I', n.nspname, c.relname) as table, n.nspname as schema, c.relname, quote_ident(a.attname) as name,
       pg_catalog.format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as not_null,
       pg_catalog.pg_get_expr(d.adbin, d.adrelid) as default, a.attgenerated <> '' as generated
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_catalog.pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
 where c.relkind = 'r' and {_OURS}
 order by n.nspname, c.relname, a.attnum
"""

_KEYS = """
select format('%I.%I', n.nspname, c.relname) as table,
       array(select quote_ident(a.attname) from unnest(k.conkey) with ordinality as u (number, nth)
               join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = u.number order by u.nth) as columns
  from pg_catalog.pg_constraint k
  join pg_catalog.pg_class c on c.oid = k.conrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where k.contype = 'p'
"""

_CONSTRAINTS = f"""
select format('%I.%I', n.nspname, c.relname) as table, quote_ident(k.conname) as name, k.contype::text as type,
       pg_catalog.pg_get_constraintdef(k.oid) as definition,
       nullif(k.confrelid, 0)::regclass::text as to_table,
       array(select quote_ident(a.attname) from unnest(k.conkey) as u (number)
               join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = u.number) as columns
  from pg_catalog.pg_constraint k
  join pg_catalog.pg_class c on c.oid = k.conrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'r' and {_OURS}
 order by 1, 2
"""

_INDEXES = f"""
select quote_ident(i.relname) as name, n.nspname as schema, format('%I.%I', n.nspname, c.relname) as table,
       pg_catalog.pg_get_indexdef(x.indexrelid) as definition, quote_ident(k.conname) as constraint,
       array(select coalesce(quote_ident(a.attname), quote_ident(f.attname)) from unnest(x.indkey) with ordinality as u (number, nth)
               left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = u.number and u.number > 0
               join pg_catalog.pg_attribute f on f.attrelid = c.oid and f.attnum = 1 order by u.nth) as columns
  from pg_catalog.pg_index x
  join pg_catalog.pg_class c on c.oid = x.indrelid
  join pg_catalog.pg_class i on i.oid = x.indexrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_constraint k on k.conindid = x.indexrelid and k.contype in ('p', 'u')
 where c.relkind = 'r' and {_OURS}
 order by 2, 1
"""

_TRIGGERS = f"""
select quote_ident(t.tgname) as name, format('%I.%I', n.nspname, c.relname) as table,
       pg_catalog.pg_get_triggerdef(t.oid) as definition
  from pg_catalog.pg_trigger t
  join pg_catalog.pg_class c on c.oid = t.tgrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where not t.tgisinternal and {_OURS}
 order by 2, 1
"""

_POLICIES = f"""
select quote_ident(p.polname) as name, format('%I.%I', n.nspname, c.relname) as table
  from pg_catalog.pg_policy p
  join pg_catalog.pg_class c on c.oid = p.polrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where {_OURS}
 order by 2, 1
"""

_VIEWS = f"""
select format('%I.%I', n.nspname, c.relname) as name, n.nspname as schema, c.relname,
       pg_catalog.pg_get_viewdef(c.oid) as definition,
       array(select quote_ident(attname) from pg_catalog.pg_attribute where attrelid = c.oid and attnum > 0 order by attnum) as columns
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'v' and {_OURS}
 order by 1
"""

_FUNCTIONS = """
select p.oid::regprocedure::text as signature, format('%I.%I', n.nspname, p.proname) as name, n.nspname as schema,
       quote_ident(p.proname) as proname, pg_catalog.oidvectortypes(p.proargtypes) as args,
       pg_catalog.pg_get_function_arguments(p.oid) as declared, pg_catalog.pg_get_function_result(p.oid) as result,
       p.prorettype::regtype::text as returns, l.lanname as language, p.proisstrict as strict, p.prosecdef as definer,
       case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end as volatility,
       case p.proparallel when 's' then 'safe' when 'r' then 'restricted' else 'unsafe' end as parallel, p.procost as cost,
       (select case when value = '""' then '''''' else value end
          from unnest(p.proconfig) as c (setting), split_part(setting, '=', 2) as value
         where setting like 'search_path=%') as config,
       pg_catalog.pg_get_functiondef(p.oid) as definition
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_language l on l.oid = p.prolang
 where p.prokind = 'f'
   and (n.nspname = 'live_stream' or n.nspname = 'public' and p.proname like 'live\\_stream%')
 order by 1
"""

_ENUMS = """
select t.oid::regtype::text as name, array_agg(e.enumlabel::text order by e.enumsortorder) as labels
  from pg_catalog.pg_enum e join pg_catalog.pg_type t on t.oid = e.enumtypid
 where t.typnamespace = 'public'::regnamespace
 group by t.oid order by 1
"""

_DOMAINS = "select oid::regtype::text as name from pg_catalog.pg_type where typtype = 'd' and typnamespace = 'public'::regnamespace"

_DEPENDENTS = f"""
with ours as (
  select c.oid, format('%I.%I', n.nspname, c.relname) as name
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
   where c.relkind = 'r' and {_OURS}
), attributes as (
  select o.oid, o.name, a.attnum, quote_ident(a.attname) as column
    from ours o join pg_catalog.pg_attribute a on a.attrelid = o.oid and a.attnum > 0 and not a.attisdropped
), of_constraints as (
  select k.oid, k.conrelid, k.contype, k.conname, k.conrelid as on_table, unnest(k.conkey) as on_number
    from pg_catalog.pg_constraint k where k.conrelid in (select oid from ours)
  union
  select k.oid, k.conrelid, k.contype, k.conname, k.confrelid, unnest(k.confkey)
    from pg_catalog.pg_constraint k where k.confrelid in (select oid from ours)
)
select case k.contype when 'f' then 'foreign key' when 'c' then 'check' else 'key' end as kind,
       quote_ident(k.conname) as name, t.name as table, a.name as on_table, a.column as on_column,
       format('alter table %s drop constraint if exists %I cascade', t.name, k.conname) as drop,
       format('alter table %s add constraint %I %s', t.name, k.conname, pg_catalog.pg_get_constraintdef(k.oid)) as make
  from of_constraints k
  join ours t on t.oid = k.conrelid
  join attributes a on a.oid = k.on_table and a.attnum = k.on_number
union all
select case when x.indexprs is null and x.indpred is null then 'index' else 'expression' end,
       x.indexrelid::regclass::text, t.name, a.name, a.column,
       format('drop index if exists %s', x.indexrelid::regclass), pg_catalog.pg_get_indexdef(x.indexrelid)
  from pg_catalog.pg_index x
  join ours t on t.oid = x.indrelid
  join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_class'::regclass and d.objid = x.indexrelid
                             and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjsubid > 0
  join attributes a on a.oid = d.refobjid and a.attnum = d.refobjsubid
 where not exists (select from pg_catalog.pg_constraint k where k.conindid = x.indexrelid and k.contype in ('p', 'u'))
union all
select 'policy', format('%s.%I', t.name, p.polname), t.name, a.name, a.column,
       format('drop policy if exists %I on %s', p.polname, t.name), null
  from pg_catalog.pg_policy p
  join ours t on t.oid = p.polrelid
  join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid and d.refobjsubid > 0
  join attributes a on a.oid = d.refobjid and a.attnum = d.refobjsubid
union all
select 'trigger', format('%s.%I', t.name, g.tgname), t.name, a.name, a.column,
       format('drop trigger if exists %I on %s', g.tgname, t.name), pg_catalog.pg_get_triggerdef(g.oid)
  from pg_catalog.pg_trigger g
  join ours t on t.oid = g.tgrelid
  join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_trigger'::regclass and d.objid = g.oid and d.refobjsubid > 0
  join attributes a on a.oid = d.refobjid and a.attnum = d.refobjsubid
 where not g.tgisinternal
union all
select 'view', r.ev_class::regclass::text, r.ev_class::regclass::text, a.name, a.column,
       format('drop view if exists %s cascade', r.ev_class::regclass), null
  from pg_catalog.pg_rewrite r
  join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid and d.refobjsubid > 0
  join attributes a on a.oid = d.refobjid and a.attnum = d.refobjsubid
"""
