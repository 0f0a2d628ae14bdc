"""The owner of the tables alters them at random; then everybody uses the system, and the way back is taken.

Nothing may end a backend or the background worker, nothing may be an internal error, and once all is as it was, every
number is right again. What an alteration makes impossible is refused, and the refusal says which object it is.

    OWNER_FUZZ_ROUNDS=5000 OWNER_FUZZ_SEED=another …      more rounds, and others
    OWNER_FUZZ_ONLY=17 …                                  one round alone, as a failure names it, on a fresh database

In one file as all of it is about one machine: what everybody asks, what is altered, and what may not happen then.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import os
import random
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator

import psycopg
import pytest

from alterations import BESIDES, INSTALL, OTHER_OWNER, Alteration, Alterations, Catalog, another_index, moved, retype, substitute
from database import OWNER, ROOT, Database, Server
from people import Person, World, now
from postgrest import RequestError, Row, SchemaCache
from recount import HEARTBEAT, differences
from sizes import own_db, scale

pytestmark = own_db("alters what it likes")

ROUNDS = int(os.environ.get("OWNER_FUZZ_ROUNDS", scale(20, 70)))
SEED = os.environ.get("OWNER_FUZZ_SEED", "20261126")
ONLY = os.environ.get("OWNER_FUZZ_ONLY")
# Rounds that one database is used for, while the way back leads back.
REUSED = 25
# Failures after which a run ends.
ENOUGH = int(os.environ.get("OWNER_FUZZ_FAILURES", "20"))
# Nothing takes longer than this, and nobody waits for ever.
PATIENCE = "-c statement_timeout=15s -c client_min_messages=warning"
BURST = 34

LINE = re.compile(r"^\d{4}-\d\d-\d\d \S+ UTC \[(\d+)\] (\w{5}) (?:\S*@\S* )?(\w+):  (.*)")
ENDED = re.compile(r"was terminated by signal|exited with exit code [2-9]")
BROKEN = re.compile(
    r"panicked|RustPanic|ERRCODE_INTERNAL_ERROR|ERRCODE_DATA_CORRUPTED|ERRCODE_INDEX_CORRUPTED|unwrap|unboxing"
    r"|reference leak|refcount leak|don't own a lock|non-empty SPI stack|unexpected state|out of memory|could not access"
)
# PostgreSQL calls this internal itself: a rule of the owner's has rewritten what a foreign key does.
OF_RULES = re.compile(r"referential integrity query on .* gave unexpected result")
# FATAL errors that are answers: told to end, the server starts or stops, no such database or role.
FINE_ENDS = ("57P01", "57P02", "57P03", "3D000", "28000", "42501", "22023", "42704")


class Log:
    """What the server has written since it was looked at last."""

    def __init__(self, server: Server) -> None:
        self.path = Path(ROOT / "target" / server.name / "log")
        self.size = self.path.stat().st_size
        self.worker_failed = False

    def new(self) -> list[str]:
        with self.path.open(errors="replace") as file:
            file.seek(self.size)
            text = file.read()
        end = text.rfind("\n") + 1
        self.size += len(text[:end].encode(errors="replace"))
        return text[:end].splitlines()

    def broken(self) -> list[str]:
        """What must not be there, each with the lines that belong to it."""
        lines = self.new()
        found = []
        for number, line in enumerate(lines):
            match = LINE.match(line)
            if not match:
                continue
            _, state, level, message = match.groups()
            self.worker_failed |= "background worker of live_stream failed" in message
            if level not in ("LOG", "WARNING", "ERROR", "FATAL", "PANIC") or OF_RULES.search(message):
                continue
            if (
                state.startswith("XX") or level == "PANIC" or ENDED.search(message)
                or level in ("ERROR", "WARNING", "FATAL") and BROKEN.search(message)
                or level == "FATAL" and state not in FINE_ENDS
            ):  # fmt: skip
                rest = itertools.takewhile(lambda l: l.startswith("\t") or (m := LINE.match(l)) and m.group(3) in (
                    "DETAIL", "HINT", "CONTEXT", "STATEMENT", "QUERY", "LOCATION"), lines[number + 1 :])  # fmt: skip
                found.append("\n".join([line, *list(rest)[:6]])[:1500])
        return found


@dataclass
class Scene:
    """The ids of what every copy of the database has before it is altered."""

    influencer: Row
    other_influencer: Row
    viewer: str
    stranger: str
    moderator: str
    guest: str
    banned: str
    gone: str
    hot: str
    limited: str
    private: str
    planned: str
    ended: str
    code: str
    viewer_row: str
    anonymous_row: str
    message: str
    product: str
    product_id: str
    schedule: str
    token: str
    invitation: str


def make_scene(db: Database) -> Scene:
    world = World(db)
    ada, grace = world.influencer, world.new_influencer("Grace")
    moderator, guest, banned, gone = (world.new_user() for _ in range(4))
    over = world.session("Over", max_viewers=None, visibility="unlisted")
    row = world.join(over, world.viewer)
    world.say(over, world.viewer, "was here", row)
    world.join(over, gone)
    world.product(over)
    world.end(over)
    hot = world.session("Hot", max_viewers=None)
    limited = world.session("Limited", by=grace, max_viewers=5000)
    private = world.session("Private", live=False, visibility="private")
    planned = world.session("Planned", live=False, scheduled_start_time="2031-01-01T10:00Z")
    rows = {}
    for session in (hot, limited):
        rows[session["id"]] = [world.join(session, world.viewer), world.join(session), world.join(session, gone)]
        world.join(session, banned)
        world.leave(rows[session["id"]][0], world.viewer)
        world.join(session, world.viewer)
    row, anonymous = rows[hot["id"]][:2]
    message = world.say(hot, world.viewer, "hello", row)
    world.say(hot, world.viewer, "an answer", row, parent_message_id=message["id"])
    world.say(hot, gone, "bye", message_type="reaction")
    world.viewer.api.rpc("live_stream_react", message_id=message["id"], reaction="🔥")
    gone.api.rpc("live_stream_react", message_id=message["id"], reaction="🔥")
    gone.api.rpc("live_stream_flag_message", message_id=message["id"])
    product = world.product(hot)
    world.service.rpc(
        "live_stream_record_order", session_id=hot["id"], product_id=product["product_id"], amount=30, quantity=2,
        viewer_id=row["id"], order_reference="A-1",
    )  # fmt: skip
    world.viewer.api.rpc("live_stream_track_click", session_product_id=product["id"], viewer_id=row["id"])
    world.viewer.api.rpc("live_stream_share", viewer_id=row["id"])
    schedule = world.schedule(recurrence_rule="FREQ=WEEKLY", timezone="Europe/Berlin")
    starts = "2030-01-14T14:00Z"
    ada.api.rpc("live_stream_skip_occurrence", schedule_id=schedule["id"], original_starts_at=starts)
    for person in (world.viewer, gone):
        person.api.rpc("live_stream_follow", influencer_id=ada.influencer_id, reminder_minutes=30)
    ada.api.rpc("live_stream_add_moderator", user_id=moderator.user_id)
    ada.api.rpc("live_stream_ban", user_id=banned.user_id, session_id=hot["id"], reason="spam")
    ada.api.rpc("live_stream_timeout", user_id=world.stranger.user_id, seconds=300)
    ada.api.rpc("live_stream_invite", session_id=private["id"], user_id=guest.user_id)
    invitation = ada.api.rpc("live_stream_create_invitation", session_id=private["id"], max_uses=1000)
    db.owner("select live_stream.run_schedules()")
    return Scene(
        {"user_id": ada.user_id, "id": ada.influencer_id}, {"user_id": grace.user_id, "id": grace.influencer_id},
        world.viewer.user_id, world.stranger.user_id, moderator.user_id, guest.user_id, banned.user_id, gone.user_id,
        hot["id"], limited["id"], private["id"], planned["id"], over["id"], over["session_code"], row["id"], anonymous["id"],
        message["id"], product["id"], product["product_id"], schedule["id"], invitation["token"], invitation["invitation_id"],
    )  # fmt: skip


class Cast(World):
    """The people of the scene in one copy of the database, and all that they ask for."""

    def __init__(self, db: Database, scene: Scene) -> None:
        self.db, self.scene = db, scene
        self.influencer = self._person(scene.influencer["user_id"], scene.influencer["id"])
        self.other = self._person(scene.other_influencer["user_id"], scene.other_influencer["id"])
        self.viewer, self.stranger, self.moderator, self.guest, self.banned, self.gone = (
            self._person(user)
            for user in (scene.viewer, scene.stranger, scene.moderator, scene.guest, scene.banned, scene.gone)
        )
        self.anon, self.service = db.as_anon(), db.as_service()

    def _person(self, user_id: str, influencer_id: str | None = None) -> Person:
        return Person(user_id, self.db.as_user(user_id), influencer_id)

    def requests(self) -> dict[str, Callable[[], Any]]:
        """The requests of the table, as everybody makes them."""
        s, ada, viewer, anon, service = self.scene, self.influencer, self.viewer, self.anon, self.service
        hot, limited, private, planned = ({"id": id} for id in (s.hot, s.limited, s.private, s.planned))
        newcomer = self._person(str(uuid.uuid4()))
        about = "*, influencer:influencers(display_name, followers_count)"

        def life_of_a_session() -> None:
            session = self.session("Short", live=False, by=ada)
            ada.api.rpc("live_stream_cancel", session_id=session["id"])

        def on_air() -> None:
            grace = self.other
            self.set_session(limited, grace, status="paused")
            grace.api.rpc("live_stream_resume", session_id=s.limited)

        def whole_show() -> None:
            person = self._person(str(uuid.uuid4()))
            (row,) = service.insert("influencers", [{"user_id": person.user_id, "display_name": "New"}])
            person.influencer_id = row["id"]
            session = self.session("A show", by=person)
            mine = self.join(session, viewer)
            self.say(session, viewer, "hi", mine)
            self.end(session, person)

        def a_guest() -> None:
            self.join(private, self.guest)
            self.guest.api.select("live_stream_sessions", where={"id": s.private})
            ada.api.rpc("live_stream_uninvite", session_id=s.private, user_id=self.guest.user_id)
            ada.api.rpc("live_stream_invite", session_id=s.private, user_id=self.guest.user_id)

        def a_ban() -> None:
            person = self._person(str(uuid.uuid4()))
            self.join(hot, person)
            ada.api.rpc("live_stream_ban", user_id=person.user_id, session_id=s.hot, reason="spam")
            self.join(hot, person)

        def a_talk() -> None:
            message = self.say(hot, viewer, "a word", {"id": s.viewer_row})
            viewer.api.rpc("live_stream_edit_message", message_id=message["id"], message="another")
            self.moderator.api.rpc("live_stream_delete_message", message_id=message["id"], reason="spam")
            self.moderator.api.update("live_stream_chat", {"is_deleted": False}, where={"id": message["id"]})

        def reactions() -> None:
            viewer.api.rpc("live_stream_unreact", message_id=s.message, reaction="🔥")
            viewer.api.rpc("live_stream_react", message_id=s.message, reaction="🔥")

        def goods() -> None:
            product = self.product(hot, by=ada)
            ada.api.update("live_stream_products", {"clicks": 5, "revenue": 12.5}, where={"id": product["id"]})
            viewer.api.rpc("live_stream_track_click", session_product_id=product["id"], viewer_id=s.viewer_row)
            ada.api.delete("live_stream_products", where={"id": product["id"]})

        def calendar() -> None:
            mine = ada.api.rpc(
                "live_stream_schedule_create", title="Show", scheduled_date="2030-02-01", scheduled_start_time="20:00",
                recurrence_rule="FREQ=DAILY;COUNT=10", timezone="Europe/Berlin",
            )  # fmt: skip
            of = {"schedule_id": mine["id"]}
            at = "2030-02-03T19:00Z"
            ada.api.rpc("live_stream_move_occurrence", of, original_starts_at=at, starts_at="2030-02-03T20:00Z")
            ada.api.rpc("live_stream_restore_occurrence", of, original_starts_at=at)
            ada.api.rpc("live_stream_add_occurrence", of, starts_at="2030-03-03T20:00Z")
            ada.api.rpc("live_stream_schedule_split", of, original_starts_at="2030-02-05T19:00Z")
            ada.api.rpc("live_stream_schedule_cancel", of)

        def goes_and_comes() -> None:
            self.join(hot, newcomer)
            newcomer.api.rpc("live_stream_join", session_id=s.hot)
            row = newcomer.api.rpc("live_stream_join", session_id=s.hot, device_type="tv")
            newcomer.api.rpc("live_stream_heartbeat", viewer_id=row["id"])
            newcomer.api.rpc("live_stream_leave", viewer_id=row["id"])

        def anonymous() -> None:
            row = self.join(limited)
            self.anonymous(row).select("live_stream_viewers", where={"id": row["id"]})
            anon.rpc("live_stream_heartbeat", viewer_id=row["id"])
            self.leave(row)

        def told() -> None:
            ada.api.update("live_stream_notifications", {"is_read": True})
            service.insert("live_stream_notifications", {
                "user_id": s.viewer, "influencer_id": ada.influencer_id, "type": "special_offer", "title": "x", "message": "x",
            })  # fmt: skip
            viewer.api.select("live_stream_notifications", order="created_at.desc", limit=5)
            viewer.api.update("live_stream_notifications", {"is_read": True}, where={"user_id": s.viewer})

        def everything() -> None:
            for name in self.db.schema._relations:
                if name.startswith("live_") or name in ("influencers", "upcoming_streams", "session_analytics_summary"):
                    with contextlib.suppress(RequestError):
                        service.select(name, limit=3)

        def by_the_server() -> None:
            row = service.insert("live_stream_viewers", {"session_id": s.limited})
            service.delete("live_stream_viewers", where={"id": row["id"]})
            service.insert("live_stream_chat", {"session_id": s.limited, "message": "system", "message_type": "system"})
            service.delete("live_stream_chat", where={"session_id": s.limited, "message": "system"})

        link = {"x-session-code": s.code}
        return {
            "life of a session": life_of_a_session, "on air": on_air, "whole show": whole_show, "guest": a_guest, "ban": a_ban,
            "talk": a_talk, "reactions": reactions, "goods": goods, "calendar": calendar, "goes and comes": goes_and_comes,
            "anonymous": anonymous, "told": told, "by the server": by_the_server, "everything": everything,
            "join": lambda: self.join(hot, newcomer),
            "join by function": lambda: viewer.api.rpc("live_stream_join", session_id=s.limited),
            "join by code": lambda: newcomer.api.rpc("live_stream_join", session_code=s.code),
            "banned joins": lambda: self.join(hot, self.banned),
            "leave": lambda: self.leave({"id": s.viewer_row}, viewer),
            "heartbeat": lambda: viewer.api.rpc("live_stream_heartbeat", viewer_id=s.viewer_row),
            "anonymous heartbeat": lambda: anon.rpc("live_stream_heartbeat", viewer_id=s.anonymous_row),
            "share": lambda: viewer.api.rpc("live_stream_share", viewer_id=s.viewer_row),
            "quality": lambda: viewer.api.rpc(
                "live_stream_report_quality", viewer_id=s.viewer_row, connection_quality="fair", buffering_time_seconds=1),
            "say": lambda: self.say(hot, viewer, "hello", {"id": s.viewer_row}),
            "say by function": lambda: newcomer.api.rpc("live_stream_send_message", session_id=s.hot, message="hi"),
            "react in the chat": lambda: self.say(hot, viewer, "🔥", {"id": s.viewer_row}, message_type="reaction"),
            "reply": lambda: self.say(hot, newcomer, "yes", parent_message_id=s.message),
            "flag": lambda: newcomer.api.rpc("live_stream_flag_message", message_id=s.message),
            "timed out": lambda: self.say(hot, self.stranger, "let me"),
            "order": lambda: service.rpc(
                "live_stream_record_order", session_id=s.hot, product_id=s.product_id, amount=10, viewer_id=s.viewer_row),
            "feature": lambda: ada.api.rpc(
                "live_stream_feature_product", session_id=s.hot, product_id=s.product_id, display_order=2),
            "product numbers": lambda: service.update(
                "live_stream_products", {"clicks": 9, "orders": 3}, where={"session_id": s.hot, "product_id": s.product_id}),
            "views of a product": lambda: anon.rpc("live_stream_track_view", session_product_id=s.product),
            "follow": lambda: newcomer.api.rpc("live_stream_follow", influencer_id=ada.influencer_id),
            "unfollow": lambda: viewer.api.rpc("live_stream_unfollow", influencer_id=ada.influencer_id),
            "follow again": lambda: viewer.api.rpc("live_stream_follow", influencer_id=ada.influencer_id, reminder_minutes=5),
            "accept": lambda: newcomer.api.rpc("live_stream_accept_invitation", token=s.token),
            "invite by link": lambda: ada.api.rpc("live_stream_create_invitation", session_id=s.private),
            "revoke": lambda: ada.api.rpc("live_stream_revoke_invitation", invitation_id=s.invitation),
            "moderator": lambda: ada.api.rpc("live_stream_add_moderator", user_id=newcomer.user_id),
            "no moderator": lambda: ada.api.rpc("live_stream_remove_moderator", user_id=newcomer.user_id),
            "timeout": lambda: self.moderator.api.rpc(
                "live_stream_timeout", user_id=newcomer.user_id, seconds=60, session_id=s.hot),
            "unban": lambda: ada.api.rpc("live_stream_unban", user_id=newcomer.user_id, session_id=s.hot),
            "schedule": lambda: self.schedule(is_recurring=True, recurrence_pattern="weekly", days_of_week=[1, 3]),
            "occurrences": lambda: anon.rpc(
                "live_stream_occurrences", schedule_id=s.schedule, range_start="2030-01-01", range_end="2030-03-01"),
            "calendar feed": lambda: anon.rpc_get("live_stream_calendar_feed", influencer_id=ada.influencer_id),
            "calendar of all": lambda: anon.rpc("live_stream_calendar", range_start=now(), range_end="2030-03-01"),
            "import": lambda: ada.api.rpc("live_stream_import_ics", influencer_id=ada.influencer_id, ics=ICS),
            "skip": lambda: ada.api.rpc(
                "live_stream_skip_occurrence", schedule_id=s.schedule, original_starts_at="2030-01-21T14:00Z"),
            "plan": lambda: self.set_session(planned, ada, title="Planned again", stream_key="secret"),
            "key": lambda: ada.api.rpc("live_stream_stream_credentials", session_id=s.planned),
            "slow mode": lambda: self.set_session(limited, self.other, slow_mode_seconds=0, max_viewers=6000),
            "stranger ends": lambda: self.stranger.api.rpc("live_stream_end", session_id=s.hot),
            "read one": lambda: anon.select("live_stream_sessions", about, where={"id": s.hot}, one=True),
            "read by function": lambda: anon.rpc("live_stream_session", session_id=s.hot),
            "read by code": lambda: anon.rpc("live_stream_session_by_code", code=s.code),
            "read by link": lambda: self.db.as_anon(headers=link).select("live_stream_sessions", where={"id": s.ended}),
            "own sessions": lambda: ada.api.select("live_stream_sessions", where={"influencer_id": ada.influencer_id}),
            "live now": lambda: anon.select("live_sessions_with_details", where={"status": "live"}, order="actual_start_time"),
            "viewers": lambda: ada.api.select("live_stream_viewers", where={"session_id": s.hot}, limit=20),
            "own rows": lambda: viewer.api.select("live_stream_viewers", where={"session_id": s.hot}, limit=20),
            "chat": lambda: viewer.api.select(
                "live_stream_chat", where={"session_id": s.hot, "is_deleted": False}, order="sent_at.desc", limit=50),
            "showcase": lambda: anon.select("live_stream_products", where={"session_id": s.hot}, order="display_order"),
            "upcoming": lambda: anon.select("upcoming_streams", order="full_start_datetime"),
            "upcoming by function": lambda: anon.rpc("live_stream_upcoming", influencer_id=ada.influencer_id),
            "analytics": lambda: ada.api.select("session_analytics_summary", where={"session_id": s.hot}),
            "analytics by function": lambda: ada.api.rpc("live_stream_session_analytics", session_id=s.hot),
            "moderation log": lambda: ada.api.select("live_stream_moderation_log", order="created_at.desc", limit=5),
            "guests": lambda: ada.api.select("live_stream_guests"),
            "bans": lambda: self.moderator.api.select("live_stream_bans"),
        }  # fmt: skip


ICS = """BEGIN:VCALENDAR\r
VERSION:2.0\r
PRODID:fuzz\r
BEGIN:VEVENT\r
UID:fuzz\r
DTSTART:20300301T100000Z\r
SUMMARY:Imported\r
RRULE:FREQ=DAILY;COUNT=3\r
END:VEVENT\r
END:VCALENDAR\r
"""


def statements(scene: Scene) -> list[str]:
    """What owner and superuser say directly."""
    hot, limited = f"'{scene.hot}'", f"'{scene.limited}'"
    return [
        f"insert into public.live_stream_viewers (session_id, user_id) values ({hot}, gen_random_uuid()), ({hot}, null)",
        f"insert into public.live_stream_chat (session_id, message) select {limited}, 'm' from generate_series(1, 3)",
        "update public.live_stream_viewers set is_still_watching = false where id in (select id from public.live_stream_viewers"
        f" where session_id = {hot} and is_still_watching and user_id is null limit 3)",
        "delete from public.live_stream_viewers where id in"
        f" (select id from public.live_stream_viewers where session_id = {limited} limit 2)",
        "delete from public.live_stream_chat where id in"
        f" (select id from public.live_stream_chat where session_id = {limited} limit 2)",
        f"update public.live_stream_sessions set title = 'Again', current_viewers = 7 where id = {hot}",
        f"insert into public.live_stream_products (session_id, product_id) values ({limited}, gen_random_uuid())",
        f"update public.live_stream_products set clicks = clicks + 1, revenue = revenue + 2.5 where session_id in ({hot}, {limited})",
        f"insert into public.live_stream_orders (session_id, product_id, amount) values ({hot}, '{scene.product_id}', 5)",
        f"insert into public.live_stream_chat_reactions (message_id, user_id, reaction, session_id)"
        f" values ('{scene.message}', gen_random_uuid(), 'x', {hot})",
        f"insert into public.live_stream_followers (influencer_id, user_id) values ('{scene.influencer['id']}', gen_random_uuid())",
        "update public.live_stream_schedule set title = title || '.' where length(title) < 99",
        "insert into public.live_stream_sessions (influencer_id, title, status)"
        f" values ('{scene.other_influencer['id']}', 'Direct', 'scheduled')",
        "delete from public.live_stream_sessions where title = 'Direct'",
        f"update public.live_stream_heartbeats set seen_at = now() - interval '1 minute' where viewer_id = '{scene.viewer_row}'",
        "select * from live_stream.metrics_status", "select * from live_stream.counted_metrics",
        "select * from live_stream.counted_peaks", "select * from public.live_sessions_with_details",
        "select * from public.upcoming_streams", "select * from public.session_analytics_summary",
        "select to_jsonb(s) from public.live_stream_sessions s", "select to_jsonb(v) from public.live_stream_viewers v limit 5",
        f"select live_stream.recount({hot})", f"select live_stream.recount({limited})", "select live_stream.flush_metrics()",
        f"select live_stream.flush_metrics({hot})", "select * from live_stream.verify_metrics()",
        "select live_stream.expire_viewers()", "select live_stream.run_schedules()", "select live_stream.send_reminders()",
        "select live_stream.materialize_occurrences('30 days')", "select * from live_stream.personal_data()",
        "select * from live_stream.purge(addresses => '0', chat => '0', viewers => '0', notifications => '0', max_sessions => 10)",
        f"select live_stream.export_user('{scene.viewer}')", f"select live_stream.export_user('{scene.influencer['user_id']}')",
        f"select live_stream.erase_user('{scene.gone}')", f"select live_stream.erase_user('{scene.stranger}', true)",
        f"select live_stream.message('{scene.message}')", f"select live_stream.session_product('{scene.product}')",
        f"select live_stream.open_session({hot}, null)", "select live_stream.influencer_ids(), live_stream.guest_session_ids()",
        "select live_stream.moderated_influencer_ids(), live_stream.banning_influencer_ids(), live_stream.uid()",
        "truncate public.live_stream_chat_reactions", "truncate public.live_stream_orders",
        "vacuum live_stream.metric_changes", "analyze public.live_stream_viewers",
    ]  # fmt: skip


class Copy:
    """One database of the scene. `old` keeps its connections from round to round, `new` opens others in each."""

    _numbers = itertools.count(1)

    def __init__(self, fuzz: "Fuzz") -> None:
        self.fuzz, self.server = fuzz, fuzz.server
        self.name = f"fuzz_{next(self._numbers)}"
        self.server.run("postgres", f"create database {self.name} template fuzz_ready owner {OWNER}")
        self.old = self._open()
        self.new = self._open()
        self.rounds = 0
        # Plans are made, and the caches of the backends filled.
        cast = Cast(self.old, fuzz.scene)
        for name in ("join", "heartbeat", "say", "goods", "calendar of all", "read one", "anonymous"):
            cast.requests()[name]()
        self.old.owner("select * from live_stream.verify_metrics()")
        self.old.sql("select * from live_stream.metrics_status")

    def _open(self) -> Database:
        db = Database(self.server, "plain", self.name, self.fuzz.schema)
        connect = db.connect
        db.connect = lambda user="postgres", **options: connect(
            user, options=options.pop("options", "") + " " + PATIENCE, prepare_threshold=None
        )
        db._gateway._connect = db.connect
        return db

    def kept(self, user: str) -> psycopg.Connection:
        """The connection that `old` keeps for a user."""
        if user not in self.old._connections:
            self.old.sql("select", user=user)
        return self.old._connections[user]

    def forget_plans(self) -> None:
        """PostgreSQL itself crashes where a prepared query reads a function that returns the row of a table, and a column
        of the table gets another type. It does so without this extension, whose own plans and caches are kept."""
        for connection in self.old._gateway._idle:
            if not connection.closed:
                connection.execute("deallocate all")

    def close(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self.old.close()
            self.new.close()
        with contextlib.suppress(psycopg.Error):
            self.server.run("postgres", f"drop database if exists {self.name} with (force)")


class Ended(Exception):
    """The server has ended a connection that was in use."""


class Fuzz:
    """Applies alterations, uses the system, takes the way back, and notes what must not happen."""

    def __init__(self, server: Server) -> None:
        self.server = server
        with server.connect() as connection:
            connection.execute("load 'live_stream'")
            for setting, value in SETTINGS.items():
                connection.execute(f"alter system set {setting} = '{value}'")
            connection.execute("select pg_reload_conf()")
            connection.execute(f"create role {OTHER_OWNER}")
            connection.execute(f"grant {OTHER_OWNER} to {OWNER}")
            connection.execute(f"grant pg_read_server_files to {OWNER}")
        server.make_empty("fuzz_first")
        server.run("postgres", "drop database fuzz_first")
        server.run("postgres", f"create database fuzz_ready template plain owner {OWNER}")
        server.run("fuzz_ready", BESIDES.format(owner=OWNER, other=OTHER_OWNER))
        with server.open("fuzz_ready") as db:
            self.scene = make_scene(db)
            self.schema: SchemaCache = db.schema
            assert differences(db) == []
            with db.connect() as connection:
                self.catalog = Catalog(connection)
        # A worker that is not needed any more is gone, or PostgreSQL waits for it.
        server.run("postgres", "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'fuzz_ready'")
        self.log = Log(server)
        self.copy: Copy | None = None
        self.found: list[str] = []
        self.said: list[str] = []
        self.count: collections.Counter[str] = collections.Counter()
        self.threads = ThreadPoolExecutor(2)
        self.installs = False

    def close(self) -> None:
        if self.copy:
            self.copy.close()
        self.threads.shutdown(wait=False)

    # What is noted.

    def note(self, what: str) -> None:
        if what not in self.said:
            self.said.append(what)

    def attempt(self, what: str, call: Callable[[], Any]) -> RequestError | psycopg.Error | None:
        """The refusal, if it is one. What must not happen is noted."""
        try:
            call()
        except (RequestError, psycopg.Error) as error:
            state = error.sqlstate
            if isinstance(error, psycopg.DataError) and state is None:
                # A value that this program has no type for, such as a time that is infinite.
                return error
            if state is None and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) or state in (
                "08006", "57P01", "57P02", "57P03"):  # fmt: skip
                raise Ended(f"{what}: {error}") from error
            if OF_RULES.search(str(error)):
                return error
            if state is None or state.startswith("XX") or BROKEN.search(str(error)):
                self.note(f"{what}: {state} {error}")
            elif state in ("57014", "40P01"):
                self.note(f"{what}: takes for ever, {state} {error}")
            self.count[f"refused {state}"] += 1
            return error
        except (KeyError, TypeError, IndexError, ValueError) as error:
            # A row without a column that was renamed, say; text that is none is the memory of a backend.
            if isinstance(error, UnicodeDecodeError):
                self.note(f"{what}: {error!r}")
            self.count["answered otherwise"] += 1
        else:
            self.count["done"] += 1
        return None

    def look_at_the_log(self, wait: bool = False) -> bool:
        """Notes what the server's log has; with `wait`, until it says why a connection has ended."""
        deadline = time.monotonic() + 3
        while True:
            broken = self.log.broken()
            for lines in broken:
                self.note(lines)
            if broken or not wait or time.monotonic() > deadline:
                return bool(broken)
            time.sleep(0.02)

    # What happens in a round.

    def database(self) -> Copy:
        if self.copy and self.copy.rounds >= REUSED:
            self.fresh()
        if not self.copy:
            for _ in range(100):
                try:
                    self.copy = Copy(self)
                    break
                except (psycopg.OperationalError, RequestError):
                    # The server starts again.
                    time.sleep(0.1)
            assert self.copy, "the server did not come back"
        return self.copy

    def fresh(self) -> None:
        """The next round gets another database."""
        if self.copy:
            self.copy.close()
        self.copy = None

    def alter(self, copy: Copy, sqls: list[str], alone: bool) -> psycopg.Error | None:
        """Runs statements as the owner, once more if others were in the way: the refusal, if there is one."""
        for last in (False, False, True):
            connection = copy.kept(OWNER)
            try:
                connection.execute("set lock_timeout = '5s'")
                with contextlib.nullcontext() if alone else connection.transaction():
                    for sql in sqls:
                        sql = sql.replace("{database}", copy.name)
                        connection.execute(sql)
                copy.forget_plans()
                return None
            except psycopg.Error as error:
                if error.sqlstate is None:
                    raise Ended(f"{sql}: {error}") from error
                if error.sqlstate not in ("40P01", "55P03", "40001") or last:
                    if error.sqlstate.startswith("XX") and "tuple concurrently" not in str(error):
                        self.note(f"{sql}: {error.sqlstate} {error}")
                    return error
            finally:
                if not connection.closed:
                    connection.execute("reset lock_timeout")
        return None

    def use(self, copy: Copy, rng: random.Random) -> None:
        """Everybody does something, on old and on new connections."""
        schema = None
        if rng.random() < 0.5:
            # PostgREST has read the catalog again.
            try:
                with copy.old.connect() as connection:
                    schema = SchemaCache(connection)
            except (psycopg.Error, LookupError):
                pass
        for db, share in ((copy.old, 16), (copy.new, 4)):
            db._gateway._schema = schema or self.schema
            requests = Cast(db, self.scene).requests()
            for name in rng.sample(sorted(requests), share):
                self.attempt(name, requests[name])
        direct = statements(self.scene)
        for user, share in ((OWNER, 7), ("postgres", 4)):
            for sql in rng.sample(direct, share):
                self.attempt(f"{user}: {sql}", lambda: copy.old.sql(sql, user=user))
        functions = [f for f in self.catalog.functions if f["returns"] != "trigger" and f["proname"] != "install"]
        for function in rng.sample(functions, 5):
            args = ", ".join(f"null::{ANY.get(type, type)}" for type in function["args"].split(", ") if type)
            sql = f"select {function['name']}({args})"
            self.attempt(f"owner: {sql}", lambda: copy.old.owner(sql))
        self.crowd(copy, rng.choice([self.scene.hot, self.scene.limited]))
        self.installs = rng.random() < 0.25
        if self.installs:
            self.attempt(INSTALL, lambda: copy.old.owner(INSTALL))
        self.attempt("new owner", lambda: copy.new.owner("select * from live_stream.verify_metrics()"))

    def crowd(self, copy: Copy, session: str) -> None:
        """Many joins in a moment, then two at once: so many that the worker is asked for. It gets a moment for it."""
        join = f"insert into public.live_stream_viewers (session_id) values ('{session}')"
        say = f"insert into public.live_stream_chat (session_id, message) values ('{session}', 'hot')"
        burst = "; ".join(f"begin; {join if n % 4 else say}; commit" for n in range(BURST))
        one = copy.kept("postgres")

        def in_the_end() -> None:
            if not one.closed:
                one.execute("rollback")

        try:
            self.attempt("many joins", lambda: one.execute(burst))
        finally:
            in_the_end()
        with copy.new.connect() as two:
            try:
                refused = self.attempt("one of two", lambda: one.execute(f"begin; {say}"))
                if not refused:
                    other = self.threads.submit(lambda: [two.execute(sql) for sql in (join, say, join)])
                    with contextlib.suppress(TimeoutError):
                        other.exception(timeout=0.03)
                    self.attempt("one of two", lambda: one.execute("commit"))
                    self.attempt("the other of two", other.result)
            finally:
                in_the_end()
        deadline = time.monotonic() + 0.1
        while time.monotonic() < deadline:
            try:
                if not copy.old.sql("select from live_stream.metric_changes limit 1"):
                    break
            except psycopg.Error as error:
                if error.sqlstate is None:
                    raise Ended(str(error)) from error
            time.sleep(0.01)

    def rest(self, copy: Copy) -> None:
        """Until nothing is pending. A session that the worker has failed at is left alone for seconds: not here."""
        db = copy.old
        since = time.monotonic()
        while True:
            [status] = db.sql("select * from live_stream.metrics_status")
            waited = time.monotonic() - since
            if status["pending_changes"] == 0 and status["hot_sessions"] == 0:
                return
            assert waited < 20, f"not at rest: {status}"
            if waited > 0.3:
                db.sql("select live_stream.flush_metrics()")
                with copy.new.connect() as connection:
                    connection.execute(HEARTBEAT)
            time.sleep(0.02)

    def check(self, copy: Copy, exact: bool, setting: bool = False) -> bool:
        """Every number is right again, or is after counting again; false if rows have values that nobody counts again.
        After a `setting` was another, the worker, which has read it as it began, is told to stop."""
        if self.log.worker_failed or setting:
            self.log.worker_failed = False
            copy.old.sql("select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'live_stream metrics'")
        self.rest(copy)
        if not exact:
            copy.old.owner("select live_stream.recount(id) from public.live_stream_sessions order by id")
            self.rest(copy)
        wrong = differences(copy.old)
        sessions = [row for row in wrong if exact or row["what"] == "session"]
        if sessions:
            self.note(f"wrong numbers after the way back: {sessions[:6]}")
        return not wrong

    def round(self, number: int) -> None:
        rng = random.Random(f"{SEED}/{number}")
        makes = Alterations(self.catalog, rng)
        wanted = [makes.next() for _ in range(rng.choices([1, 2, 3], [80, 15, 5])[0])]
        self.play(f"round {number} (OWNER_FUZZ_SEED={SEED} OWNER_FUZZ_ONLY={number})", wanted, rng)

    def play(self, name: str, wanted: list[Alteration], rng: random.Random) -> None:
        """A round. What is found is told with all that has been done."""
        self.said = []
        copy = self.database()
        copy.rounds += 1
        done: list[Alteration] = []
        keep = False
        try:
            for alteration in wanted:
                if error := self.alter(copy, alteration.do, alteration.alone):
                    self.count["alterations refused"] += 1
                    self.count[f"refused: {alteration.kind}"] += 1
                    if alteration.alone and alteration.undo:
                        self.alter(copy, alteration.undo, True)
                else:
                    self.count["alterations"] += 1
                    done.append(alteration)
            if done:
                self.use(copy, rng)
                keep = self.back(copy, done)
            else:
                keep = True
        except Ended as error:
            self.note(f"connection ended: {error}")
            self.look_at_the_log(wait=True)
            keep = False
        except (psycopg.Error, RequestError, AssertionError) as error:
            self.note(f"after the way back: {type(error).__name__} {error}")
            keep = False
        self.look_at_the_log()
        if copy.new:
            with contextlib.suppress(psycopg.Error):
                copy.new.close()
        if not keep:
            self.fresh()
        if self.said:
            tried = "\n".join(f"  [{a.kind}] {sql[:700]}" for a in done or wanted for sql in a.do)
            self.found.append(f"{name}\n{tried}\n  → " + "\n  → ".join(what[:1500] for what in self.said[:4]))

    def back(self, copy: Copy, done: list[Alteration]) -> bool:
        """The way back, and whether the database can be used again."""
        for alteration in reversed(done):
            if alteration.undo is None:
                self.count["without a way back"] += 1
                self.attempt(INSTALL, lambda: copy.old.owner(INSTALL))
                return False
            if error := self.alter(copy, alteration.undo, alteration.alone):
                self.count["ways back refused"] += 1
                self.count[f"way back refused: {alteration.kind} {error.sqlstate}"] += 1
                return False
        if self.installs:
            # What was made anew by names that meant something else is made again.
            copy.old.owner(INSTALL)
        exact = all(alteration.exact for alteration in done)
        # Else rows may have kept what was written under another name or type, such as the times that the peak is counted
        # from: right with the numbers of this moment, and not with those of the next round.
        return self.check(copy, exact, any(alteration.kind == "setting" for alteration in done)) and exact


