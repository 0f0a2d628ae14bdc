"""The access matrix (access_matrix.txt): how it is read, the world that it speaks of, and how a cell is tried.

    matrix = read()
    matrix.answer("live_stream_chat", "update text", "viewer", State("live", "public", "on"))     # "yes | none"
    scene = Scene(world, state)
    scene.outcome("live_stream_chat", "update text", "viewer")                                    # what really happens

`python tests/access.py` renews README.md's table of the security model.

In one file, as a cell is read, staged and tried by the same words: a table of them in three places would drift apart.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any, Callable

import psycopg

from database import Database
from people import Person, World
from postgrest import Api, Gateway, RequestError, Row

FILE = Path(__file__).with_name("access_matrix.txt")


@dataclass(frozen=True)
class State:
    status: str
    visibility: str
    chat: str

    @property
    def words(self) -> set[str]:
        return {self.status, self.visibility, f"chat-{self.chat}"}

    def __str__(self) -> str:
        return f"{self.status}-{self.visibility}-chat-{self.chat}"


STATES = [State(*words) for words in product(("scheduled", "live", "ended"), ("public", "unlisted", "private"), ("on", "off"))]
WORDS = set().union(*(state.words for state in STATES))


@dataclass
class Line:
    number: int
    roles: set[str] | None  # None: the others
    states: list[set[str]]
    answer: str

    def speaks_of(self, state: State) -> bool:
        return any(words <= state.words for words in self.states)


@dataclass
class Table:
    name: str
    classes: dict[str, list[str]] = field(default_factory=dict)
    actions: dict[str, list[Line]] = field(default_factory=dict)


class Unclear(Exception):
    """The file has no answer for a cell, or two."""


class Matrix:
    def __init__(self, text: str) -> None:
        self.roles: list[str] = []
        self.groups: dict[str, set[str]] = {}
        self.tables: dict[str, Table] = {}
        self.not_ours: list[str] = []
        table, lines = None, None
        for number, raw in enumerate(text.splitlines(), 1):
            line = raw.partition("#")[0].rstrip()
            words = line.split()
            if not words:
                continue
            if words[0] == "roles":
                self.roles = words[1:]
            elif words[0] == "group":
                self.groups[words[1]] = self._roles(words[3:], number)
            elif words[0] == "apps":
                self.not_ours = words[1:]
            elif words[0] in ("table", "view"):
                table = self.tables[words[1]] = Table(words[1])
            elif words[0] == "class":
                name, _, columns = line.strip().removeprefix("class ").partition(":")
                table.classes.setdefault(name.strip(), []).extend(columns.split())
            elif "|" not in line:
                lines = []
                for action in line.strip().split(", "):
                    if action in table.actions:
                        raise Unclear(f"line {number}: {table.name} has {action} twice")
                    table.actions[action] = lines
            else:
                who, _, rest = line.partition("|")
                when, _, answer = rest.partition("|")
                names = who.replace(",", " ").split()
                roles = None if names == ["others"] else self._roles(names, number)
                states = [set(part.split()) for part in when.split(",")]
                for unknown in set().union(*states) - WORDS - {"always"}:
                    raise Unclear(f"line {number}: unknown state {unknown}")
                states = [words - {"always"} for words in states]
                lines.append(Line(number, roles, states, " ".join(answer.split())))

    def _roles(self, names: list[str], number: int) -> set[str]:
        found = set()
        for name in names:
            if name == "everybody":
                found |= set(self.roles)
            elif name in self.groups:
                found |= self.groups[name]
            elif name in self.roles:
                found.add(name)
            else:
                raise Unclear(f"line {number}: unknown role {name}")
        return found

    def answer(self, table: str, action: str, role: str, state: State) -> str:
        return self.line(table, action, role, state).answer

    def line(self, table: str, action: str, role: str, state: State) -> Line:
        """Where the answer is."""
        lines = [line for line in self.tables[table].actions[action] if line.speaks_of(state)]
        named = [line for line in lines if line.roles and role in line.roles]
        found = named or [line for line in lines if line.roles is None]
        if len(found) != 1:
            numbers = ", ".join(str(line.number) for line in found) or "none"
            raise Unclear(f"{table}, {action}, {role}, {state}: one answer is needed, lines with one: {numbers}")
        return found[0]


def read() -> Matrix:
    return Matrix(FILE.read_text())


# README.md's table: what each may do to rows of a public session that is live, by direct requests.

README = FILE.parent.parent / "README.md"
BEGIN, END = "<!-- from tests/access_matrix.txt -->", "<!-- to here -->"
SHOWN = {"anon": "without an account", "stranger": "signed in", "viewer": "who has joined", "banned": "banned",
         "moderator": "moderator", "influencer": "the influencer"}  # fmt: skip
SHOWN_STATE = State("live", "public", "on")


def rights(matrix: Matrix, table: Table, role: str) -> str:
    answer = lambda action: matrix.answer(table.name, action, role, SHOWN_STATE)
    words = {"all": ["read"], "own": ["read own"]}.get(answer("select"), [])
    if "insert" in table.actions and answer("insert") == "yes":
        words.append("add")
    changes = [answer(action) for action in table.actions if action.startswith("update ")]
    for word, answers in (("change", changes), ("delete", [answer("delete")] if table.classes else [])):
        # 23503: they may, but for what hangs on this one.
        parts = [[part.strip().replace("23503", "yes") for part in given.split("|")] for given in answers]
        if any(found[-1] == "yes" for found in parts):
            words.append(word)
        elif any(found[0] == "yes" for found in parts):
            words.append(f"{word} own")
    return ", ".join(words) or "–"


def security_table(matrix: Matrix) -> str:
    rows = [["table or view", *SHOWN.values()], ["---"] * (len(SHOWN) + 1)]
    for table in matrix.tables.values():
        rows.append([f"`{table.name}`", *(rights(matrix, table, role) for role in SHOWN)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def with_security_table(page: str) -> str:
    before, found, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    assert found and ended, f"README.md: the comments {BEGIN} and {END} are missing"
    return f"{before}{BEGIN}\n{security_table(read())}\n{END}{after}"


# A plan is made once for everybody, as it is for PostgREST after a few requests.
OPTIONS = "-c statement_timeout=60s -c client_min_messages=warning -c plan_cache_mode=force_generic_plan"


class Trial(Gateway):
    """Requests whose transactions are rolled back. Each database role has a connection of its own, which keeps its plans."""

    def __init__(self, db: Database) -> None:
        super().__init__(db.connect, db.schema)
        self._of_role: dict[str, psycopg.Connection] = {}

    def run(self, read_only: bool, settings: list[tuple[str, str]], query: Any, one: bool) -> Any:
        role = dict(settings)["role"]
        if role not in self._of_role:
            self._of_role[role] = self._connect("authenticator", options=OPTIONS)
            self._of_role[role].prepared_max = 2000
        connection = self._of_role[role]
        connection.execute(f"begin isolation level read committed {'read only' if read_only else 'read write'}")
        try:
            calls = ", ".join("set_config(%s, %s, true)" for _ in settings)
            connection.execute("select " + calls, [text for pair in settings for text in pair], prepare=True)
            row = connection.execute(query.sql, query.params, prepare=True).fetchone()
            if not read_only:
                connection.execute("set constraints all immediate")
            return row
        finally:
            connection.execute("rollback")

    def close(self) -> None:
        for connection in self._of_role.values():
            connection.close()


# A value of each type that nothing in a scene has.
SAMPLES = {
    "uuid": "5a5a5a5a-0000-4000-8000-5a5a5a5a5a5a",
    "boolean": True,
    "integer": 77,
    "bigint": 77,
    "numeric": 7.25,
    "text": "changed",
    "inet": "203.0.113.77",
    "jsonb": {"changed": 1},
    "date": "2031-02-03",
    "time without time zone": "03:04:05",
    "timestamp without time zone": "2031-02-03T04:05:06",
    "timestamp with time zone": "2031-02-03T04:05:06+00:00",
    "timestamp with time zone[]": ["2031-02-03T04:05:06+00:00"],
    "uuid[]": ["5a5a5a5a-0000-4000-8000-5a5a5a5a5a5a"],
    "integer[]": [3],
    "bytea": "\\x0102",
    "interval": "03:04:05",
}
# Where the type's own value would be refused for another reason, or is what the row has anyway.
BETTER = {
    "is_still_watching": False,
    "is_recording_enabled": False,
    "is_products_showcase": False,
    "scheduled_start_time": "2031-02-03T04:05:06+00:00",
    "scheduled_end_time": "2031-02-03T05:05:06+00:00",
    "live_stream_schedule.scheduled_start_time": "03:04:05",
    "live_stream_schedule.scheduled_end_time": "05:04:05",
    "live_stream_schedule_exceptions.original_starts_at": "2030-01-09T15:00:00+00:00",
    "live_stream_schedule_exceptions.kind": "move",
    "live_stream_schedule_exceptions.fits": False,
    "ends_at": "2031-02-03T05:05:06+00:00",
    "period_end": "2031-02-03T05:05:06+00:00",
    "actual_end_time": "2031-02-03T05:05:06+00:00",
    "left_at": "2031-02-03T05:05:06+00:00",
    "counted_until": "2031-02-03T05:05:06+00:00",
    "live_stream_viewers.viewer_type": "wholesaler",
    "connection_quality": "fair",
    "stream_quality": "720p",
    "message_type": "reaction",
    "period_type": "day",
    "recurrence_pattern": "custom",
    "recurrence_rule": "FREQ=DAILY;INTERVAL=3",
    "days_of_week": None,
    "timezone": "Europe/Berlin",
    "live_stream_schedule.status": "confirmed",
    "live_stream_notifications.type": "special_offer",
    "delivery_method": "email",
    "session_code": "CHANGED234",
    "discount_percentage": 7.25,
    "average_connection_quality": 2.25,
    "slow_mode_seconds": 77,
    "requires_sign_in": True,
    "live_stream_bans.kind": "timeout",
    "live_stream_invitations.token_hash": "\\x" + "03" * 32,
    "live_stream_moderation_log.action": "unban",
}


class Scene:
    """A session in a state, the people around it, and rows of theirs in every table."""

    def __init__(self, world: World, state: State, trial: Trial) -> None:
        self.world, self.db, self.state, self.trial = world, world.db, state, trial
        new = world.new_user
        self.people: dict[str, Person] = {
            name: new() for name in ("stranger", "viewer", "another_viewer", "moderator", "banned")
        }
        self.people["influencer"] = world.new_influencer(f"Host {state}")
        self.people["another_influencer"] = world.new_influencer(f"Other {state}")
        self.influencer_id = self.people["influencer"].influencer_id
        self.other_influencer_id = self.people["another_influencer"].influencer_id
        self.newcomer = new().user_id
        self._make()
        self._apis = {name: self._api(name) for name in [*self.people, "anon", "anonymous_viewer", "service_role"]}

    def _api(self, name: str) -> Api:
        if name in self.people:
            user_id = self.people[name].user_id
            return Api(self.trial, "authenticated", {"aud": "authenticated", "sub": user_id, "role": "authenticated"})
        if name == "service_role":
            return Api(self.trial, "service_role", {"role": "service_role"})
        headers = {"x-viewer-id": self.viewers["anonymous_viewer"]} if name == "anonymous_viewer" else {}
        return Api(self.trial, "anon", {"role": "anon"}, headers)

    def _make(self) -> None:
        world, service, state = self.world, self.world.service, self.state
        host, other = self.people["influencer"], self.people["another_influencer"]
        hidden = {"visibility": state.visibility, "is_chat_enabled": state.chat == "on"}
        plan = {"scheduled_start_time": "2030-01-07T15:00:00Z", "scheduled_end_time": "2030-01-07T16:00:00Z"}
        session = world.session("The session", live=False, by=host, stream_key="a-secret-key", rtmp_url="rtmp://secret",
                                **hidden, **(plan if state.status == "scheduled" else {}))  # fmt: skip
        self.session = session["id"]
        if state.status != "scheduled":
            service.update("live_stream_sessions", {"status": "live"}, where={"id": self.session})
        self.spare_session = world.session("Another", live=False, by=host, **hidden)["id"]
        elsewhere = world.session("Elsewhere", by=other)
        self.elsewhere = elsewhere["id"]
        watching = ("viewer", "another_viewer", "influencer", "moderator", "banned")
        self.viewers = {
            name: service.insert("live_stream_viewers", {"session_id": self.session, "user_id": self.people[name].user_id})["id"]
            for name in watching
        }
        row = {"session_id": self.session, "viewer_type": "anonymous"}
        self.viewers["anonymous_viewer"] = service.insert("live_stream_viewers", row)["id"]
        self.viewers["somebody without an account"] = service.insert("live_stream_viewers", row)["id"]
        self.messages = {
            name: service.insert(
                "live_stream_chat",
                {"session_id": self.session, "user_id": self.people[name].user_id, "message": "hello", "username": name},
            )["id"]
            for name in watching
        }
        # To write true there is to change something, also of the host's.
        service.update("live_stream_chat", {"is_influencer": False, "is_moderator": False}, where={"session_id": self.session})
        self.product_id, self.spare_product_id = world.new_product(), world.new_product()
        self.product = world.product({"id": self.session}, by=host, product_id=self.product_id)["id"]
        self.other_product_id = world.new_product()
        world.product({"id": self.elsewhere}, by=other, product_id=self.other_product_id)
        for name in ("viewer", "another_viewer", "banned"):
            user_id = self.people[name].user_id
            self._owner("live_stream_chat_reactions", message_id=self.messages["viewer"], user_id=user_id, reaction="heart")
            self._owner("live_stream_orders", session_id=self.session, product_id=self.product_id, user_id=user_id, amount=5)
            self._owner("live_stream_followers", user_id=user_id, influencer_id=self.influencer_id)
            self._owner("live_stream_notifications", user_id=user_id, influencer_id=self.influencer_id,
                        session_id=self.session, type="special_offer", title="Look", delivery_method="push")  # fmt: skip
        about = {"message_id": self.messages["influencer"], "session_id": self.session}
        self._owner("live_stream_removed_messages", message="rude", **about)
        self._owner("live_stream_flagged_messages", **about)
        for name in ("viewer", "another_viewer", "anonymous_viewer"):
            self._owner("live_stream_heartbeats", viewer_id=self.viewers[name])
        rule = {"recurrence_rule": "FREQ=DAILY", "scheduled_date": "2030-01-07", "scheduled_start_time": "15:00"}
        self.schedule = world.schedule("A schedule", by=host, visibility=state.visibility, **rule)["id"]
        self._owner("live_stream_schedule_exceptions", schedule_id=self.schedule,
                    original_starts_at="2030-01-08T15:00Z", kind="skip")  # fmt: skip
        self._owner("live_stream_schedule_sessions", schedule_id=self.schedule, original_local_start="2030-01-07T15:00",
                    original_starts_at="2030-01-07T15:00Z", session_id=self.session, starts_at="2030-01-07T15:00Z",
                    ends_at="2030-01-07T16:00Z", title="A session")  # fmt: skip
        self.other_schedule = world.schedule("Elsewhere", by=other, **rule)["id"]
        self._owner("live_stream_analytics", session_id=self.session, period_type="hour",
                    period_start="2030-01-01T00:00Z", period_end="2030-01-01T01:00Z")  # fmt: skip
        if state.status == "ended":
            service.update("live_stream_sessions", {"status": "ended"}, where={"id": self.session})
        self.db.owner("delete from public.live_stream_reminders where session_id = %s", [self.session])
        planned = {"influencer_id": self.influencer_id, "starts_at": "2030-01-07T15:00Z", "due_at": "2030-01-07T14:00Z"}
        self._owner("live_stream_reminders", session_id=self.session, **planned)
        self._give_parts()

    def _give_parts(self) -> None:
        """Of moderation: who moderates, who is banned, who is invited, and what the log says of that."""
        host = {"influencer_id": self.influencer_id}
        id_of = {name: person.user_id for name, person in self.people.items()}
        self._owner("live_stream_moderators", user_id=id_of["moderator"], **host)
        self.ban = self._owner("live_stream_bans", user_id=id_of["banned"], session_id=self.session, **host)["id"]
        self.guest = self.world.new_user().user_id
        self._owner("live_stream_guests", session_id=self.session, user_id=self.guest)
        self.invitation = self._owner("live_stream_invitations", session_id=self.session, token_hash=uuid.UUID(self.session).bytes * 2,
                                      expires_at="2030-01-01T00:00Z")["id"]  # fmt: skip
        self.db.owner("delete from public.live_stream_moderation_log where influencer_id = %s", [self.influencer_id])
        self.logged = self._owner("live_stream_moderation_log", session_id=self.session, action="ban",
                                  user_id=id_of["banned"], actor_id=id_of["moderator"], **host)["id"]  # fmt: skip
        self._owner("live_stream_archive", session_id=self.session)

    def _owner(self, table: str, **columns: Any) -> Row:
        names, places = ", ".join(columns), ", ".join(["%s"] * len(columns))
        query = f"insert into public.{table} ({names}) values ({places}) returning *"
        (row,) = self.db.owner(query, list(columns.values()))
        return {name: str(value) if isinstance(value, uuid.UUID) else value for name, value in row.items()}

    # Which rows of a table belong to the scene, and whose each is.

    def rows(self, table: str) -> tuple[Row, str, dict[str, str]]:
        """The condition that finds them, the column that tells them apart, and its value for each person."""
        users = {name: self.people[name].user_id for name in ("viewer", "another_viewer", "banned")}
        host = lambda id: {"influencer": id}
        session = {"session_id": self.session}
        plan = {"schedule_id": self.schedule}
        beats = {name: self.viewers[name] for name in ("viewer", "another_viewer", "anonymous_viewer")}
        influencers = {"influencer": self.influencer_id, "another_influencer": self.other_influencer_id}
        return {
            "live_stream_sessions": ({"id": self.session}, "id", host(self.session)),
            "live_sessions_with_details": ({"id": self.session}, "id", host(self.session)),
            "session_analytics_summary": (session, "session_id", host(self.session)),
            "live_stream_credentials": (session, "session_id", host(self.session)),
            "live_stream_viewers": (session, "id", self.viewers),
            "live_stream_heartbeats": ({"viewer_id": list(beats.values())}, "viewer_id", beats),
            "live_stream_chat": (session, "id", self.messages),
            "live_stream_chat_reactions": (session, "user_id", users),
            "live_stream_removed_messages": (session, "message_id", host(self.messages["influencer"])),
            "live_stream_flagged_messages": (session, "message_id", host(self.messages["influencer"])),
            "live_stream_products": (session, "id", host(self.product)),
            "live_stream_orders": (session, "user_id", users),
            "live_stream_schedule": ({"id": self.schedule}, "id", host(self.schedule)),
            "upcoming_streams": ({"id": self.schedule}, "id", host(self.schedule)),
            "live_stream_schedule_exceptions": (plan | {"original_starts_at": "2030-01-08T15:00:00+00:00"}, "schedule_id", host(self.schedule)),
            "live_stream_schedule_sessions": (plan, "schedule_id", host(self.schedule)),
            "live_stream_analytics": (session, "session_id", host(self.session)),
            "live_stream_notifications": ({"session_id": self.session, "type": "special_offer"}, "user_id", users),
            "live_stream_followers": ({"influencer_id": self.influencer_id}, "user_id", users),
            "live_stream_reminders": (session, "session_id", host(self.session)),
            "live_stream_follow_changes": ({"influencer_id": self.influencer_id}, "user_id", users),
            "influencers": ({"id": list(influencers.values())}, "id", influencers),
            "live_stream_moderators": ({"influencer_id": self.influencer_id}, "user_id", {"moderator": self.people["moderator"].user_id}),
            "live_stream_bans": ({"influencer_id": self.influencer_id}, "id", {"banned": self.ban}),
            "live_stream_guests": (session, "user_id", {"guest": self.guest}),
            "live_stream_invitations": (session, "id", host(self.invitation)),
            "live_stream_moderation_log": ({"influencer_id": self.influencer_id}, "id", host(self.logged)),
            "live_stream_archive": (session, "session_id", host(self.session)),
        }[table]  # fmt: skip

    def body(self, table: str, role: str) -> Row:
        """A row that the person would insert in good faith."""
        person = self.people.get(role)
        user_id = person.user_id if person else None
        influencer_id = (person and person.influencer_id) or self.influencer_id
        schedule = self.other_schedule if role == "another_influencer" else self.schedule
        session = self.session
        return {
            "live_stream_sessions": {"influencer_id": influencer_id, "title": "New"},
            "live_stream_credentials": {"session_id": self.spare_session, "stream_key": "x"},
            "live_stream_viewers": {"session_id": session, "user_id": user_id},
            "live_stream_heartbeats": {"viewer_id": self.viewers["influencer"]},
            "live_stream_chat": {"session_id": session, "user_id": user_id, "message": "new"},
            "live_stream_chat_reactions": {"message_id": self.messages["viewer"], "user_id": user_id or self.people["stranger"].user_id, "reaction": "new"},
            "live_stream_removed_messages": {"message_id": self.messages["viewer"], "session_id": session, "message": "new"},
            "live_stream_flagged_messages": {"message_id": self.messages["viewer"], "session_id": session},
            "live_stream_products": {"session_id": session, "product_id": self.spare_product_id},
            "live_stream_orders": {"session_id": session, "product_id": self.product_id, "amount": 7},
            "live_stream_schedule": {"influencer_id": influencer_id, "title": "New", "scheduled_date": "2030-03-01", "scheduled_start_time": "10:00"},
            "live_stream_schedule_exceptions": {"schedule_id": schedule, "original_starts_at": "2030-01-10T15:00Z", "kind": "skip"},
            "live_stream_schedule_sessions": {"schedule_id": schedule, "original_local_start": "2030-01-11T15:00", "original_starts_at": "2030-01-11T15:00Z", "starts_at": "2030-01-11T15:00Z", "ends_at": "2030-01-11T16:00Z", "title": "New"},
            "live_stream_analytics": {"session_id": session, "period_type": "hour", "period_start": "2030-01-02T00:00Z", "period_end": "2030-01-02T01:00Z"},
            "live_stream_notifications": {"user_id": user_id or self.people["stranger"].user_id, "session_id": session, "type": "stream_starting", "title": "New"},
            "live_stream_followers": {"user_id": user_id or self.people["stranger"].user_id, "influencer_id": self.other_influencer_id},
            "live_stream_reminders": {"session_id": self.spare_session, "influencer_id": influencer_id, "starts_at": "2030-01-01T01:00Z", "due_at": "2030-01-01T00:00Z"},
            "live_stream_follow_changes": {"user_id": user_id or self.people["stranger"].user_id, "influencer_id": self.influencer_id},
            "influencers": {"user_id": user_id or self.people["stranger"].user_id, "display_name": "New"},
            "live_stream_moderators": {"influencer_id": influencer_id, "user_id": self.newcomer},
            "live_stream_bans": {"influencer_id": influencer_id, "user_id": self.newcomer},
            "live_stream_guests": {"session_id": self.elsewhere if role == "another_influencer" else session, "user_id": self.newcomer},
            "live_stream_invitations": {"session_id": session, "token_hash": "\\x" + "02" * 32, "expires_at": "2030-01-01T00:00Z"},
            "live_stream_moderation_log": {"influencer_id": influencer_id, "action": "ban"},
            "live_stream_archive": {"session_id": self.spare_session},
        }[table]  # fmt: skip

    def sample(self, table: str, column: str, role: str) -> Any:
        """What is written into a column: never what is there, and where it is an id, one of somebody else's."""
        other = "viewer" if role == "another_viewer" else "another_viewer"
        ids = {
            "session_id": self.elsewhere,
            "live_stream_notifications.session_id": self.elsewhere,
            "user_id": self.people[other].user_id,
            "deleted_by": self.people[other].user_id,
            "created_by": self.people[other].user_id,
            "actor_id": self.people[other].user_id,
            "invitation_id": self.invitation,
            "influencer_id": self.influencer_id if role == "another_influencer" else self.other_influencer_id,
            "viewer_id": self.viewers[other],
            "parent_message_id": self.messages["influencer"],
            "live_stream_heartbeats.viewer_id": self.viewers["moderator"],
            "product_id": self.other_product_id,
            "message_id": self.messages["influencer"],
            "schedule_id": self.schedule if role == "another_influencer" else self.other_schedule,
            "created_session_id": self.elsewhere,
            "live_stream_influencers.user_id": self.people["stranger"].user_id,
            "live_stream_sessions.status": "live" if self.state.status == "scheduled" else "ended",
            "live_stream_sessions.visibility": "unlisted" if self.state.visibility == "public" else "public",
            "live_stream_schedule.visibility": "unlisted" if self.state.visibility == "public" else "public",
            "is_chat_enabled": self.state.chat == "off",
        } | BETTER
        for key in (f"{table}.{column}", column):
            if key in ids:
                return ids[key]
        type = self.trial.schema.relation(table).columns[column]
        type = re.sub(r"\(.*\)", "", type)
        return SAMPLES["text" if type == "character varying" else type]

    # What happens.

    def outcome(self, matrix: Matrix, table: str, action: str, role: str) -> str:
        api, (where, key, owners) = self._apis[role], self.rows(table)
        if action == "select":
            return self._ask(lambda: self._seen(api.select(table, where=where), key, owners, role))
        verb, _, kind = action.partition(" ")
        columns = matrix.tables[table].classes[kind] if kind else []
        values = {column: self.sample(table, column, role) for column in columns}
        if verb == "update" and "has_exceptions" in values:
            values["has_exceptions"] = False
        if verb == "insert":
            body = self.body(table, role) | values
            return self._ask(lambda: self._effect([api.insert(table, body)], values, body))
        own = [owners[role]] if role in owners else []
        others = [value for name, value in owners.items() if name != role][:1]
        outcomes = []
        for targets in (own, others):
            for target in targets:
                found = where | {key: target}
                if verb == "delete":
                    outcomes.append(self._ask(lambda: "yes" if api.delete(table, found) else "none"))
                else:
                    outcomes.append(self._ask(lambda: self._effect(api.update(table, values, found), values, found)))
            if not targets:
                outcomes.append("")
        return " | ".join(outcomes)

    def _ask(self, what: Callable[[], str]) -> str:
        try:
            return what()
        except RequestError as error:
            return error.sqlstate

    def _seen(self, rows: list[Row], key: str, owners: dict[str, str], role: str) -> str:
        """Which of the scene's rows these are."""
        names = {value: name for name, value in owners.items()}
        seen = {names.get(row[key], f"a row that is not of the scene: {row}") for row in rows}
        if seen == set(owners):
            return "all"
        own = {role} & set(owners)
        if seen == own:
            return "own" if own else "-"
        return "none" if not seen else "some: " + ", ".join(sorted(seen))

    def _effect(self, rows: list[Row], values: Row, found: Row) -> str:
        if not rows:
            return "none"
        (row,) = rows
        kept = [column for column, value in values.items() if not same(row[column], value)]
        if not kept:
            return "yes"
        return "ignored" if len(kept) == len(values) else "mixed: " + " ".join(kept)


def same(found: Any, value: Any) -> bool:
    if isinstance(value, list):
        return isinstance(found, list) and len(found) == len(value) and all(map(same, found, value))
    if isinstance(value, str) and isinstance(found, str) and re.match(r"\d{4}-\d\d-\d\dT", value):
        return moment(found) == moment(value)
    return found == value


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def agrees(answer: str, outcome: str) -> bool:
    """An outcome of two parts (the own row | another's) and an answer of one or two; an empty part matches anything."""
    if "|" not in outcome:
        return answer == outcome or outcome == "-" and answer in ("own", "none")
    parts = [part.strip() for part in answer.split("|")]
    expected = parts if len(parts) == 2 else parts * 2
    return all(have in ("", want) for have, want in zip((part.strip() for part in outcome.split("|")), expected))


if __name__ == "__main__":
    README.write_text(with_security_table(README.read_text()))
