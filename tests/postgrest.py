"""Requests in the shape in which PostgREST 12 sends them to the database.

    api = db.as_user(user_id)                                     # a role, its claims, its headers
    api.insert("live_stream_chat", {"session_id": s, …})          # POST   → the row, with what triggers left in it
    api.update("live_stream_sessions", {"status": "ended"}, where={"id": s}, one=True)             # PATCH
    api.select("live_stream_sessions", "*, influencer:influencers(display_name)", where={"id": s})  # GET
    api.rpc("live_stream_join", session_id=s)                     # POST /rpc/live_stream_join

Each is one transaction on a connection that everybody shares: begin, the request's settings, one prepared statement,
commit. Rows come back as JSON gives them: uuids and timestamps are strings. A refusal raises RequestError.

In one file, as it stands for one program: what it knows of the schema, how it writes its statements, how it answers.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable

import psycopg

Row = dict[str, Any]


class RequestError(Exception):
    """What a client gets instead of rows: `sqlstate` (or PostgREST's own code), and the HTTP `status` for it."""

    def __init__(
        self, status: int, sqlstate: str, message: str, detail: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(f"{status} {sqlstate}: {message} | detail: {detail} | hint: {hint}")
        self.status, self.sqlstate, self.message, self.detail, self.hint = status, sqlstate, message, detail, hint


def http_status(sqlstate: str, message: str, anonymous: bool) -> int:
    """PostgREST 12's table of statuses (Error.hs, pgErrorStatus)."""
    exact = {
        "23503": 409,
        "23505": 409,
        "25006": 405,
        "21000": 400 if message.endswith("requires a WHERE clause") else 500,
        "42501": 401 if anonymous else 403,
        "42883": 404,
        "42P01": 404,
        "42P17": 500,
        "53400": 500,
        "57P01": 503,
        "P0001": 400,
    }
    by_class = {
        "08": 503, "09": 500, "0L": 403, "0P": 403, "25": 500, "28": 403, "2D": 500, "38": 500, "39": 500, "3B": 500,
        "40": 500, "53": 503, "54": 413, "55": 500, "57": 500, "58": 500, "F0": 500, "HV": 500, "P0": 500, "XX": 500,
    }  # fmt: skip
    if sqlstate in exact:
        return exact[sqlstate]
    if sqlstate.startswith("PT"):
        return int(sqlstate[2:]) if sqlstate[2:].isdigit() else 500
    return by_class.get(sqlstate[:2], 400)


class Api:
    """What one client may ask."""

    def __init__(
        self, gateway: "Gateway", role: str, claims: Any, headers: dict[str, str] | None = None, legacy: bool = False
    ) -> None:
        self._gateway, self.role, self.claims, self.legacy = gateway, role, claims, legacy
        self.headers = {"host": "localhost", "user-agent": "supabase-js/2"} | {
            name.lower(): value for name, value in (headers or {}).items()
        }

    def upsert(self, table: str, body: Row | list[Row], on_conflict: str = "id", ignore: bool = False) -> Any:
        """Prefer: resolution=merge-duplicates, or with `ignore` ignore-duplicates: the row, or a list of them."""
        return self.insert(table, body, on_conflict=on_conflict, ignore=ignore)

    def insert(
        self,
        table: str,
        body: Row | list[Row],
        select: str | None = "*",
        one: bool = False,
        on_conflict: str | None = None,
        ignore: bool = False,
    ) -> Any:
        """The new row, or a list of them for a list. `select=None` asks for nothing back (return=minimal)."""
        relation = self._gateway.schema.relation(table)
        rows = body if isinstance(body, list) else [body]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        names = _list(columns)
        query = _Query()
        query.text(f"insert into {relation.sql}" + (f"({names}) select {names} from " if columns else " "))
        if columns:
            query.body(body, relation, columns)
        else:
            query.text("default values")
        if on_conflict:
            sets = ", ".join(f"{_q(name)} = excluded.{_q(name)}" for name in columns)
            query.text(f" on conflict ({_list(on_conflict.split(','))}) do " + ("nothing" if ignore else f"update set {sets}"))
        returned = self._write("POST", table, relation, query, select)
        is_many = isinstance(body, list) and not one or ignore
        return returned if select is None or is_many else _single(returned)

    def update(
        self, table: str, patch: Row, where: Row | None = None, select: str | None = "*", one: bool = False
    ) -> Any:
        """The rows that changed. With `one`, the one row: an error, and nothing changed, if there are none or many."""
        if not patch:
            return []
        relation = self._gateway.schema.relation(table)
        query = _Query()
        assignments = ", ".join(f"{_q(name)} = pgrst_body.{_q(name)}" for name in patch)
        query.text(f"update {relation.sql} set {assignments} from ")
        query.body(patch, relation, list(patch))
        query.where(relation, where)
        return self._write("PATCH", table, relation, query, select, one)

    def delete(self, table: str, where: Row | None = None, select: str | None = "*", one: bool = False) -> Any:
        relation = self._gateway.schema.relation(table)
        query = _Query()
        query.text(f"delete from {relation.sql}")
        query.where(relation, where)
        return self._write("DELETE", table, relation, query, select, one)

    def select(
        self,
        table: str,
        select: str = "*",
        where: Row | None = None,
        order: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
        one: bool = False,
    ) -> Any:
        """Rows of a table or view. `select` is supabase-js's: columns and embedded relations. `where` maps a column to
        its value (None: is null; a list: one of), or "column op" for gt, gte, lt, lte, neq, like, ilike.
        `order` is PostgREST's: "sent_at.desc,id"."""
        schema = self._gateway.schema
        relation = schema.relation(table)
        query = _Query()
        query.select(schema, relation, select, relation.sql, relation.sql)
        query.where(relation, where)
        query.order(relation, order, limit, offset)
        wrapped = _Query()
        wrapped.text("with pgrst_source as (").add(query).text(
            ") select null::bigint as total_result_set, pg_catalog.count(_postgrest_t) as page_total,"
            " coalesce(json_agg(_postgrest_t), '[]') as body,"
            " nullif(current_setting('response.headers', true), '') as response_headers,"
            " nullif(current_setting('response.status', true), '') as response_status"
            " from (select * from pgrst_source) _postgrest_t"
        )
        return self._send("GET", f"/{table}", wrapped, one)

    def rpc(self, function: str, body: Row | None = None, /, **args: Any) -> Any:
        """Calls a function by named arguments: its value, row (dict) or rows (list), as the function returns them."""
        return self._call("POST", function, (body or {}) | args)

    def rpc_get(self, function: str, body: Row | None = None, /, **args: Any) -> Any:
        """The same by GET: the transaction is read-only."""
        return self._call("GET", function, (body or {}) | args)

    def _call(self, method: str, name: str, args: Row) -> Any:
        function = self._gateway.schema.function(name, args)
        call = f"public.{_q(name)}("
        query = _Query().text("with pgrst_source as (select pgrst_call.* from ")
        inner = _Query()
        if method == "POST" and args:
            types = ", ".join(f"{_q(arg)} {function.args[arg]}" for arg in args)
            query.text("(select ").param(json.dumps(args, default=_json)).text("::json as json_data) pgrst_payload, ")
            query.text(
                f"lateral (select {_list(args)} from json_to_record(pgrst_payload.json_data)"
                f" as _({types}) limit 1) pgrst_body, lateral "
            )
            inner.text(call + ", ".join(f"{_q(arg)} := pgrst_body.{_q(arg)}" for arg in args) + ")")
        else:
            inner.text(call)
            for position, (arg, value) in enumerate(args.items()):
                inner.text(f"{', ' if position else ''}{_q(arg)} := ").param(_text(value))
            inner.text(")")
        if function.scalar:
            query.text("(select ").add(inner).text(" as pgrst_scalar) pgrst_call")
            body = "json_agg(_postgrest_t.pgrst_scalar)"
        else:
            query.add(inner).text(" pgrst_call")
            body = "json_agg(_postgrest_t)"
        body = f"coalesce({body}, '[]')" if function.many else f"coalesce({body}->0, 'null')"
        query.text(
            ") select null::bigint as total_result_set, 1 as page_total, " + body + " as body,"
            " nullif(current_setting('response.headers', true), '') as response_headers,"
            " nullif(current_setting('response.status', true), '') as response_status"
            " from (select * from pgrst_source) _postgrest_t"
        )
        result = self._send(method, f"/rpc/{name}", query)
        return None if function.void else result

    def _write(
        self, method: str, table: str, relation: "Relation", query: "_Query", select: str | None, one: bool = False
    ) -> Any:
        schema = self._gateway.schema
        query.text(" returning ")
        wrapped = _Query().text("with pgrst_source as (")
        if select is None:
            wrapped.add(query.text("1)"))
            wrapped.text(" select '' as total_result_set, pg_catalog.count(*) as page_total,")
            wrapped.text(" array[]::text[] as header, null::json as body from (select * from pgrst_source) _postgrest_t")
            return self._send(method, f"/{table}", wrapped)
        embeds = "(" in select
        columns = ["*"] if embeds else [item.column for item in _parse_select(select)]
        query.text(", ".join(f"{relation.sql}.{'*' if name == '*' else _q(name)}" for name in columns))
        wrapped.add(query).text(
            ") select '' as total_result_set, pg_catalog.count(_postgrest_t) as page_total,"
            " array[]::text[] as header, coalesce(json_agg(_postgrest_t), '[]') as body,"
            " nullif(current_setting('response.headers', true), '') as response_headers,"
            " nullif(current_setting('response.status', true), '') as response_status,"
            " '' as response_inserted from ("
        )
        wrapped.select(schema, relation, select, "pgrst_source as " + _q(table), _q(table))
        wrapped.text(") _postgrest_t")
        return self._send(method, f"/{table}", wrapped, one)

    def _send(self, method: str, path: str, query: "_Query", one: bool = False) -> Any:
        return self._answer(method, path, query, one)["body"]

    def _answer(self, method: str, path: str, query: "_Query", one: bool = False, **headers: str) -> Row:
        """The body, and what functions have set of the answer (response_headers, response_status)."""
        settings = [
            ("search_path", '"public", "extensions"'),
            ("role", self.role),
            ("request.method", method),
            ("request.path", path),
            ("request.headers", json.dumps(self.headers | headers)),
            ("request.cookies", "{}"),
        ]
        if self.legacy:
            settings[2:2] = [(f"request.jwt.claim.{name}", _text(value)) for name, value in self.claims.items()]
        else:
            claims = self.claims if isinstance(self.claims, str) else json.dumps(self.claims, default=_json)
            settings.insert(2, ("request.jwt.claims", claims))
        try:
            return self._gateway.run(method in ("GET", "HEAD"), settings, query, one)
        except psycopg.Error as error:
            raise _refusal(error, anonymous=self.role == "anon") from error


def _refusal(error: psycopg.Error, anonymous: bool) -> RequestError:
    if error.sqlstate is None:
        return RequestError(503, "08006", str(error))
    message = error.diag.message_primary or str(error)
    return RequestError(
        http_status(error.sqlstate, message, anonymous),
        error.sqlstate,
        message,
        error.diag.message_detail,
        error.diag.message_hint,
    )


def _single(rows: list[Row]) -> Row:
    if len(rows) != 1:
        raise RequestError(
            406,
            "PGRST116",
            "JSON object requested, multiple (or no) rows returned",
            f"The result contains {len(rows)} rows",
        )
    return rows[0]


class Gateway:
    """The pool of connections that all requests to one database share, and what PostgREST knows of its schema."""

    def __init__(self, connect: Callable[..., psycopg.Connection], schema: "SchemaCache | None" = None) -> None:
        self._connect, self._schema = connect, schema
        self._idle: list[psycopg.Connection] = []
        self._lock = threading.Lock()

    @property
    def schema(self) -> "SchemaCache":
        if self._schema is None:
            with self._connect() as connection:
                self._schema = SchemaCache(connection)
        return self._schema

    def reload_schema(self) -> None:
        self._schema = None

    def run(self, read_only: bool, settings: list[tuple[str, str]], query: "_Query", one: bool) -> Row:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            options = "-c statement_timeout=60s -c client_min_messages=warning"
            connection = self._connect("authenticator", options=options)
        try:
            connection.execute(f"begin isolation level read committed {'read only' if read_only else 'read write'}")
            calls = ", ".join("set_config(%s, %s, true)" for _ in settings)
            connection.execute("select " + calls, [text for pair in settings for text in pair], prepare=True)
            row = connection.execute(query.sql, query.params, prepare=True).fetchone()
            if one:
                row["body"] = _single(row["body"])
            connection.execute("commit")
            return row
        except BaseException:
            if not connection.closed:
                connection.execute("rollback")
            raise
        finally:
            if not connection.closed:
                with self._lock:
                    self._idle.append(connection)

    def close(self) -> None:
        with self._lock:
            for connection in self._idle:
                connection.close()
            self._idle.clear()


class _Query:
    """Text with its parameters; all of them go as text of unknown type, as PostgREST sends them."""

    def __init__(self) -> None:
        self.sql = ""
        self.params: list[str] = []

    def text(self, sql: str) -> "_Query":
        self.sql += sql.replace("%", "%%")
        return self

    def param(self, value: str) -> "_Query":
        self.sql += "%s"
        self.params.append(value)
        return self

    def add(self, other: "_Query") -> "_Query":
        self.sql += other.sql
        self.params += other.params
        return self

    def body(self, body: Row | list[Row], relation: "Relation", columns: list[str]) -> "_Query":
        names = _list(columns)
        types = ", ".join(f"{_q(name)} {relation.type(name)}" for name in columns)
        expand = "json_to_recordset" if isinstance(body, list) else "json_to_record"
        self.text("(select ").param(json.dumps(body, default=_json)).text("::json as json_data) pgrst_payload, ")
        return self.text(
            f"lateral (select {names} from {expand}(pgrst_payload.json_data) as _({types})) pgrst_body"
        )

    def where(self, relation: "Relation", where: Row | None, *joins: str) -> "_Query":
        conditions = [_Query().text(join) for join in joins]
        for key, value in (where or {}).items():
            name, _, op = key.partition(" ")
            column = f"{relation.sql}.{_q(name)}"
            relation.type(name)
            condition = _Query()
            if value is None:
                condition.text(column + (" is not null" if op == "neq" else " is null"))
            elif isinstance(value, (list, tuple, set)):
                quoted = [_text(item).replace("\\", "\\\\").replace('"', '\\"') for item in value]
                items = ",".join(f'"{item}"' for item in quoted)
                condition.text(column + " = any (").param("{" + items + "}").text(")")
            else:
                sql = {"": "=", "eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "neq": "<>"}.get(op, op)
                condition.text(f"{column} {sql} ").param(_text(value))
            conditions.append(condition)
        for position, condition in enumerate(conditions):
            self.text(" and " if position else " where ").add(condition)
        return self

    def order(self, relation: "Relation", order: str | None, limit: int | None, offset: int | None) -> "_Query":
        terms = []
        for term in (order or "").replace(" ", "").split(",") if order else []:
            name, *words = term.split(".")
            relation.type(name)
            sql = {"asc": " asc", "desc": " desc", "nullsfirst": " nulls first", "nullslast": " nulls last"}
            terms.append(f"{relation.sql}.{_q(name)}" + "".join(sql[word] for word in words))
        if terms:
            self.text(" order by " + ", ".join(terms))
        if limit is not None:
            self.text(" limit ").param(str(limit))
        if offset:
            self.text(" offset ").param(str(offset))
        return self

    def select(
        self, schema: "SchemaCache", relation: "Relation", select: str, source: str, alias: str, depth: int = 1
    ) -> "_Query":
        """`select …, embedded relations from source left join lateral (…) on true`, up to its where."""
        columns, joins = [], _Query()
        for item in _parse_select(select):
            if item.embedded is None:
                if item.column != "*":
                    relation.type(item.column)
                column = "*" if item.column == "*" else _q(item.column)
                cast = f"cast({alias}.{column} as {item.cast})" if item.cast else f"{alias}.{column}"
                columns.append(cast + (f" as {_q(item.alias)}" if item.alias else ""))
                continue
            name = item.alias or item.column
            link = schema.link(relation, item.column, item.hint)
            inner, outer = f"{item.column}_{depth}", f"{relation.name}_{name}_{depth}"
            related = schema.relation(item.column)
            on = [f"{_q(inner)}.{_q(far)} = {alias}.{_q(near)}" for near, far in link.columns]
            query = _Query().select(schema, related, item.embedded, f"{related.sql} as {_q(inner)}", _q(inner), depth + 1)
            query.where(related, None, *on)
            joins.text(" inner join lateral (" if item.inner else " left join lateral (")
            if link.many:
                joins.text(f"select json_agg({_q(outer)}.*)::jsonb as {_q(outer)} from (").add(query)
                joins.text(f") as {_q(outer)}) as {_q(outer)} on ")
                joins.text(f"{_q(outer)} is not null" if item.inner else "true")
                columns.append(f"coalesce({_q(outer)}.{_q(outer)}, '[]') as {_q(name)}")
            else:
                joins.add(query).text(f") as {_q(outer)} on true")
                columns.append(f"row_to_json({_q(outer)}.*)::jsonb as {_q(name)}")
        return self.text("select " + ", ".join(columns) + " from " + source).add(joins)


@dataclass
class _Item:
    """One part of a select list: `alias:column::cast`, or `alias:relation!hint(…)`."""

    column: str
    alias: str | None = None
    cast: str | None = None
    embedded: str | None = None
    hint: str | None = None
    inner: bool = False


def _parse_select(select: str) -> list[_Item]:
    parts, depth, start = [], 0, 0
    for position, character in enumerate(select + ","):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(select[start:position].strip())
            start = position + 1
    items = []
    for part in filter(None, parts):
        match = re.fullmatch(r"(?:(\w+):(?!:))?([\w*]+)((?:!\w+)*)(?:::(\w+))?(?:\((.*)\))?", part, re.DOTALL)
        if not match:
            raise RequestError(400, "PGRST100", f"failed to parse select parameter ({part})")
        alias, column, bangs, cast, embedded = match.groups()
        hints = [word for word in bangs.split("!") if word]
        inner = "inner" in hints
        hint = next((word for word in hints if word not in ("inner", "left")), None)
        items.append(_Item(column, alias, cast, embedded, hint, inner))
    return items


@dataclass
class Relation:
    """A table or view of schema public. `origin` says for each base table which column of it a column of ours shows."""

    oid: int
    name: str
    columns: dict[str, str] = field(default_factory=dict)
    origin: dict[int, dict[int, str]] = field(default_factory=dict)

    @property
    def sql(self) -> str:
        return f'"public".{_q(self.name)}'

    def type(self, column: str) -> str:
        if column not in self.columns:
            message = f"Could not find the '{column}' column of '{self.name}' in the schema cache"
            raise RequestError(400, "PGRST204", message)
        return self.columns[column]


@dataclass
class _Link:
    """How two relations join; `many` if there may be several on the far side."""

    columns: list[tuple[str, str]]
    many: bool


@dataclass
class _Function:
    args: dict[str, str]
    required: set[str]
    scalar: bool
    many: bool
    void: bool


class SchemaCache:
    """The tables, views, foreign keys and functions of schema public, as they were when it was read."""

    def __init__(self, connection: psycopg.Connection) -> None:
        connection.execute("set search_path = ''")
        by_oid: dict[int, Relation] = {}
        rules: dict[int, str] = {}
        for row in connection.execute(_COLUMNS):
            relation = by_oid.setdefault(row["oid"], Relation(row["oid"], row["relation"]))
            relation.columns[row["name"]] = row["type"]
            if row["rule"] is None:
                relation.origin.setdefault(row["oid"], {})[row["number"]] = row["name"]
            else:
                rules[row["oid"]] = row["rule"]
        for oid in rules:
            _trace(by_oid, rules, oid)
        self._relations = {relation.name: relation for relation in by_oid.values()}
        self._keys = connection.execute(_FOREIGN_KEYS).fetchall()
        self._functions: dict[str, list[_Function]] = {}
        for row in connection.execute(_FUNCTIONS):
            args = dict(zip(row["names"] or [], row["types"] or []))
            required = set(list(args)[: len(args) - row["defaults"]])
            function = _Function(args, required, not row["composite"], row["many"], row["void"])
            self._functions.setdefault(row["name"], []).append(function)

    def relation(self, name: str) -> Relation:
        if name not in self._relations:
            raise RequestError(404, "42P01", f'relation "public.{name}" does not exist')
        return self._relations[name]

    def function(self, name: str, args: Iterable[str]) -> _Function:
        """The function of this name that takes just these arguments."""
        found = [f for f in self._functions.get(name, []) if f.required <= set(args) <= set(f.args)]
        if len(found) == 1:
            return found[0]
        if found:
            raise RequestError(300, "PGRST203", f"Could not choose the best candidate function of {name}")
        with_args = f" with parameters {', '.join(args)}" if args else " without parameters"
        raise RequestError(404, "PGRST202", f"Could not find the function public.{name}{with_args} in the schema cache")

    def link(self, near: Relation, far_name: str, hint: str | None) -> _Link:
        far = self.relation(far_name)
        links = []
        for key in self._keys:
            if hint not in (None, key["name"], *key["column_names"]):
                continue
            for start, end, many in ((near, far, False), (far, near, not key["one_to_one"])):
                from_columns = [start.origin.get(key["from_table"], {}).get(n) for n in key["from_columns"]]
                to_columns = [end.origin.get(key["to_table"], {}).get(n) for n in key["to_columns"]]
                if None in from_columns or None in to_columns:
                    continue
                pairs = list(zip(from_columns, to_columns))
                links.append(_Link(pairs if start is near else [(b, a) for a, b in pairs], many and start is far))
                if near is far:
                    break
        if not links:
            message = f"Could not find a relationship between '{near.name}' and '{far_name}' in the schema cache"
            raise RequestError(400, "PGRST200", message)
        if len(links) > 1:
            message = f"Could not embed because more than one relationship was found for '{near.name}' and '{far_name}'"
            raise RequestError(300, "PGRST201", message)
        return links[0]


def _trace(relations: dict[int, Relation], rules: dict[int, str], oid: int) -> None:
    """Follows a view's columns to the tables they come from, as the view's rewrite rule names them."""
    relation = relations[oid]
    if relation.origin:
        return
    names = list(relation.columns)
    # The view's own target list is the last one of its rule; those before it belong to subqueries.
    targets = rules[oid].rpartition(":targetList ")[2]
    for number, table, column in re.findall(
        r":resno (\d+) :resname \S+ :ressortgroupref \d+ :resorigtbl (\d+) :resorigcol (\d+) :resjunk false", targets
    ):
        if int(table) in rules and int(table) != oid:
            _trace(relations, rules, int(table))
            base = relations[int(table)]
            shown = list(base.columns)[int(column) - 1]
            for origin, columns in base.origin.items():
                for base_number, name in columns.items():
                    if name == shown:
                        relation.origin.setdefault(origin, {}).setdefault(base_number, names[int(number) - 1])
        elif table != "0":
            relation.origin.setdefault(int(table), {}).setdefault(int(column), names[int(number) - 1])


_COLUMNS = """
select c.oid::int, c.relname as relation, a.attname as name, a.attnum as number,
       pg_catalog.format_type(a.atttypid, a.atttypmod) as type, r.ev_action::text as rule
from pg_catalog.pg_class c
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_catalog.pg_rewrite r on r.ev_class = c.oid and r.rulename = '_RETURN'
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v', 'm', 'f', 'p')
order by c.oid, a.attnum
"""

_FOREIGN_KEYS = """
select k.conname as name, k.conrelid::int as from_table, k.conkey as from_columns,
       k.confrelid::int as to_table, k.confkey as to_columns,
       array(select attname::text from pg_catalog.pg_attribute
             where attrelid = k.conrelid and attnum = any (k.conkey)) as column_names,
       exists (select from pg_catalog.pg_constraint u
               where u.conrelid = k.conrelid and u.contype in ('p', 'u')
                 and u.conkey @> k.conkey and u.conkey <@ k.conkey) as one_to_one
from pg_catalog.pg_constraint k
where k.contype = 'f'
"""

_FUNCTIONS = """
select p.proname as name,
       case when p.proargmodes is null then p.proargnames
            else array(select n from unnest(p.proargnames, p.proargmodes) as _(n, m) where m in ('i', 'b', 'v'))
       end as names,
       array(select pg_catalog.format_type(t, null) from unnest(p.proargtypes) as t) as types,
       p.pronargdefaults as defaults, p.proretset as many, p.prorettype = 'void'::regtype as void,
       t.typtype = 'c' or coalesce(p.proargmodes && '{t,b,o}'::"char"[], false) as composite
from pg_catalog.pg_proc p
join pg_catalog.pg_type t on t.oid = p.prorettype
where p.pronamespace = 'public'::regnamespace and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype
"""


def _q(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _list(names: Iterable[str]) -> str:
    return ", ".join(_q(name) for name in names)


def _json(value: Any) -> Any:
    """What JSON has no type for goes as a client would write it: dates in ISO 8601, decimals as numbers."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return float(value) if type(value).__name__ == "Decimal" else str(value)


def _text(value: Any) -> str:
    """A value as it stands in a query string."""
    return value if isinstance(value, str) else json.dumps(value, default=_json).strip('"')