SETTINGS = {
    "log_line_prefix": "%m [%p] %e %q%u@%d ",
    "jit": "off",
    "live_stream.flush_interval": "10ms",
    "live_stream.message_limit": "0",
    "live_stream.join_limit": "0",
    "live_stream.anonymous_join_limit": "0",
    "live_stream.address_join_limit": "0",
    "live_stream.reaction_limit": "0",
    "live_stream.flag_limit": "0",
}
ANY = {"anyelement": "public.live_stream_viewers"}


@pytest.fixture(scope="module")
def fuzz() -> Iterator[Fuzz]:
    """On a server of its own, whose log has the SQLSTATE of each line."""
    server = Server()
    try:
        server.make_templates()
        fuzz = Fuzz(server)
        yield fuzz
        fuzz.close()
    finally:
        server.remove()


def test_whatever_the_owner_alters(fuzz: Fuzz) -> None:
    """Nothing ends a backend, no error is internal, and the numbers are right after the way back."""
    began = time.monotonic()
    numbers = [int(ONLY)] if ONLY else range(ROUNDS)
    rounds = 0
    for number in numbers:
        fuzz.round(number)
        rounds += 1
        if len(fuzz.found) >= ENOUGH:
            break
    took = time.monotonic() - began
    print(f"\n{rounds} rounds, {took / rounds:.2f} s each")
    print("\n".join(f"{count:7} {what}" for what, count in sorted(fuzz.count.items(), key=lambda item: -item[1])))
    found, fuzz.found = fuzz.found, []
    assert not found, f"{len(found)} of {rounds} rounds\n\n" + "\n\n".join(found)
    if not ONLY:
        assert fuzz.count["alterations"] > rounds / 2, "alterations that are refused show little"


