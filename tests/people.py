"""A small cast for a test, and what they do, each by a request of their own.

    world = people(db)
    session = world.session(title="Launch")             # world.influencer's, and live
    viewer = world.join(session, world.viewer)          # or world.join(session): an anonymous one
    world.say(session, world.viewer, "hello", viewer)
    world.end(session)
"""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Callable

from database import Database
from postgrest import Api, RequestError, Row


@dataclass
class Person:
    """Somebody with an account; `influencer_id` if the person streams."""

    user_id: str
    api: Api
    influencer_id: str | None = None


def now() -> str:
    return datetime.now(timezone.utc).isoformat()


class World:
    """`influencer` streams, `viewer` watches, `stranger` has nothing to do with either, `anon` has no account."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.influencer = self.new_influencer("Ada")
        self.viewer = self.new_user()
        self.stranger = self.new_user()
        self.anon = db.as_anon()
        self.service = db.as_service()

    def new_user(self) -> Person:
        user_id = str(uuid.uuid4())
        if self.db.is_supabase:
            self.db.sql("insert into auth.users (id, email) values (%s, %s)", [user_id, f"{user_id}@example.org"])
        return Person(user_id, self.db.as_user(user_id))

    def new_influencer(self, display_name: str = "Grace", **columns: Any) -> Person:
        """On Supabase with private columns too, whose values all hold the word `private`."""
        person = self.new_user()
        if self.db.is_supabase:
            private = {"email": "private@example.org", "phone": "private-1", "payout_token": "private-token"}
            columns = private | {"profile_image": "https://example.org/face.png"} | columns
        columns = {"user_id": person.user_id, "display_name": display_name, "followers_count": 7} | columns
        (row,) = self.db.owner(_insert("influencers", columns), list(columns.values()))
        person.influencer_id = str(row["id"])
        return person

    def new_product(self, name: str = "Lamp", price: float = 20) -> str:
        """The id of a product; where the app has no table of products, just an id."""
        if not self.db.is_supabase:
            return str(uuid.uuid4())
        columns = {"name": name, "price": price}
        (row,) = self.db.owner(_insert("products", columns), list(columns.values()))
        return str(row["id"])

    def anonymous(self, viewer: Row) -> Api:
        """The later requests of the anonymous viewer who got this row."""
        return self.db.as_anon(headers={"x-viewer-id": viewer["id"]})

    # The requests of CONTRACT.md. Each returns the row that the client gets.

    def session(self, title: str = "A stream", live: bool = True, by: Person | None = None, **columns: Any) -> Row:
        by = by or self.influencer
        body = {"influencer_id": by.influencer_id, "title": title} | columns
        session = by.api.insert("live_stream_sessions", body)
        return self.start(session, by) if live else session

    def set_session(self, session: Row, by: Person | None = None, **columns: Any) -> Row:
        api = (by or self.influencer).api
        return api.update("live_stream_sessions", columns, where={"id": session["id"]}, one=True)

    def start(self, session: Row, by: Person | None = None) -> Row:
        return self.set_session(session, by, status="live", actual_start_time=now(), room_id="room-1")

    def pause(self, session: Row, by: Person | None = None) -> Row:
        return self.set_session(session, by, status="paused")

    def end(self, session: Row, by: Person | None = None) -> Row:
        return self.set_session(session, by, status="ended", actual_end_time=now())

    def read(self, session: Row, by: Person | None = None) -> Row:
        """The session as its influencer sees it now."""
        api = (by or self.influencer).api
        return api.select("live_stream_sessions", where={"id": session["id"]}, one=True)

    def join(self, session: Row, who: Person | None = None, **columns: Any) -> Row:
        body = {
            "session_id": session["id"],
            "user_id": who.user_id if who else None,
            "viewer_type": "customer" if who else "anonymous",
            "device_type": "mobile",
            "browser": "chrome",
        }
        return (who.api if who else self.anon).insert("live_stream_viewers", body | columns)

    def leave(self, viewer: Row, who: Person | None = None, **columns: Any) -> Row:
        api = who.api if who else self.anonymous(viewer)
        body = {"is_still_watching": False, "left_at": now(), "watch_duration_minutes": 0}
        return api.update("live_stream_viewers", body | columns, where={"id": viewer["id"]}, one=True)

    def say(self, session: Row, who: Person, message: str = "hello", viewer: Row | None = None, **columns: Any) -> Row:
        body = {
            "session_id": session["id"],
            "viewer_id": viewer["id"] if viewer else None,
            "user_id": who.user_id,
            "message": message,
            "message_type": "chat",
            "username": "User123",
        }
        return who.api.insert("live_stream_chat", body | columns)

    def product(self, session: Row, by: Person | None = None, product_id: str | None = None, **columns: Any) -> Row:
        body = {
            "session_id": session["id"],
            "product_id": product_id or self.new_product(),
            "original_price": 20,
            "live_stream_price": 15,
        }
        return (by or self.influencer).api.insert("live_stream_products", body | columns)

    def schedule(self, title: str = "A weekly stream", by: Person | None = None, **columns: Any) -> Row:
        by = by or self.influencer
        body = {
            "influencer_id": by.influencer_id,
            "title": title,
            "scheduled_date": "2030-01-07",
            "scheduled_start_time": "15:00:00",
            "scheduled_end_time": "16:00:00",
        }
        return by.api.insert("live_stream_schedule", body | columns)


def people(db: Database) -> World:
    return World(db)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Makes all the calls at the same moment, each on a connection of its own: their results, or RequestErrors."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return call()
        except RequestError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def _insert(table: str, columns: Row) -> str:
    names, places = ", ".join(columns), ", ".join(["%s"] * len(columns))
    return f"insert into public.{table} ({names}) values ({places}) returning *"
