"""The calendar as a link: what PostgREST answers programs, browsers and caches with, and what an event says of its show."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone

import icalendar
import pytest

from calendars import TODAY, feed, feed_text, take
from media_types import accepted, fetch
from sizes import own_db

FEED = "live_stream_calendar_feed"
ACCEPTS = [
    None,
    "*/*",
    "text/calendar",
    "text/calendar, text/plain;q=0.5",
    "application/json",
    "application/json, text/plain, */*",
    "text/html",
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7",
    "text/csv",
    "image/png",
    "unknown/thing;q=0.1",
]


def test_the_negotiation_is_that_of_postgrest():
    assert accepted("a/b;q=0.5, */*, c/d, e/*") == ["c/d", "e/*", "*/*", "a/b"]
    assert accepted(None) == ["*/*"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("accept", ACCEPTS)
def test_whatever_is_asked_for_a_calendar_is_sent(world, accept, method):
    world.schedule("Show")
    answer = fetch(world.anon, FEED, accept, method, influencer_id=world.influencer.influencer_id)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert answer.headers["content-disposition"] == 'inline; filename="calendar.ics"'
    assert answer.body == ("" if method == "HEAD" else feed_text(world))
    assert method == "HEAD" or answer.body.startswith("BEGIN:VCALENDAR\r\n") and "SUMMARY:Show" in answer.body


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("accept", ACCEPTS)
def test_nobody_has_no_calendar(world, accept, method):
    for who in (world.anon, world.influencer.api, world.service):
        for nobody in ("00000000-0000-4000-8000-000000000000",):
            answer = fetch(who, FEED, accept, method, influencer_id=nobody)
            assert answer.status == 404 and answer.headers["content-type"].startswith("application/json")
            assert json.loads(answer.body)["message"] == f"influencer {nobody} does not exist" and "cache-control" not in answer.headers
    assert fetch(world.anon, FEED, accept, method, influencer_id="nonsense").status == 400
    # Somebody with nothing to show has an empty one.
    answer = fetch(world.anon, FEED, accept, influencer_id=world.new_influencer().influencer_id)
    assert answer.status == 200 and "VEVENT" not in answer.body


def test_no_other_function_sends_what_is_not_json(world):
    """Each that returns a domain named like a media type sends it to whoever asks for anything."""
    assert world.db.sql(
        "select p.proname, t.typname, t.typbasetype::regtype::text as base, n.nspname from pg_proc p"
        " join pg_type t on t.oid = p.prorettype join pg_namespace n on n.oid = t.typnamespace"
        " where t.typtype = 'd' and t.typname ~ '/' and p.pronamespace = 'public'::regnamespace"
    ) == [{"proname": FEED, "typname": "*/*", "base": "text", "nspname": "live_stream"}]
    assert not world.db.sql(
        "select p.proname from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname ~ '^live_stream_'"
        " and p.prorettype in ('text'::regtype, 'xml'::regtype, 'bytea'::regtype)"
    )


@own_db("the app sets headers for all requests")
def test_headers_of_the_app_are_left_alone(world):
    api, of = world.anon, {"influencer_id": world.influencer.influencer_id}
    set_first = "create function public.with_headers(influencer_id uuid) returns live_stream.\"*/*\" language plpgsql volatile as $$ begin"
    world.db.owner(f"""{set_first} perform set_config('response.headers', '[{{"Set-Cookie": "a=1"}}, {{"cache-control": "no-store"}}, {{"content-type": "x/y"}}]', true);
        return public.live_stream_calendar_feed(influencer_id); end $$""")
    headers = fetch(api, "with_headers", **of).headers
    assert headers == {
        "content-type": "text/calendar; charset=utf-8", "set-cookie": "a=1", "cache-control": "no-store",
        "content-disposition": 'inline; filename="calendar.ics"',
    }  # fmt: skip


def test_a_statement_that_is_no_request_leaves_no_headers(world):
    with world.db.connect() as connection:
        connection.autocommit = False
        text = connection.execute("select public.live_stream_calendar_feed(%s) as t", [world.influencer.influencer_id]).fetchone()["t"]
        assert text.startswith("BEGIN:VCALENDAR")
        assert connection.execute("select current_setting('response.headers', true) as h").fetchone()["h"] in (None, "")


def test_a_calendar_with_what_others_do_not_see_is_kept_by_nobody_else(world):
    world.schedule("Private", visibility="private")
    of = {"influencer_id": world.influencer.influencer_id}
    assert fetch(world.influencer.api, FEED, **of).headers["cache-control"] == "private, max-age=300"
    assert fetch(world.anon, FEED, **of).headers["cache-control"] == "public, max-age=300"


def sequence(world):
    (event,) = {(event["SEQUENCE"], event["LAST-MODIFIED"].dt, event["DTSTAMP"].dt) for event in feed(world).walk("VEVENT")}
    assert event[1].tzinfo and event[1] == event[2]
    return event[0]


def test_the_sequence_grows_with_each_change(world):
    api = world.influencer.api
    row = world.schedule(recurrence_rule="FREQ=DAILY", sequence=99)
    of = {"schedule_id": row["id"], "original_starts_at": "2030-01-08T15:00Z"}
    changes = [
        lambda: api.update("live_stream_schedule", {"title": "Other"}, where={"id": row["id"]}),
        lambda: api.update("live_stream_schedule", {"scheduled_start_time": "15:00:00", "sequence": 0}, where={"id": row["id"]}),
        lambda: api.rpc("live_stream_skip_occurrence", **of),
        lambda: api.rpc("live_stream_restore_occurrence", **of),
        lambda: api.rpc("live_stream_move_occurrence", **of, starts_at="2030-01-08T17:00Z"),
        lambda: api.rpc("live_stream_move_occurrence", **of, starts_at="2030-01-08T18:00Z"),
        lambda: api.update("live_stream_schedule", {"description": "x"}, where={"id": row["id"]}),
    ]
    seen = [sequence(world)]
    for change in changes:
        change()
        seen.append(sequence(world))
    assert seen[0] == 0 and seen == sorted(set(seen))


TEMPLATES = {
    "https://shop.example/shows/{schedule_id}?by={influencer_id}": "https://shop.example/shows/{schedule}?by={influencer}",
    " https://shop.example/up next/ü ": "https://shop.example/up%20next/%C3%BC",
    "": None,
    "https://shop.example/{schedule_id}\nX-EVIL:1": "https://shop.example/{schedule}%0AX-EVIL:1",
}


@own_db("alters the database's settings")
@pytest.mark.parametrize("template", TEMPLATES)
def test_an_event_has_the_address_of_its_show(world, template):
    row = world.schedule(recurrence_rule="FREQ=DAILY")
    of = {"schedule_id": row["id"], "original_starts_at": "2030-01-08T15:00Z"}
    world.influencer.api.rpc("live_stream_move_occurrence", **of, starts_at="2030-01-08T17:00Z")
    world.db.set(show_url=template)
    url = TEMPLATES[template]
    expected = url and url.replace("{schedule}", row["id"]).replace("{influencer}", world.influencer.influencer_id)
    events = feed(world).walk("VEVENT")
    assert len(events) == 2 and {event.get("URL") for event in events} == {expected}
    assert "X-EVIL" not in events[0]


@own_db("alters the database's settings")
def test_each_occurrence_has_the_code_of_its_own_session(world):
    """Never one of a session that is not public, whoever asks."""
    world.db.set(show_url="https://shop.example/live/{session_code}")
    base = {"scheduled_date": f"{TODAY + timedelta(1):%Y-%m-%d}", "timezone": "Europe/Berlin"}
    world.schedule("Daily", recurrence_rule="FREQ=DAILY", **base)
    once = world.schedule("Once", **base)
    world.schedule("Far", scheduled_date=f"{TODAY + timedelta(60):%Y-%m-%d}")
    hidden = [world.schedule(kind, visibility=kind, recurrence_rule="FREQ=DAILY", **base) for kind in ("private", "unlisted")]
    world.db.owner("select live_stream.materialize_occurrences('8 days')")
    sessions = world.db.sql(
        "select o.schedule_id::text, o.starts_at, s.id::text, s.session_code, s.visibility::text from public.live_stream_schedule_sessions o"
        " join public.live_stream_sessions s on s.id = o.session_id"
    )
    codes = {one["session_code"] for one in sessions if one["visibility"] != "public"}
    assert len(codes) > 10
    changed, gone = [one for one in sessions if one["visibility"] == "public" and one["schedule_id"] != once["id"]][:2]
    world.influencer.api.update("live_stream_sessions", {"visibility": "unlisted"}, where={"id": changed["id"]})
    world.influencer.api.update("live_stream_sessions", {"status": "cancelled"}, where={"id": gone["id"]})
    expected = {
        (one["starts_at"], f"https://shop.example/live/{one['session_code']}")
        for one in sessions
        if one["visibility"] == "public" and one["id"] not in (changed["id"], gone["id"])
    }
    for who in (world.anon, world.influencer.api, world.service):
        text = feed_text(world, who)
        events = icalendar.Calendar.from_ical(text).walk("VEVENT")
        told = {(event["DTSTART"].dt.astimezone(timezone.utc), event["URL"]) for event in events if "URL" in event}
        # In the afternoon the eighth day is within eight days.
        assert told == expected and len(told) in (6, 7)
        assert not any(code in text.replace("\r\n ", "") for code in codes | {changed["session_code"], gone["session_code"]})
    names = {event["SUMMARY"] for event in feed(world).walk("VEVENT") if "URL" not in event}
    assert names == {"Daily", "Far"}
    # And the calendar is the same one when it comes back, but for the addresses.
    assert {one["not_taken"] is None or "left out: URL" in one["not_taken"] for one in take(world, feed_text(world))} == {True}
    assert hidden and re.search(r"[0-9A-Z]{4}-", changed["session_code"])
    assert datetime.now(timezone.utc) < max(one["starts_at"] for one in sessions)


@own_db("alters the database's settings")
def test_an_address_has_two_thousand_bytes_at_most(world):
    world.schedule()
    for length, is_given in ((2000, True), (2001, False)):
        url = "https://shop.example/".ljust(length, "x")
        world.db.set(show_url=url)
        (event,) = feed(world).walk("VEVENT")
        assert event.get("URL") == (url if is_given else None)


@own_db("alters the database's settings")
def test_an_occurrence_with_an_address_is_told_once(world):
    """Also one that was moved, and one that is shorter or longer as the clocks change."""
    world.db.set(show_url="https://shop.example/live/{session_code}")
    row = world.schedule(scheduled_date=f"{TODAY + timedelta(1):%Y-%m-%d}", scheduled_start_time="01:30", scheduled_end_time="03:30",
                         timezone="Europe/Berlin", recurrence_rule="FREQ=WEEKLY;BYDAY=SU")  # fmt: skip
    world.db.owner("select live_stream.materialize_occurrences('360 days')")
    made = "select original_starts_at as original, ends_at - starts_at as length from public.live_stream_schedule_sessions order by 1"
    sessions = world.db.sql(made)
    assert {one["length"] for one in sessions} == {timedelta(hours=hours) for hours in (1, 2, 3)}
    moved = sessions[1]["original"]
    world.influencer.api.rpc("live_stream_move_occurrence", schedule_id=row["id"], original_starts_at=str(moved), starts_at=str(moved + timedelta(hours=5)))
    told = [event["RECURRENCE-ID"].dt.astimezone(timezone.utc) for event in feed(world).walk("VEVENT") if "RECURRENCE-ID" in event]
    assert sorted(told) == [one["original"] for one in sessions]