# One alteration each, by name.


@pytest.fixture
def copy(fuzz: Fuzz) -> Iterator[Copy]:
    """A database for a test, which the next one gets too if it is as it was. At the end nothing is broken."""
    fuzz.look_at_the_log()
    fuzz.said = []
    copy = fuzz.database()
    copy.rounds += 1
    yield copy
    fuzz.look_at_the_log()
    said, fuzz.said = fuzz.said, []
    if said:
        fuzz.fresh()
    assert not said, "\n".join(said)


def apply(fuzz: Fuzz, copy: Copy, statements: list[str]) -> None:
    if error := fuzz.alter(copy, statements, alone=False):
        raise error


def all_requests(fuzz: Fuzz, copy: Copy, some: random.Random | None = None) -> dict[str, Any]:
    """What everybody is told now, or to some of the requests: nothing, or a refusal."""
    copy.old._gateway._schema = fuzz.schema
    requests = Cast(copy.old, fuzz.scene).requests()
    direct = [sql for sql in statements(fuzz.scene) if not sql.startswith(LASTING)]
    names = some.sample(sorted(requests), 12) if some else list(requests)
    told = {name: fuzz.attempt(name, requests[name]) for name in names}
    for sql in some.sample(direct, 5) if some else direct:
        told[sql] = fuzz.attempt(sql, lambda: copy.old.owner(sql))
    return told


