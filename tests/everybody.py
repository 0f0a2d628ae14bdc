"""Every request that clients and servers send, as data: who sends it, and what; and the stage on which two casts do so.

`REQUESTS` is also an order in which one cast sends all of them, and each succeeds. A name of a request is that of its
function, or says what it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from people import Person, World


@dataclass(frozen=True)
class Request:
    """`needs` names one that must have come before. One that is taken `back` is rolled back after its statement."""

    who: str
    sql: str
    needs: str | None = None
    back: bool = False


def _call(function: str, *args: str) -> str:
    return f"select * from public.live_stream_{function}({', '.join(args)})"


def _set(table: str, columns: str, where: str = "id = %({0})s") -> str:
    return f"update public.live_stream_{table} set {columns} where {where} returning *"


# Of each cast by its name: `anon`; a person of its own; `host` and `service_role`, which both have in common.
REQUESTS: dict[str, Request] = {
    # Whoever looks.
    "reads sessions": Request("anon", "select * from public.live_sessions_with_details where id = %(session)s"),
    "reads the chat": Request("anon", "select * from public.live_stream_chat where session_id = %(session)s and not is_deleted"),
    "reads products": Request("anon", "select * from public.live_stream_products where session_id = %(session)s"),
    "reads upcoming": Request("anon", "select * from public.upcoming_streams"),
    "session": Request("anon", _call("session", "%(session)s")),
    "session_by_code": Request("anon", _call("session_by_code", "%(code)s")),
    "upcoming": Request("anon", _call("upcoming")),
    "occurrences": Request("anon", _call("occurrences", "%(another_schedule)s", "'2030-01-01'", "'2030-03-01'")),
    "calendar": Request("anon", _call("calendar", "'2030-01-01'", "'2030-03-01'")),
    "calendar_feed": Request("anon", _call("calendar_feed", "%(influencer)s")),
    "session_analytics": Request("host", _call("session_analytics", "%(session)s")),
    "stream_credentials": Request("host", _call("stream_credentials", "%(session)s")),
    "reads viewers": Request("host", "select * from public.live_stream_viewers where session_id = %(session)s"),
    # Whoever comes; each is somebody else.
    "anonymous join": Request("anon", "insert into public.live_stream_viewers (session_id) values (%(session)s) returning *"),
    "anonymous join by the function": Request("anon", _call("join", "%(session)s")),
    "anonymous comes back": Request("anon", _call("join", "%(session)s", "viewer_id => %(anonymous_gone)s")),
    "anonymous heartbeat": Request("anon", _call("heartbeat", "%(anonymous)s")),
    "anonymous share": Request("anon", _call("share", "%(anonymous)s")),
    "anonymous leave": Request("anon", _call("leave", "%(anonymous)s")),
    "join": Request("newcomer", "insert into public.live_stream_viewers (session_id, user_id) values (%(session)s, %(me)s) returning *"),
    "join by the function": Request("second newcomer", _call("join", "%(session)s")),
    "join saved again": Request(
        "third newcomer",
        "insert into public.live_stream_viewers (id, session_id, user_id) values (gen_random_uuid(), %(session)s, %(me)s)"
        " on conflict (id) do update set session_id = excluded.session_id, user_id = excluded.user_id returning *",
    ),
    "comes back": Request("guest", _set("viewers", "is_still_watching = true", "user_id = %(me)s")),
    "comes back by the function": Request("second guest", _call("join", "%(session)s")),
    "joins in another tab": Request("in two tabs", _call("join", "%(session)s", "tab_id => gen_random_uuid()")),
    "whom the server erases joins": Request("erased", _call("join", "%(session)s")),
    "brings nobody back": Request("viewer", "update public.live_stream_viewers set is_still_watching = true where id = gen_random_uuid()"),
    "accept_invitation": Request("fourth newcomer", _call("accept_invitation", "%(token)s")),
    "follow": Request("newcomer", _call("follow", "%(influencer)s", "60")),
    "follows directly": Request("second newcomer", "insert into public.live_stream_followers (influencer_id) values (%(influencer)s) returning *"),
    "follows another host": Request("third newcomer", _call("follow", "%(other_another_influencer)s", "60")),
    "follows who starts": Request("fourth newcomer", _call("follow", "%(other_third_influencer)s", "60")),
    "changes a follow": Request("viewer", "update public.live_stream_followers set reminder_minutes = 90 where user_id = %(me)s returning *"),
    "unfollow": Request("viewer", _call("unfollow", "%(influencer)s")),
    "unfollows directly": Request("guest", "delete from public.live_stream_followers where user_id = %(me)s returning *"),
    "reads a notification": Request("viewer", _set("notifications", "is_read = true", "user_id = %(me)s")),
    "deletes a notification": Request("viewer", "delete from public.live_stream_notifications where user_id = %(me)s returning *"),
    "becomes an influencer": Request("newcomer", "insert into public.influencers (user_id, display_name) values (%(me)s, 'New') returning *"),
    # Whoever watches.
    "heartbeat": Request("viewer", _call("heartbeat", "%(viewer)s")),
    "report_quality": Request("viewer", _call("report_quality", "%(viewer)s", "'fair'", "3", "1")),
    "share": Request("viewer", _call("share", "%(viewer)s")),
    "message": Request("viewer", "insert into public.live_stream_chat (session_id, message) values (%(session)s, 'hello') returning *"),
    "reply": Request("viewer", _call("send_message", "%(session)s", "'hi'", "parent_message_id => %(message)s")),
    "react": Request("viewer", _call("react", "%(message)s", "'🔥'")),
    "unreact": Request("viewer", _call("unreact", "%(popular)s", "'👏'")),
    "edit_message": Request("viewer", _call("edit_message", "%(own_message)s", "'hm'")),
    "message saved again": Request(
        "viewer",
        "insert into public.live_stream_chat (id, session_id, message) values (%(own_message)s, %(session)s, 'hmm')"
        " on conflict (id) do update set session_id = excluded.session_id, message = excluded.message returning *",
    ),
    "edits directly": Request("viewer", _set("chat", "message = 'hmmm'", "id = %(own_message)s")),
    "flag_message": Request("viewer", _call("flag_message", "%(message)s")),
    "flags what many flag": Request("viewer", _call("flag_message", "%(popular)s")),
    "track_view": Request("anon", _call("track_view", "%(product)s")),
    "track_click": Request("viewer", _call("track_click", "%(product)s", "%(viewer)s")),
    "track_add_to_cart": Request("viewer", _call("track_add_to_cart", "%(product)s", "%(viewer)s")),
    "track_share": Request("viewer", _call("track_share", "%(product)s", "%(viewer)s")),
    "viewer saved again": Request(
        "viewer",
        "insert into public.live_stream_viewers (id, session_id, user_id, device_type) values (%(viewer)s, %(session)s, %(me)s, 'tv')"
        " on conflict (id) do update set session_id = excluded.session_id, device_type = excluded.device_type returning *",
    ),
    "changes its row": Request("viewer", _set("viewers", "browser = 'lynx'", "id = %(viewer)s")),
    "leave": Request("viewer", _set("viewers", "is_still_watching = false", "id = %(viewer)s")),
    "leave by the function": Request("leaver", _call("leave", "%(leaver)s")),
    # A moderator, who is another one on each side.
    "moderator deletes": Request("moderator", _call("delete_message", "%(message)s", "'spam'")),
    "moderator puts back": Request("moderator", _set("chat", "is_deleted = false", "id = %(taken_away)s")),
    "moderator clears a flag": Request("moderator", _set("chat", "is_flagged = false", "id = %(flagged)s")),
    "moderator clears a flag by the function": Request("moderator", _call("clear_flag", "%(flagged)s")),
    "moderator times out": Request("moderator", _call("timeout", "%(loud)s", "60", "session_id => %(session)s")),
    "moderator bans a stranger": Request("moderator", _call("ban", "%(nobody)s", "session_id => %(session)s")),
    "moderator bans who watches": Request("moderator", _call("ban", "%(other_viewing)s", "session_id => %(session)s")),
    "moderator bans directly": Request("moderator", "insert into public.live_stream_bans (influencer_id, user_id) values (%(influencer)s, %(second_nobody)s) returning *"),
    "moderator changes a ban": Request("moderator", _set("bans", "reason = 'spam'", "influencer_id = %(influencer)s and user_id = %(banned)s")),
    "moderator lifts a ban": Request("moderator", _call("unban", "%(banned)s", "session_id => %(session)s")),
    "moderator deletes a ban": Request("moderator", "delete from public.live_stream_bans where influencer_id = %(influencer)s and user_id = %(second_banned)s returning *"),
    "moderator writes": Request("moderator", _call("send_message", "%(session)s", "'Be nice'")),
    # Hosts of other shows.
    "another host creates": Request("another host", _call("create", "'A show'", "scheduled_start_time => now() + interval '1 day'")),
    "another host creates directly": Request("another host", "insert into public.live_stream_sessions (influencer_id, title) values (%(another_influencer)s, 'Second') returning *"),
    "another host starts": Request("third host", _call("start", "%(third_session)s", "stream_key => 'key'")),
    "another host starts directly": Request("fourth host", _set("sessions", "status = 'live', stream_key = 'key'", "id = %(fourth_session)s")),
    "another host pauses": Request("another host", _call("pause", "%(another_session)s")),
    "another host resumes": Request("another host", _call("resume", "%(another_session)s"), needs="another host pauses"),
    "another host cancels": Request("another host", _call("cancel", "%(another_planned)s")),
    "another host deletes": Request("another host", "delete from public.live_stream_sessions where id = %(another_unwanted)s returning *"),
    "another host features": Request("another host", _call("feature_product", "%(another_session)s", "%(shop_product)s")),
    "another host bans a stranger": Request("another host", _call("ban", "%(third_nobody)s")),
    "another host bans who watches": Request("another host", _call("ban", "%(other_viewing)s")),
    "another host joins": Request("another host", _call("join", "%(session)s")),
    "another host renames itself": Request("another host", "update public.influencers set display_name = 'Host' where user_id = %(me)s returning *"),
    "schedule_create": Request("another host", _call("schedule_create", "'Show'", "'2030-05-06'", "'15:00'")),
    "schedules directly": Request(
        "another host",
        "insert into public.live_stream_schedule (influencer_id, title, scheduled_date, scheduled_start_time)"
        " values (%(another_influencer)s, 'Show', '2030-05-07', '15:00') returning *",
    ),
    "schedule saved again": Request(
        "another host",
        "insert into public.live_stream_schedule (id, influencer_id, title, scheduled_date, scheduled_start_time)"
        " values (%(another_schedule)s, %(another_influencer)s, 'Show again', '2030-01-07', '15:00')"
        " on conflict (id) do update set influencer_id = excluded.influencer_id, title = excluded.title returning *",
    ),
    "skip_occurrence": Request("another host", _call("skip_occurrence", "%(another_schedule)s", "'2030-01-14 15:00Z'")),
    "move_occurrence": Request("another host", _call("move_occurrence", "%(another_schedule)s", "'2030-01-21 15:00Z'", "'2030-01-22 15:00Z'")),
    "add_occurrence": Request("another host", _call("add_occurrence", "%(another_schedule)s", "'2030-01-23 15:00Z'")),
    "restore_occurrence": Request("another host", _call("restore_occurrence", "%(another_schedule)s", "'2030-01-28 15:00Z'")),
    "skips directly": Request(
        "another host",
        "insert into public.live_stream_schedule_exceptions (schedule_id, original_starts_at, kind)"
        " values (%(another_schedule)s, '2030-02-11 15:00Z', 'skip') returning *",
    ),
    "changes an exception": Request("another host", _set("schedule_exceptions", "title = 'Late'", "schedule_id = %(another_schedule)s and original_starts_at = '2030-02-04 15:00Z'")),
    "deletes an exception": Request("another host", "delete from public.live_stream_schedule_exceptions where schedule_id = %(another_schedule)s and original_starts_at = '2030-02-18 15:00Z' returning *"),
    "schedule_split": Request("another host", _call("schedule_split", "%(another_schedule)s", "'2030-03-04 15:00Z'")),
    "schedule_cancel": Request("another host", _call("schedule_cancel", "%(another_schedule)s")),
    "deletes a schedule": Request("another host", "delete from public.live_stream_schedule where id = %(another_schedule)s returning *"),
    "import_ics": Request("another host", _call("import_ics", "%(another_influencer)s", "%(ics)s")),
    "another host ends": Request("another host", _call("end", "%(another_session)s")),
    # The host.
    "host creates": Request("host", _call("create", "'The next show'")),
    "host renames": Request("host", _set("sessions", "title = 'Renamed'", "id = %(session)s")),
    "session saved again": Request(
        "host",
        "insert into public.live_stream_sessions (id, influencer_id, title) values (%(session)s, %(influencer)s, 'Saved')"
        " on conflict (id) do update set influencer_id = excluded.influencer_id, title = excluded.title returning *",
    ),
    "host limits": Request("host", _set("sessions", "max_viewers = 900", "id = %(session)s")),
    "host pauses": Request("host", _call("pause", "%(session)s")),
    "host resumes": Request("host", _call("resume", "%(session)s"), needs="host pauses"),
    "host features": Request("host", _call("feature_product", "%(session)s", "%(shop_product)s", "live_stream_price => 9")),
    "host shows another product": Request("host", "insert into public.live_stream_products (session_id, product_id) values (%(session)s, gen_random_uuid()) returning *"),
    "host changes a product": Request("host", _set("products", "live_stream_price = 3", "id = %(product)s")),
    "product saved again": Request(
        "host",
        "insert into public.live_stream_products (id, session_id, product_id, display_order) values (%(product)s, %(session)s, %(shop_product)s, 4)"
        " on conflict (id) do update set session_id = excluded.session_id, product_id = excluded.product_id, display_order = excluded.display_order"
        " returning *",
    ),
    "product metrics": Request("host", _set("products", "clicks = 50", "session_id = %(session)s and product_id = %(shop_product)s")),
    "host removes a product": Request("host", "delete from public.live_stream_products where id = %(unsold)s returning *"),
    "record_order": Request("host", _call("record_order", "%(session)s", "%(shop_product)s", "5", "viewer_id => %(buyer)s")),
    "host records an order directly": Request("host", "insert into public.live_stream_orders (session_id, product_id, amount) values (%(session)s, %(shop_product)s, 5) returning *"),
    "host deletes a message": Request("host", _call("delete_message", "%(message)s", "'spam'")),
    "host bans a stranger": Request("host", _call("ban", "%(fourth_nobody)s")),
    "host bans who watches": Request("host", _call("ban", "%(other_viewing)s", "session_id => %(session)s")),
    "add_moderator": Request("host", _call("add_moderator", "%(helper)s")),
    "chooses a moderator directly": Request("host", "insert into public.live_stream_moderators (influencer_id, user_id) values (%(influencer)s, %(fifth_nobody)s) returning *"),
    "remove_moderator": Request("host", _call("remove_moderator", "%(former)s")),
    "removes a moderator directly": Request("host", "delete from public.live_stream_moderators where user_id = %(second_former)s returning *"),
    "invite": Request("host", _call("invite", "%(private)s", "%(loud)s")),
    "invites directly": Request("host", "insert into public.live_stream_guests (session_id, user_id) values (%(private)s, %(fifth_nobody)s) returning *"),
    "uninvite": Request("host", _call("uninvite", "%(private)s", "%(private_guest)s")),
    "uninvites directly": Request("host", "delete from public.live_stream_guests where user_id = %(second_private_guest)s returning *"),
    "create_invitation": Request("host", _call("create_invitation", "%(private)s")),
    "revoke_invitation": Request("host", _call("revoke_invitation", "%(invitation)s")),
    "host revokes a link": Request("host", _call("revoke_invitation", "%(other_link)s")),
    "host schedules": Request("host", _call("schedule_create", "'Show'", "'2030-05-06'", "'15:00'")),
    "host changes a schedule": Request("host", _set("schedule", "title = 'Renamed'", "id = %(schedule)s")),
    "host cancels a schedule": Request("host", _call("schedule_cancel", "%(schedule)s")),
    "host moves a session": Request("host", _set("sessions", "scheduled_start_time = now() + interval '2 days'", "id = %(planned)s")),
    "cancel": Request("host", _call("cancel", "%(planned)s")),
    "host deletes": Request("host", "delete from public.live_stream_sessions where id = %(unwanted)s returning *"),
    # The app's server.
    "server records an order": Request("service_role", _call("record_order", "%(session)s", "%(shop_product)s", "5", "user_id => %(loud)s")),
    "server corrects an order": Request("service_role", _set("orders", "amount = 7", "id = %(order)s")),
    "server deletes an order": Request("service_role", "delete from public.live_stream_orders where id = %(order)s returning *"),
    "server notifies": Request(
        "service_role",
        "insert into public.live_stream_notifications (user_id, session_id, type, title) values (%(loud)s, %(session)s, 'special_offer', 'Now') returning *",
    ),
    "expire_viewers": Request("service_role", "select live_stream.expire_viewers()"),
    "run_schedules": Request("service_role", "select live_stream.run_schedules()"),
    "materialize_occurrences": Request("service_role", "select live_stream.materialize_occurrences()"),
    "send_reminders": Request("service_role", "select live_stream.send_reminders()"),
    "verify_metrics": Request("service_role", "select count(*) from live_stream.verify_metrics()"),
    "export_user": Request("service_role", "select live_stream.export_user(%(erased)s)"),
    "personal_data": Request("service_role", "select * from live_stream.personal_data()"),
    "purge": Request("service_role", "select * from live_stream.purge(chat => '1 day', viewers => '1 day', notifications => '1 day')"),
    "flush_metrics": Request("service_role", "select live_stream.flush_metrics()"),
    "recount": Request("service_role", "select live_stream.recount(%(session)s)"),
    "erase_user": Request("service_role", "select live_stream.erase_user(%(other_erased)s)"),
    # And then it is over.
    "host hides": Request("host", _set("sessions", "visibility = 'private'", "id = %(session)s")),
    "end": Request("host", _call("end", "%(session)s", "'https://example.org/recording'")),
    "server deletes the session": Request("service_role", "delete from public.live_stream_sessions where id = %(session)s returning *", back=True),
}  # fmt: skip

CASTS = ("one", "two")
OF_EACH = ("newcomer", "second newcomer", "third newcomer", "fourth newcomer", "guest", "second guest", "viewer", "leaver",
           "in two tabs", "moderator", "erased")  # fmt: skip
NOBODIES = ("loud", "helper", "nobody", "second_nobody", "third_nobody", "fourth_nobody", "fifth_nobody", "banned", "second_banned",
            "former", "second_former", "private_guest", "second_private_guest")  # fmt: skip

ICS = """BEGIN:VCALENDAR
VERSION:2.0
BEGIN:VEVENT
UID:1
DTSTART:20300506T150000Z
DTEND:20300506T160000Z
SUMMARY:Imported
END:VEVENT
END:VCALENDAR
""".replace("\n", "\r\n")


class Stage:
    """A live session with its host, and two casts that have nothing in common but these."""

    def __init__(self, world: World, casts: tuple[str, ...] = CASTS) -> None:
        self.db = world.db
        self.host = host = world.new_influencer()
        self.session = session = world.session(by=host, max_viewers=1000, stream_key="key")
        self.who: dict[str, dict[str, Person]] = {cast: {"host": host} for cast in casts}
        popular = world.say(session, host, "hello all")
        product = world.product(session, host)
        soon = datetime.now(timezone.utc) + timedelta(days=2)
        schedule = world.schedule(by=host, scheduled_date=f"{soon:%Y-%m-%d}")
        common = {
            "session": session["id"],
            "code": session["session_code"],
            "influencer": host.influencer_id,
            "popular": popular["id"],
            "flagged": self._flagged(world, session)["id"],
            "product": product["id"],
            "shop_product": product["product_id"],
            "schedule": schedule["id"],
            "planned": world.session(by=host, live=False, scheduled_start_time=soon.isoformat())["id"],
            "unwanted": world.session(by=host, live=False)["id"],
            "private": world.session(by=host, live=False, visibility="private")["id"],
            "ics": ICS,
        }
        self.names: dict[str, dict[str, Any]] = {cast: dict(common) for cast in casts}
        for cast in casts:
            self._make(world, cast)
        # Of three, the second one writes to what is the first one's.
        for cast, other_cast in zip(casts, casts[-1:] + casts[:-1]):
            own, other = self.names[cast], self.names[other_cast]
            own["message"] = other["own_message"]
            own |= {f"other_{name}": other[name] for name in ("viewing", "erased", "link", "another_influencer", "third_influencer")}
        world.service.rpc("live_stream_record_order", session_id=session["id"], product_id=product["product_id"], amount=9)
        # So that none of these is made while requests are watched.
        self.db.owner("select live_stream.run_schedules()")

    def _flagged(self, world: World, session: dict[str, Any]) -> dict[str, Any]:
        message = world.say(session, self.host, "buy now")
        world.viewer.api.rpc("live_stream_flag_message", message_id=message["id"])
        return message

    def _make(self, world: World, cast: str) -> None:
        session, host, names, who = self.session, self.host, self.names[cast], self.who[cast]
        who |= {name: world.new_user() for name in OF_EACH}
        who |= {f"{nth} host": world.new_influencer() for nth in ("another", "third", "fourth")}
        another, later = who["another host"], "2030-01-01T15:00Z"
        for name in ("guest", "second guest"):
            world.leave(world.join(session, who[name]), who[name])
        for name in ("viewer", "guest"):
            who[name].api.rpc("live_stream_follow", influencer_id=host.influencer_id)
        world.join(session, who["in two tabs"])
        viewer, erased = world.join(session, who["viewer"]), world.join(session, who["erased"])
        names |= {
            "viewer": viewer["id"],
            "viewing": who["viewer"].user_id,
            "buyer": viewer["id"],
            "leaver": world.join(session, who["leaver"])["id"],
            "erased": who["erased"].user_id,
            "anonymous": world.join(session)["id"],
            "anonymous_gone": world.join(session)["id"],
            "own_message": world.say(session, who["viewer"], viewer=viewer)["id"],
            "taken_away": world.say(session, who["erased"], viewer=erased)["id"],
            "unsold": world.product(session, host)["id"],
            "another_influencer": another.influencer_id,
            "third_influencer": who["third host"].influencer_id,
            "another_session": world.session(by=another, max_viewers=1000)["id"],
            "another_planned": world.session(by=another, live=False, scheduled_start_time=later)["id"],
            "another_unwanted": world.session(by=another, live=False)["id"],
            "third_session": world.session(by=who["third host"], live=False, scheduled_start_time=later)["id"],
            "fourth_session": world.session(by=who["fourth host"], live=False)["id"],
            "another_schedule": world.schedule(by=another, is_recurring=True, recurrence_pattern="weekly")["id"],
        }
        names |= {name: world.new_user().user_id for name in NOBODIES}
        world.anon.rpc("live_stream_leave", viewer_id=names["anonymous_gone"])
        who["viewer"].api.rpc("live_stream_react", message_id=names["popular"], reaction="👏")
        host.api.rpc("live_stream_delete_message", message_id=names["taken_away"])
        for user_id in (who["moderator"].user_id, names["former"], names["second_former"]):
            host.api.rpc("live_stream_add_moderator", user_id=user_id)
        for name in ("banned", "second_banned"):
            host.api.rpc("live_stream_ban", user_id=names[name], session_id=session["id"])
        for name in ("private_guest", "second_private_guest"):
            host.api.rpc("live_stream_invite", session_id=names["private"], user_id=names[name])
        for day, kind in (("01-28", "skip"), ("02-04", "move"), ("02-18", "skip")):
            body = {"schedule_id": names["another_schedule"], "original_starts_at": f"2030-{day}T15:00Z", "kind": kind}
            another.api.insert("live_stream_schedule_exceptions", body | ({"title": "Soon"} if kind == "move" else {}))
        link = host.api.rpc("live_stream_create_invitation", session_id=session["id"], max_uses=10)
        names["token"], names["link"] = link["token"], link["invitation_id"]
        names["invitation"] = host.api.rpc("live_stream_create_invitation", session_id=session["id"])["invitation_id"]
        for title in ("Now", "Later"):
            body = {"user_id": who["viewer"].user_id, "type": "special_offer", "title": title}
            world.service.insert("live_stream_notifications", body)
        order = world.service.rpc("live_stream_record_order", session_id=session["id"], product_id=names["shop_product"], amount=5)
        names["order"] = order["id"]
