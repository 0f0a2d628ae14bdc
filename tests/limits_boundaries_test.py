"""Both sides of every limit in time: a microsecond too early is too early, and the moment itself is not.

Within a transaction the time stands still. So a test writes when something was as `now() - 30 seconds`, or a microsecond
beside that, past all triggers, and makes the request in the same transaction.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest

from moderating import ban, invitation, timeout
from people import Person, World
from sizes import own_db

MICROSECOND = "interval '1 microsecond'"
# Before the end of a time, at it, and after it.
EARLY, AT_THE_END, LATE = f"+ {MICROSECOND}", "", f"- {MICROSECOND}"


def request(world: World, who: Person | str, written: str, sent: str, *args: Any, headers: dict[str, str] | None = None) -> psycopg.Error | list[dict[str, Any]]:
    """What a request answers, or its error, in a transaction that has written `written` past all triggers, and commits."""
    role, claims = (who, {"role": who}) if isinstance(who, str) else ("authenticated", {"role": "authenticated", "sub": who.user_id})
    try:
        with world.db.connect() as connection, connection.transaction():
            connection.execute("set local session_replication_role = replica")
            connection.execute(written)
            connection.execute("set local session_replication_role = origin")
            connection.execute("select set_config('request.headers', %s, true)", [json.dumps(headers or {})])
            connection.execute("select set_config('request.jwt.claims', %s, true), set_config('role', %s, true)", [json.dumps(claims), role])
            return connection.execute(sent, args or None).fetchall()
    except psycopg.Error as error:
        return error


def state(answer: Any) -> str | None:
    """None for a request that succeeded."""
    return answer.sqlstate if isinstance(answer, psycopg.Error) else None


def seconds_to_wait(answer: psycopg.Error) -> int:
    return int(re.fullmatch(r"Try again in (\d+) seconds?\.", answer.diag.message_hint).group(1))


SEND = "select * from public.live_stream_send_message(%s, 'again')"


# Messages.


@pytest.mark.parametrize("slow_mode", [1, 30, 3600])
def test_slow_mode_ends_to_the_microsecond(world, slow_mode):
    session = world.session(slow_mode_seconds=slow_mode)
    message = world.say(session, world.viewer)

    def send(ago: str) -> Any:
        written = f"update live_stream_chat set sent_at = now() - {ago} where session_id = '{session['id']}' and id = '{message['id']}'"
        world.db.sql("delete from live_stream_chat where session_id = %s and id <> %s", [session["id"], message["id"]])
        return request(world, world.viewer, written, SEND, session["id"])

    span = f"interval '{slow_mode} seconds'"
    for ago, wait in ((f"({span} - {MICROSECOND})", 1), (f"({span} - interval '1 second')", 1), (f"({span} - interval '0.5 second')", 1),
                      ("interval '0'", slow_mode)):  # fmt: skip
        refusal = send(ago)
        assert state(refusal) == "PT429" and "slow mode" in refusal.diag.message_detail, ago
        assert seconds_to_wait(refusal) == wait
    if slow_mode > 1:
        assert seconds_to_wait(send(f"({span} - interval '1.000001 seconds')")) == 2
    for ago in (span, f"({span} + {MICROSECOND})", f"({span} + interval '1 second')"):
        assert state(send(ago)) is None, ago


@pytest.mark.parametrize(("beside", "refused"), [(EARLY, True), (AT_THE_END, False), (LATE, False)])
def test_the_interval_of_messages_ends_to_the_microsecond(world, beside, refused):
    """Of three messages the last but one must be gone."""
    world.db.set(message_limit=2, message_interval="10s")
    session = world.session()
    first, second = world.say(session, world.viewer), world.say(session, world.viewer)
    written = (
        f"update live_stream_chat set sent_at = now() - interval '10 seconds' {beside} where id = '{first['id']}';"
        f"update live_stream_chat set sent_at = now() where id = '{second['id']}'"
    )
    answer = request(world, world.viewer, written, SEND, session["id"])
    assert state(answer) == ("PT429" if refused else None)
    assert not refused or seconds_to_wait(answer) == 1


RATES = {
    "edits": (3, "10 seconds", {"message_limit": 2, "message_interval": "10s"}, 2, "select * from public.live_stream_edit_message(%s, 'b')"),
    "reactions": (1, "1 second", {"reaction_limit": 3}, 3, "select * from public.live_stream_react(%s, '🔥')"),
    "flags": (2, "1 hour", {"flag_limit": 4}, 4, "select * from public.live_stream_flag_message(%s)"),
}


@pytest.mark.parametrize("what", RATES)
@pytest.mark.parametrize(("beside", "less", "refused"), [(EARLY, 0, True), (EARLY, 1, False), (AT_THE_END, 0, False), (LATE, 0, False)])
def test_the_window_of_a_rate_ends_to_the_microsecond(world, what, beside, less, refused):
    kind, window, settings, limit, sent = RATES[what]
    world.db.set(**settings)
    session = world.session()
    message = world.say(session, world.viewer)
    written = (
        "insert into live_stream.person_rates (user_id, kind, since, spent)"
        f" values ('{world.viewer.user_id}', {kind}, now() - interval '{window}' {beside}, {limit - less})"
    )
    answer = request(world, world.viewer, written, sent, message["id"])
    assert state(answer) == ("PT429" if refused else None)
    assert not refused or (what in answer.diag.message_primary and seconds_to_wait(answer) == 1)


# Joins.

JOIN = "insert into public.live_stream_viewers (session_id, user_id) values (%s, %s) returning id"
SIDES = [(EARLY, True), (AT_THE_END, False), (LATE, False)]


def joined(session: dict[str, Any], beside: str, and_where: str = "true") -> str:
    """All who came did so a minute ago."""
    moment = f"now() - interval '1 minute' {beside}"
    return f"update live_stream_viewers set joined_at = {moment}, watching_since = {moment}, counted_since = {moment} where session_id = '{session['id']}' and {and_where}"


@pytest.mark.parametrize(("beside", "refused"), SIDES)
def test_the_minute_of_a_persons_joins_ends_to_the_microsecond(world, beside, refused):
    world.db.set(join_limit=2)
    session = world.session()
    for _ in range(2):
        world.join(session, world.viewer)
    assert state(request(world, world.viewer, joined(session, beside), JOIN, session["id"], world.viewer.user_id)) == ("PT429" if refused else None)


@pytest.mark.parametrize(("beside", "refused"), SIDES)
def test_the_minute_of_a_crowd_ends_to_the_microsecond(world, beside, refused):
    world.db.set(anonymous_join_limit=2)
    session = world.session()
    for _ in range(2):
        world.join(session)
    answer = request(world, "anon", joined(session, beside), JOIN, session["id"], None)
    assert state(answer) == ("PT429" if refused else None)
    assert not refused or seconds_to_wait(answer) == 1


@pytest.mark.parametrize(("beside", "refused"), SIDES)
def test_the_minute_of_an_address_ends_to_the_microsecond(world, beside, refused):
    world.db.set(ip_tracking="full", address_join_limit=1)
    session = world.session()
    headers = {"x-forwarded-for": "203.0.113.9"}
    world.db.as_anon(headers=headers).insert("live_stream_viewers", {"session_id": session["id"], "user_id": None})
    answer = request(world, "anon", joined(session, beside), JOIN, session["id"], None, headers=headers)
    assert state(answer) == ("PT429" if refused else None)


# Bans and timeouts.


def ends(world: World, whom: Person, beside: str) -> str:
    """What is in force against somebody ends now, or beside that; it began before."""
    return (
        f"update live_stream_bans set created_at = now() - interval '1 hour', expires_at = now() {beside}"
        f" where user_id = '{whom.user_id}' and influencer_id = '{world.influencer.influencer_id}'"
    )


@pytest.mark.parametrize(("beside", "refused"), SIDES)
def test_a_timeout_ends_to_the_microsecond(world, beside, refused):
    session = world.session()
    message = world.say(session, world.viewer)
    timeout(world.influencer, world.viewer, seconds=600)
    for sent, args in (
        (SEND, [session["id"]]),
        ("select * from public.live_stream_edit_message(%s, 'b')", [message["id"]]),
        ("select * from public.live_stream_react(%s, '🔥')", [message["id"]]),
    ):
        assert state(request(world, world.viewer, ends(world, world.viewer, beside), sent, *args)) == ("42501" if refused else None), sent


@pytest.mark.parametrize(("beside", "refused"), SIDES)
def test_a_ban_ends_to_the_microsecond(world, beside, refused):
    session = world.session()
    message = world.say(session, world.influencer)
    ban(world.influencer, world.viewer, expires_at="2090-01-01")
    written = ends(world, world.viewer, beside)
    for sent, args in (
        (JOIN, [session["id"], world.viewer.user_id]),
        ("select * from public.live_stream_join(%s)", [session["id"]]),
        (SEND, [session["id"]]),
        ("select * from public.live_stream_flag_message(%s)", [message["id"]]),
    ):
        assert state(request(world, world.viewer, written, sent, *args)) == ("42501" if refused else None), sent
    # What is asked for a whole table.
    (row,) = request(world, world.viewer, written, "select live_stream.banning_influencer_ids()::text[] as ids")
    assert (world.influencer.influencer_id in (row["ids"] or [])) == refused
    world.set_session(session, visibility="unlisted")
    rows = request(world, world.viewer, written, "select * from public.live_stream_session_by_code(%s)", session["session_code"])
    assert (rows == []) == refused


@pytest.mark.parametrize(
    ("kind", "end", "refused"),
    [
        ("ban", "now()", True), ("ban", f"now() + {MICROSECOND}", False), ("ban", "now() + interval '3 years'", False), ("timeout", "now()", True),
        ("timeout", f"now() + {MICROSECOND}", False), ("timeout", "now() + interval '24 hours'", False),
        ("timeout", f"now() + interval '24 hours' + {MICROSECOND}", True),
    ],
)  # fmt: skip
def test_how_short_and_how_long_a_ban_may_be(world, kind, end, refused):
    sent = f"insert into public.live_stream_bans (influencer_id, user_id, kind, expires_at) values (%s, %s, %s, {end}) returning id"
    answer = request(world, world.influencer, "select 1", sent, world.influencer.influencer_id, world.viewer.user_id, kind)
    assert state(answer) == ("23514" if refused else None)


@pytest.mark.parametrize(("seconds", "refused"), [(0, True), (1, False), (86_400, False), (86_401, True), (-1, True)])
def test_how_many_seconds_a_timeout_may_have(world, seconds, refused):
    sent = "select * from public.live_stream_timeout(%s, %s)"
    assert state(request(world, world.influencer, "select 1", sent, world.viewer.user_id, seconds)) == ("23514" if refused else None)


# Invitations.

ACCEPT = "select * from public.live_stream_accept_invitation(%s)"


@pytest.mark.parametrize(("beside", "valid"), SIDES)
def test_an_invitation_ends_to_the_microsecond(world, beside, valid):
    session = world.session(visibility="private")
    link = invitation(world.influencer, session)
    written = f"update live_stream_invitations set expires_at = now() {beside} where id = '{link['invitation_id']}'"
    assert state(request(world, world.viewer, written, ACCEPT, link["token"])) == (None if valid else "PT404")


@pytest.mark.parametrize(("most", "used", "refused"), [(1, 0, False), (1, 1, True), (5, 4, False), (5, 5, True), (None, 10**6, False)])
def test_an_invitation_is_worth_its_uses(world, most, used, refused):
    link = invitation(world.influencer, world.session(visibility="private"), max_uses=most)
    written = f"update live_stream_invitations set uses = {used} where id = '{link['invitation_id']}'"
    assert state(request(world, world.viewer, written, ACCEPT, link["token"])) == ("PT404" if refused else None)


@pytest.mark.parametrize(("end", "refused"), [("now()", True), (f"now() - {MICROSECOND}", True), (f"now() + {MICROSECOND}", False)])
def test_an_invitation_is_for_a_time_to_come(world, end, refused):
    sent = f"select * from public.live_stream_create_invitation(%s, {end})"
    assert state(request(world, world.influencer, "select 1", sent, world.session()["id"])) == ("23514" if refused else None)


def test_an_invitation_is_for_seven_days_to_the_microsecond(world):
    sent = "select expires_at = now() + interval '7 days' as is_exact from public.live_stream_create_invitation(%s)"
    assert request(world, world.influencer, "select 1", sent, world.session()["id"]) == [{"is_exact": True}]


# Silence.


@pytest.mark.parametrize("heard", ["as it joined", "by a heartbeat"])
@pytest.mark.parametrize(("beside", "gone"), [(EARLY, False), (AT_THE_END, False), (LATE, True)])
def test_a_viewer_is_gone_after_its_silence_to_the_microsecond(world, heard, beside, gone):
    world.db.set(viewer_timeout="45s")
    session = world.session()
    viewer = world.join(session, world.viewer)
    moment = f"now() - interval '45 seconds' {beside}"
    if heard == "as it joined":
        written = f"update live_stream_viewers set joined_at = {moment}, watching_since = {moment} where id = '{viewer['id']}'"
    else:
        long_ago = "now() - interval '1 hour'"
        written = (
            f"update live_stream_viewers set joined_at = {long_ago}, watching_since = {long_ago} where id = '{viewer['id']}';"
            f"insert into live_stream_heartbeats (viewer_id, seen_at) values ('{viewer['id']}', {moment})"
            f" on conflict (viewer_id) do update set seen_at = excluded.seen_at"
        )
    request(world, "service_role", written, "select live_stream.expire_viewers()")
    (row,) = world.db.sql("select is_still_watching from live_stream_viewers where id = %s", [viewer["id"]])
    assert row["is_still_watching"] != gone


# What followers are told.


def told(world: World, who: Person, kind: str) -> int:
    return world.db.value("select count(*) from live_stream_notifications where user_id = %s and type = %s", [who.user_id, kind])


@pytest.mark.parametrize(("beside", "left"), [(EARLY, 0), (AT_THE_END, 1), (LATE, 1)])
def test_the_day_of_notifications_ends_to_the_microsecond(world, beside, left):
    world.db.set(notifications_per_day=2)
    world.viewer.api.rpc("live_stream_follow", influencer_id=world.influencer.influencer_id)
    session = world.session(live=False)
    written = (
        "insert into live_stream_notifications (user_id, influencer_id, type, title, created_at) values"
        f" ('{world.viewer.user_id}', '{world.influencer.influencer_id}', 'stream_ended', 'One', now() - interval '1 day' {beside}),"
        f" ('{world.viewer.user_id}', '{world.influencer.influencer_id}', 'stream_ended', 'Two', now())"
    )
    answer = request(world, world.influencer, written, "update public.live_stream_sessions set status = 'live' where id = %s returning id", session["id"])
    assert state(answer) is None
    assert told(world, world.viewer, "followed_influencer_live") == left


@own_db("sends all reminders that are due")
@pytest.mark.parametrize("lead", [15, 90])
def test_a_reminder_comes_its_minutes_before_the_show(world, lead):
    """Reminders go by the clock itself, so this is to the second: a second before its minutes it is not sent."""
    world.viewer.api.rpc("live_stream_follow", influencer_id=world.influencer.influencer_id, reminder_minutes=lead)
    session = world.session(live=False, scheduled_start_time="2030-01-07T15:00:00Z")

    def told_when(starts_in: str, due_in: str) -> int:
        starts_at = f"clock_timestamp() + make_interval(mins => {lead}) + interval '{starts_in}'"
        written = (
            f"update live_stream_sessions set scheduled_start_time = {starts_at} where id = '{session['id']}';"
            f"update live_stream_reminders set starts_at = {starts_at}, due_at = clock_timestamp() + interval '{due_in}' where session_id = '{session['id']}'"
        )
        assert state(request(world, "service_role", written, "select live_stream.send_reminders()")) is None
        return told(world, world.viewer, "stream_reminder")

    assert told_when("1 second", "0") == 0
    (row,) = world.db.sql(
        "select s.scheduled_start_time - r.due_at = make_interval(mins => %s) as is_exact"
        " from live_stream_reminders r join live_stream_sessions s on s.id = r.session_id where s.id = %s",
        [lead, session["id"]],
    )
    assert row["is_exact"]
    assert told_when("0", "1 second") == 0
    assert told_when("0", "0") == 1


@pytest.mark.parametrize(("minutes", "refused"), [(-1, True), (0, False), (10_080, False), (10_081, True)])
def test_how_long_before_somebody_may_be_reminded(world, minutes, refused):
    sent = "select * from public.live_stream_follow(%s, %s)"
    assert state(request(world, world.viewer, "select 1", sent, world.influencer.influencer_id, minutes)) == ("23514" if refused else None)


# Plans.


@own_db("makes the sessions of all schedules")
@pytest.mark.parametrize(("beside", "made"), [("- interval '1 second'", 0), ("+ interval '1 second'", 1)])
def test_sessions_are_made_up_to_the_horizon(world, beside, made):
    moment = datetime.now(timezone.utc) + timedelta(days=3)
    schedule = world.schedule(scheduled_date=f"{moment:%Y-%m-%d}", scheduled_start_time=f"{moment:%H:%M:%S}", scheduled_end_time=None)
    (row,) = world.db.sql(
        "select live_stream.materialize_occurrences((scheduled_date + scheduled_start_time) at time zone 'UTC' - now()"
        f" {beside}) as made from live_stream_schedule where id = %s",
        [schedule["id"]],
    )
    assert row["made"] == made


@pytest.mark.parametrize(("beside", "refused"), [(EARLY, True), (AT_THE_END, False), (LATE, False)])
def test_a_planned_session_counts_for_a_day_to_the_microsecond(world, beside, refused):
    world.db.set(planned_sessions_per_influencer=1)
    session = world.session(live=False)
    written = f"update live_stream_sessions set created_at = now() - interval '1 day' {beside}, scheduled_start_time = null where id = '{session['id']}'"
    sent = "insert into public.live_stream_sessions (influencer_id, title) values (%s, 'Another') returning id"
    assert state(request(world, world.influencer, written, sent, world.influencer.influencer_id)) == ("23514" if refused else None)


# Retention.


@own_db("purges")
@pytest.mark.parametrize(("beside", "gone"), [(EARLY, False), (AT_THE_END, True), (LATE, True)])
def test_what_is_kept_is_kept_for_its_age_to_the_microsecond(world, beside, gone):
    session = world.session()
    world.say(session, world.viewer)
    world.end(session)
    written = f"update live_stream_sessions set actual_start_time = now() - interval '9 days', actual_end_time = now() - interval '7 days' {beside} where id = '{session['id']}'"
    answer = request(world, "service_role", written, "select * from live_stream.purge(chat => '7 days')")
    assert state(answer) is None
    assert world.db.value("select count(*) from live_stream_chat where session_id = %s", [session["id"]]) == (0 if gone else 1)