# Statements whose effect the next test would see.
LASTING = ("truncate", "vacuum", "analyze", "select live_stream.erase_user", "select * from live_stream.purge")
# What PostgreSQL itself says of a query in a function, without the name of the column; or of a function that went with a view.
NAMELESS = re.compile(r"^(UNION types|CASE types|COALESCE types|operator does not exist|function .* does not exist|collations are not)")


def unclear(told: dict[str, Any], names: list[str], but: dict[str, Any]) -> list[str]:
    """The refusals that do not say what is wrong with which object, beside those that were given before. PostgreSQL's
    own have a name in quotation marks."""
    found = []
    for what, error in told.items():
        if error is None or but.get(what) is not None or error.sqlstate is None:
            continue
        message, detail, hint = parts = _parts(error)
        named = any(name.rpartition(".")[2] in " ".join(parts) for name in names)
        if error.sqlstate == "55000" and not (named and hint) or (
            error.sqlstate.startswith("42") and error.sqlstate != "42501"
            and not named and '"' not in message and not NAMELESS.match(message)
        ):  # fmt: skip
            found.append(f"{what}: {error.sqlstate} {parts}")
    return found


def _parts(error: RequestError | psycopg.Error) -> list[str]:
    """Message, detail and hint."""
    if isinstance(error, RequestError):
        return [error.message, error.detail or "", error.hint or ""]
    return [error.diag.message_primary or "", error.diag.message_detail or "", error.diag.message_hint or ""]


