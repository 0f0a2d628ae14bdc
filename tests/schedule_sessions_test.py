"""From occurrences to sessions, and the calendar of all schedules."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

import pytest

from people import at_once, people
from refusals import refused
from scheduling import NOBODY, at
from sizes import own_db

NOW = datetime.now(timezone.utc).replace(microsecond=0, second=0)


def soon(world, title="Show", days=1, **columns):
    """A daily schedule whose first occurrence is a day from now."""
    first = NOW + timedelta(days=days)
    columns = {"is_recurring": True, "recurrence_pattern": "daily", "scheduled_end_time": None} | columns
    return world.schedule(
        title, scheduled_date=f"{first:%Y-%m-%d}", scheduled_start_time=f"{first:%H:%M}", **columns
    )  # fmt: skip


def original(row, day=0):
    return (at(f"{row['scheduled_date']}T{row['scheduled_start_time']}Z") + timedelta(days=day)).isoformat()


def materialize(world, horizon="3 days"):
    return world.db.owner("select live_stream.materialize_occurrences(%s::interval) as made", [horizon])[0]["made"]


def sessions(world, api=None):
    return (api or world.influencer.api).select("live_stream_sessions", order="scheduled_start_time")


def schedule_of(world, row):
    return world.influencer.api.select("live_stream_schedule", where={"id": row["id"]}, one=True)


# Sessions.


def test_each_coming_occurrence_gets_its_session_once(world):
    products = [world.new_product() for _ in range(2)]
    row = soon(world, description="All about it", products_to_showcase=[products[1], products[0], products[1]])
    world.schedule("Cancelled", scheduled_date=f"{NOW + timedelta(days=1):%Y-%m-%d}", status="cancelled")
    world.schedule("Over", scheduled_date="2020-01-01")
    world.schedule("Far", scheduled_date="2099-01-01")
    assert materialize(world, "2 days 1 hour") == 2
    assert materialize(world, "2 days 1 hour") == 0
    made = sessions(world, world.anon)
    assert [(one["title"], one["status"], at(one["scheduled_start_time"])) for one in made] == [
        ("Show", "scheduled", at(original(row, day))) for day in (0, 1)
    ]
    first = made[0]
    assert first["session_code"] and first["description"] == "All about it" and first["visibility"] == "public"
    assert at(first["scheduled_end_time"]) - at(first["scheduled_start_time"]) == timedelta(hours=1)
    shown = world.anon.select("live_stream_products", where={"session_id": first["id"]}, order="display_order")
    assert [one["product_id"] for one in shown] == [products[1], products[0]]
    assert schedule_of(world, row)["created_session_id"] == first["id"]
    links = world.anon.select("live_stream_schedule_sessions", where={"schedule_id": row["id"]}, order="starts_at")
    assert [link["session_id"] for link in links] == [one["id"] for one in made]
    assert materialize(world) == 1


@own_db("counts or changes all that is there")
def test_a_product_that_is_gone_stops_nothing(supabase_db):
    world = people(supabase_db)
    known = world.new_product()
    soon(world, products_to_showcase=[NOBODY, known])
    assert materialize(world, "25 hours") == 1
    assert [one["product_id"] for one in world.anon.select("live_stream_products")] == [known]


@own_db("counts or changes all that is there")
def test_from_several_connections_at_once(plain_db):
    world = people(plain_db)
    for n in range(20):
        soon(world, f"Show {n}")
    connections = [plain_db.connect("app_owner") for _ in range(6)]
    call = "select live_stream.materialize_occurrences('3 days') as made"
    made = at_once(*(lambda c=connection: c.execute(call).fetchone()["made"] for connection in connections))
    for connection in connections:
        connection.close()
    assert sorted(made) == [0] * 5 + [60], made
    assert len(sessions(world)) == 60


@own_db("counts or changes all that is there")
def test_a_session_follows_its_occurrence(world):
    row = soon(world)
    materialize(world)
    first, second, third = sessions(world)
    owner = world.influencer.api
    later = at(original(row)) + timedelta(hours=3)
    owner.rpc("live_stream_move_occurrence", schedule_id=row["id"], original_starts_at=original(row), starts_at=later.isoformat(), title="Late")
    moved = world.read(first)
    assert (at(moved["scheduled_start_time"]), moved["title"]) == (later, "Late")
    assert at(moved["scheduled_end_time"]) == later + timedelta(hours=1)
    owner.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at=original(row, 1))
    assert world.read(second)["status"] == "cancelled"
    # What takes place again after all gets another session: a cancelled one stays so.
    owner.rpc("live_stream_restore_occurrence", schedule_id=row["id"], original_starts_at=original(row, 1))
    assert materialize(world) == 1
    # What the host has changed by hand stays, unless the occurrence changes.
    world.set_session(third, title="By hand")
    owner.update("live_stream_schedule", {"expected_duration_minutes": 30}, where={"id": row["id"]})
    changed = world.read(third)
    assert changed["title"] == "By hand"
    assert at(changed["scheduled_end_time"]) - at(changed["scheduled_start_time"]) == timedelta(minutes=30)
    # A stream that has begun is not called off.
    world.start(first)
    owner.rpc("live_stream_schedule_cancel", schedule_id=row["id"])
    assert [one["status"] for one in map(world.read, (first, third))] == ["live", "cancelled"]


@own_db("counts or changes all that is there")
def test_another_rule_moves_the_sessions(world):
    """The n-th is still the n-th; those that the rule has no more are called off."""
    row = soon(world)
    materialize(world)
    rule = "FREQ=DAILY;INTERVAL=2"
    world.influencer.api.update("live_stream_schedule", {"recurrence_rule": rule}, where={"id": row["id"]})
    assert [at(one["scheduled_start_time"]) for one in sessions(world)] == [at(original(row, day)) for day in (0, 2, 4)]
    assert [one["status"] for one in sessions(world)] == ["scheduled"] * 3
    world.influencer.api.update("live_stream_schedule", {"recurrence_rule": f"{rule};COUNT=2"}, where={"id": row["id"]})
    assert [one["status"] for one in sessions(world)] == ["scheduled", "scheduled", "cancelled"]
    world.db.owner("delete from public.live_stream_schedule where id = %s", [row["id"]])
    assert [one["status"] for one in sessions(world)] == ["cancelled"] * 3


@own_db("counts or changes all that is there")
def test_a_session_that_the_host_has_deleted_does_not_come_back(world):
    row = soon(world)
    materialize(world, "25 hours")
    (session,) = sessions(world)
    world.influencer.api.delete("live_stream_sessions", where={"id": session["id"]})
    assert materialize(world, "25 hours") == 0
    assert schedule_of(world, row)["created_session_id"] is None


@own_db("counts or changes all that is there")
def test_the_next_session_is_named(world):
    row = soon(world)
    materialize(world)
    first, second, _ = sessions(world)
    world.start(first)
    materialize(world)
    assert schedule_of(world, row)["created_session_id"] == first["id"]
    world.end(first)
    materialize(world)
    assert schedule_of(world, row)["created_session_id"] == second["id"]


@own_db("counts or changes all that is there")
def test_a_split_takes_its_sessions_along(world):
    row = soon(world)
    materialize(world)
    owner = world.influencer.api
    later = owner.rpc("live_stream_schedule_split", schedule_id=row["id"], original_starts_at=original(row, 1))
    assert materialize(world) == 0
    assert {one["status"] for one in sessions(world)} == {"scheduled"}
    owner.rpc("live_stream_schedule_cancel", schedule_id=later["id"])
    assert [one["status"] for one in sessions(world)] == ["scheduled", "cancelled", "cancelled"]


@own_db("counts or changes all that is there")
@pytest.mark.parametrize("visibility", ["private", "unlisted"])
def test_sessions_are_as_visible_as_their_schedule(world, visibility):
    row = soon(world, visibility=visibility)
    materialize(world, "25 hours")
    (session,) = sessions(world)
    assert session["visibility"] == visibility
    assert schedule_of(world, row)["created_session_id"] == session["id"]
    assert sessions(world, world.anon) == world.anon.select("live_stream_schedule") == []
    assert world.anon.select("live_stream_schedule_sessions") == []
    # Made public, it takes its sessions along.
    world.influencer.api.update("live_stream_schedule", {"visibility": "public"}, where={"id": row["id"]})
    assert world.anon.select("live_stream_sessions", "id") == [{"id": session["id"]}]
    assert schedule_of(world, row)["created_session_id"] == session["id"]


@own_db("counts or changes all that is there")
def test_a_schedule_that_is_hidden_hides_its_sessions(world):
    """They do not stay public behind its back, and nobody is told of them."""
    row = soon(world)
    materialize(world)
    live, by_hand, third = sessions(world)
    world.set_session(by_hand, visibility="unlisted")
    world.start(live)
    api = world.influencer.api
    change = lambda visibility: api.update("live_stream_schedule", {"visibility": visibility}, where={"id": row["id"]})  # noqa: E731
    change("private")
    assert [one["visibility"] for one in sessions(world)] == ["public", "unlisted", "private"], "what is on air is the host's to hide"
    assert [one["id"] for one in sessions(world, world.anon)] == [live["id"]]
    change("public")
    assert [one["visibility"] for one in sessions(world)] == ["public", "unlisted", "public"]
    assert schedule_of(world, row)["created_session_id"] == live["id"]
    world.end(live)
    change("unlisted")
    assert sessions(world, world.anon)[0]["id"] == live["id"] and len(sessions(world, world.anon)) == 1


@own_db("counts or changes all that is there")
def test_nothing_of_hidden_schedules_leaks(world):
    """By no view, table or function, to nobody but the owner; not even as a clash with what is public."""
    hidden = [soon(world, f"secret {kind}", visibility=kind, description="secret") for kind in ("private", "unlisted")]
    shown = soon(world, "Shown", expected_duration_minutes=90)
    for row in hidden:
        api = world.influencer.api
        api.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at=original(row, 1))
        api.rpc("live_stream_move_occurrence", schedule_id=row["id"], original_starts_at=original(row, 2), title="secret")
    for person in (world.viewer, world.new_influencer()):
        person.api.rpc("live_stream_follow", influencer_id=world.influencer.influencer_id, reminder_minutes=10_080)
    world.db.owner("select live_stream.run_schedules()")
    window = {"range_start": NOW.isoformat(), "range_end": (NOW + timedelta(days=9)).isoformat()}
    made = {one["id"] for one in sessions(world) if one["visibility"] != "public"}
    assert len(made) > 10
    secrets = {*(row["id"] for row in hidden), *made, "secret"}
    others = [world.anon, world.viewer.api, world.stranger.api, world.new_influencer().api]
    for api in others:
        answers = [api.select(name) for name in ("live_stream_schedule", "upcoming_streams", "live_stream_schedule_exceptions",
                   "live_stream_schedule_sessions", "live_stream_sessions", "live_sessions_with_details", "live_stream_products")]  # fmt: skip
        answers += [api.rpc("live_stream_upcoming"), api.rpc("live_stream_calendar", **window, max_rows=1000)]
        answers += [api.rpc("live_stream_calendar_feed", influencer_id=world.influencer.influencer_id)]
        if api is not world.anon:
            answers += [api.select("live_stream_notifications"), api.select("live_stream_followers")]
        assert not [secret for secret in secrets if secret in str(answers)]
        assert {one["clashes"] for one in answers[8]} == {False} and shown["id"] in str(answers[8])
        for row in hidden:
            with refused("PT404", "does not exist"):
                api.rpc("live_stream_occurrences", schedule_id=row["id"], **window)
            for function in ("skip_occurrence", "restore_occurrence", "schedule_split"):
                if api is not world.anon:
                    with refused("PT404", "does not exist"):
                        api.rpc(f"live_stream_{function}", schedule_id=row["id"], original_starts_at=original(row))
    assert True in {one["clashes"] for one in world.influencer.api.rpc("live_stream_calendar", **window)}
    assert len(world.viewer.api.select("live_stream_notifications")) > 0, "of the public ones it was told"


@own_db("counts or changes all that is there")
def test_a_public_schedule_names_no_hidden_session(world):
    """Its id would be the key to an unlisted one."""
    unlisted = world.session(live=False, visibility="unlisted")
    with refused("23514", "is unlisted and the schedule is public", hint=True):
        world.schedule(created_session_id=unlisted["id"])
    row = soon(world)
    materialize(world, "25 hours")
    (session,) = [one for one in sessions(world) if one["id"] != unlisted["id"]]
    world.set_session(session, visibility="unlisted")
    assert schedule_of(world, row)["created_session_id"] is None
    materialize(world, "25 hours")
    assert schedule_of(world, row)["created_session_id"] is None
    assert world.anon.select("live_stream_schedule_sessions") == []
    assert session["id"] not in str(world.anon.select("upcoming_streams"))


def test_horizons_without_sense_are_refused(plain_db):
    world = people(plain_db)
    for horizon in (None, "-1 day", "2 years"):
        with pytest.raises(Exception, match="horizon is no time from now on"):
            materialize(world, horizon)
    for api in (world.anon, world.influencer.api):
        with pytest.raises(Exception, match="permission denied"):
            with plain_db.connect() as connection:
                connection.execute(f"set role {api.role}")
                connection.execute("select live_stream.materialize_occurrences()")


def test_a_schedule_for_every_second_does_not_flood(plain_db):
    world = people(plain_db)
    soon(world, recurrence_rule="FREQ=SECONDLY", expected_duration_minutes=1)
    assert materialize(world) == 200


# The calendar.


def calendar(world, start="2030-01-01T00:00Z", end="2030-02-01T00:00Z", api=None, **args):
    return (api or world.anon).rpc("live_stream_calendar", range_start=start, range_end=end, **args)


@own_db("counts or changes all that is there")
def test_all_schedules_in_order(world):
    other = world.new_influencer("Grace")
    weekly = {"is_recurring": True, "recurrence_pattern": "weekly"}
    row = world.schedule("Weekly", **weekly)
    once = world.schedule("Once", by=other, scheduled_date="2030-01-14")
    world.schedule("Hidden", visibility="private")
    world.schedule("Off", status="cancelled")
    world.influencer.api.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at="2030-01-21T15:00Z")
    found = calendar(world)
    assert [(one["title"], one["starts_at"][:10]) for one in found if one["title"] == "Weekly"] == [
        ("Weekly", f"2030-01-{day}") for day in ("07", "14", "28")
    ]
    keys = [(one["starts_at"], one["schedule_id"]) for one in found]
    assert keys == sorted(keys) and len(found) == 4
    assert {one["influencer"] for one in found} == {world.influencer.influencer_id, other.influencer_id}
    assert [one["schedule_id"] for one in calendar(world, influencer_id=other.influencer_id)] == [once["id"]]
    assert len(calendar(world, api=world.influencer.api)) == 5


@own_db("counts or changes all that is there")
def test_pages_of_the_calendar_are_the_whole(world):
    for n in range(5):
        world.schedule(f"Show {n}", is_recurring=True, recurrence_pattern="daily", scheduled_start_time=f"1{n % 2}:00")
    whole = calendar(world, max_rows=1000)
    assert len(whole) == 125
    pages, last = [], {}
    while page := calendar(world, max_rows=7, **last):
        pages += page
        last = {"after_starts_at": page[-1]["starts_at"], "after_schedule_id": page[-1]["schedule_id"]}
    assert pages == whole
    assert [len(calendar(world, max_rows=count)) for count in (-1, 0, None)] == [0, 0, 100]


@own_db("counts or changes all that is there")
def test_clashes_are_told(world):
    def show(title, start, end, **columns):
        return world.schedule(title, scheduled_start_time=start, scheduled_end_time=end, **columns)

    show("long", "10:00", "14:00")
    show("within", "11:00", "12:00")
    show("at its end", "14:00", "15:00")
    show("another's", "11:00", "12:00", by=world.new_influencer())
    show("daily", "14:30", "14:45", is_recurring=True, recurrence_pattern="daily")
    found = calendar(world, "2030-01-07T00:00Z", "2030-01-09T00:00Z")
    assert [(one["title"], one["clashes"]) for one in found] == [
        ("long", True), ("within", True), ("another's", False), ("at its end", True), ("daily", True), ("daily", False),
    ] or [(one["title"], one["clashes"]) for one in found] == [
        ("long", True), ("another's", False), ("within", True), ("at its end", True), ("daily", True), ("daily", False),
    ]  # fmt: skip
    # A clash with what is outside the window is one too.
    (one,) = calendar(world, "2030-01-07T13:00Z", "2030-01-07T14:00Z")
    assert one["clashes"] is True


@own_db("counts or changes all that is there")
def test_clashes_are_those_of_all_that_is_there(plain_db):
    """Random shows of three influencers, some of them long, against every pair looked at; from any moment and on any page."""
    world = people(plain_db)
    chosen = random.Random(17)
    hosts = [world.influencer, world.new_influencer(), world.new_influencer()]
    rules = ["FREQ=DAILY;INTERVAL=3", "FREQ=WEEKLY;BYDAY=MO,TH", "FREQ=MONTHLY", "FREQ=DAILY;BYHOUR=3,15;INTERVAL=4", None, None]
    for n in range(40):
        minutes = chosen.choice([30, 90, 300, 600, 2000])
        world.schedule(
            f"Show {n}", by=chosen.choice(hosts), scheduled_date=f"2030-01-{chosen.randint(1, 28):02}", scheduled_end_time=None,
            scheduled_start_time=f"{chosen.randint(0, 23):02}:00", expected_duration_minutes=minutes, recurrence_rule=chosen.choice(rules),
        )  # fmt: skip
    whole = calendar(world, "2029-01-01T00:00Z", "2030-05-01T00:00Z", max_rows=1000)
    assert 300 < len(whole) < 1000 and 100 < sum(one["clashes"] for one in whole) < len(whole) - 100
    spans = [(at(one["starts_at"]), at(one["ends_at"]), one["influencer"]) for one in whole]
    for one, (start, end, influencer) in zip(whole, spans):
        if start < at("2030-04-01T00:00Z"):
            overlapping = [other for other in spans if other[2] == influencer and other[0] < end and other[1] > start]
            assert one["clashes"] is (len(overlapping) > 1), one
    for _ in range(100):
        start = at("2030-01-01T00:00Z") + timedelta(hours=chosen.randrange(24 * 80))
        end = start + timedelta(hours=chosen.randrange(1, 200))
        expected = [one for one, span in zip(whole, spans) if span[1] > start and span[0] < end]
        assert calendar(world, start.isoformat(), end.isoformat(), max_rows=1000) == expected
        pages, last = [], {}
        while page := calendar(world, start.isoformat(), end.isoformat(), max_rows=3, **last):
            pages += page
            last = {"after_starts_at": page[-1]["starts_at"], "after_schedule_id": page[-1]["schedule_id"]}
        assert pages == expected


def test_calendar_ranges_without_sense_are_refused(world):
    for start, end in [(None, "2030-01-01Z"), ("2030-01-01Z", "infinity"), ("2030-01-02Z", "2030-01-01Z")]:
        with refused("22023", "range", hint=True):
            calendar(world, start, end)
    assert calendar(world, "2030-01-01T00:00Z", "2030-01-01T00:00Z") == []