@pytest.fixture(scope="module")
def before(fuzz: Fuzz) -> dict[str, Any]:
    """What is refused of a database that nobody has altered."""
    return all_requests(fuzz, fuzz.database())


def look_again(
    fuzz: Fuzz, copy: Copy, alteration: Alteration, names: list[str], before: dict[str, Any], some: random.Random | None = None
) -> None:
    """Alters, uses the system while it is hot, takes the way back, and wants every refusal clear and every number right."""
    keep = False
    try:
        apply(fuzz, copy, alteration.do)
        for session in (fuzz.scene.hot, fuzz.scene.limited):
            fuzz.crowd(copy, session)
        told = all_requests(fuzz, copy, some)
        fuzz.crowd(copy, fuzz.scene.hot)
        assert alteration.undo is not None
        apply(fuzz, copy, alteration.undo)
        keep = fuzz.check(copy, alteration.exact)
        assert unclear(told, names, before) == []
    except Ended as error:
        fuzz.look_at_the_log(wait=True)
        fuzz.note(str(error))
    finally:
        if not keep:
            fuzz.fresh()


def test_the_viewers_of_the_log_as_text(fuzz, copy, before):
    column = fuzz.catalog.tables["live_stream.metric_changes"].column("viewers")
    look_again(fuzz, copy, retype(fuzz.catalog, [(column, "text")], "harness.kept", True), ["metric_changes"], before)


def test_ids_of_influencers_that_are_numbers_are_refused_and_no_memory_is_read(fuzz, copy):
    column = fuzz.catalog.tables["public.influencers"].column("id")
    change = retype(fuzz.catalog, [(column, "bigint")], "harness.kept", True)
    apply(fuzz, copy, change.do)
    with copy.new.connect() as connection:
        claims = json.dumps({"sub": fuzz.scene.influencer["user_id"], "role": "authenticated"})
        connection.execute("select set_config('role', 'authenticated', false), set_config('request.jwt.claims', %s, false)", [claims])
        with pytest.raises(psycopg.Error) as refusal:
            connection.execute("select live_stream.influencer_ids()")
        parts = _parts(refusal.value)
        assert refusal.value.sqlstate == "55000" and "influencers" in " ".join(parts) and parts[2], parts
    fuzz.fresh()


def test_the_end_of_an_invitation_as_text(fuzz, copy, before):
    column = fuzz.catalog.tables["public.live_stream_invitations"].column("expires_at")
    change = retype(fuzz.catalog, [(column, "text")], "harness.kept", True)
    look_again(fuzz, copy, change, ["live_stream_invitations", "expires_at"], before)


OTHER_THINGS = ("view", "sequence", "partitioned table", "materialized view", "file", "composite type", "reversed table")


@pytest.mark.parametrize("how", OTHER_THINGS)
@pytest.mark.parametrize(
    "table",
    [
        "live_stream.metric_sessions", "live_stream.metric_changes", "public.live_stream_sessions",
        "public.live_stream_viewers", "public.live_stream_chat",
    ],
)  # fmt: skip
def test_another_thing_under_the_name_of_a_table(fuzz, copy, before, table, how):
    look_again(fuzz, copy, substitute(fuzz.catalog.tables[table], how, with_rows=True), [table], before)


@pytest.mark.parametrize("columns", [["session_id"], ["viewers"], ["since", "peak", "messages"], ["doubtful", "revenue"]])
def test_the_columns_of_the_log_in_another_order(fuzz, copy, before, columns):
    """It works, or it is refused."""
    table = fuzz.catalog.tables["live_stream.metric_changes"]
    look_again(fuzz, copy, moved(fuzz.catalog, table, columns, "harness.kept"), [table.name], before)


def _named_indexes() -> list[str]:
    """Those that the engine asks for by name."""
    sources = "\n".join(path.read_text() for path in sorted((ROOT / "src").rglob("*.rs")))
    return sorted(set(re.findall(r'c"([a-z_]+_(?:idx|pkey|key))"', sources)))


_HOW = ["hash", "another column", "false", "of another table", "expression", "descending", "table"]
_ANOTHER = [(name, how) for name in _named_indexes() for how in _HOW]


# In the short form each name has every third way, and each way every third name.
@pytest.mark.parametrize("name, how", scale(_ANOTHER[::3], _ANOTHER))
def test_another_index_under_the_name_of_one_that_the_engine_uses(fuzz, copy, before, name, how):
    """Rows are found without it, or the request is refused."""
    index = next(index for index in fuzz.catalog.indexes if index.name == name)
    alteration = another_index(fuzz.catalog, index, how, random.Random(name))
    look_again(fuzz, copy, alteration, [name, index.table], before, random.Random(f"{name} {how}"))


def test_every_column_as_a_number(fuzz, copy, before):
    """Each column of each table of the API, one at a time; in the short form one of each type of a table."""
    found = []
    for table in fuzz.catalog.tables.values():
        first_of = {column.type: column for column in reversed(table.columns)}
        for column in scale(list(first_of.values()), table.columns):
            if table.schema != "public" or column.type == "bigint" or column.generated:
                continue
            rng = random.Random(f"{table.name}.{column.name}")
            copy = fuzz.database()
            copy.rounds += 1
            name = f"{table.name}.{column.name}"
            change = retype(fuzz.catalog, [(column, "bigint")], f"harness.kept_{name.replace('.', '_')}"[:50], True)
            if error := fuzz.alter(copy, change.do, alone=False):
                # Two values that are one number, say.
                fuzz.count[f"a number refused: {error.sqlstate}"] += 1
                continue
            try:
                told = all_requests(fuzz, copy, rng)
                fuzz.crowd(copy, fuzz.scene.hot)
                told["recount"] = fuzz.attempt("recount", lambda: copy.old.owner(f"select live_stream.recount('{fuzz.scene.hot}')"))
            except Ended as error:
                fuzz.look_at_the_log(wait=True)
                found.append(f"{name}: {error}")
                fuzz.fresh()
                continue
            found += [f"{name}: {words}" for words in unclear(told, [table.name, column.name], before)]
            if fuzz.alter(copy, change.undo, alone=False):
                fuzz.fresh()
                continue
            keep = fuzz.check(copy, False)
            if fuzz.look_at_the_log() or not keep:
                found += [f"{name}: {words}" for words in fuzz.said]
                fuzz.said = []
                fuzz.fresh()
    assert found == [], "\n".join(found)
