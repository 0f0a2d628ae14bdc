"""The rule of a schedule and its simple fields, and what is different about single occurrences."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import pytest

from people import people
from refusals import refused
from scheduling import NOBODY, at, occurrences
from sizes import own_db

WEEKLY = {"scheduled_date": "2030-01-07", "is_recurring": True, "recurrence_pattern": "weekly"}  # a Monday
RULE_FIELDS = ("is_recurring", "recurrence_pattern", "days_of_week", "recurrence_end_date", "recurrence_rule")


def listed(world, schedule, start="2030-01-01T00:00Z", end="2030-02-01T00:00Z"):
    return occurrences(world, schedule, start, end)


def days(world, schedule, **range):
    return [one["starts_at"][5:10] for one in listed(world, schedule, **range) if one["status"] != "cancelled"]


def change(world, row, **columns):
    return world.influencer.api.update("live_stream_schedule", columns, where={"id": row["id"]}, one=True)


def exceptions(world, row):
    rows = world.anon.select("live_stream_schedule_exceptions", where={"schedule_id": row["id"]}, order="original_starts_at")
    return [(one["original_starts_at"][5:16], one["kind"], one["fits"]) for one in rows]


def said(row):
    return tuple(row[name] for name in RULE_FIELDS)


# The rule and the simple fields.


@pytest.mark.parametrize(
    "sent, expected",
    [
        ({}, (False, None, None, None, None)),
        ({"recurrence_pattern": "daily"}, (False, "daily", None, None, None)),
        ({"is_recurring": True, "recurrence_pattern": "daily"}, (True, "daily", None, None, "FREQ=DAILY")),
        (
            {"is_recurring": True, "recurrence_pattern": "weekly", "days_of_week": [5, 1], "recurrence_end_date": "2030-06-30"},
            (True, "weekly", [1, 5], "2030-06-30", "FREQ=WEEKLY;UNTIL=20300630T235959;BYDAY=MO,FR"),
        ),
        ({"is_recurring": True, "recurrence_pattern": "monthly"}, (True, "monthly", None, None, "FREQ=MONTHLY")),
        ({"recurrence_rule": "rrule:byday=FR,MO;freq=weekly"}, (True, "weekly", [1, 5], None, "FREQ=WEEKLY;BYDAY=MO,FR")),
        ({"recurrence_rule": "FREQ=DAILY;UNTIL=20300131"}, (True, "daily", None, "2030-01-31", "FREQ=DAILY;UNTIL=20300131T235959")),
        ({"recurrence_rule": "FREQ=MONTHLY;BYMONTHDAY=7"}, (True, "monthly", None, None, "FREQ=MONTHLY;BYMONTHDAY=7")),
        ({"recurrence_rule": "FREQ=MONTHLY;BYDAY=1MO"}, (True, "custom", None, None, "FREQ=MONTHLY;BYDAY=1MO")),
        (
            {"recurrence_rule": "FREQ=YEARLY;COUNT=3", "recurrence_pattern": "daily", "days_of_week": [1]},
            (True, "custom", None, None, "FREQ=YEARLY;COUNT=3"),
        ),
    ],
)
def test_the_rule_and_the_fields_say_the_same(plain_db, sent, expected):
    assert said(people(plain_db).schedule(scheduled_date="2030-01-07", **sent)) == expected


def test_what_is_written_last_counts(world):
    row = world.schedule(**WEEKLY, days_of_week=[1])
    row = change(world, row, recurrence_rule="FREQ=MONTHLY;BYDAY=-1SU;COUNT=4")
    assert said(row) == (True, "custom", None, None, "FREQ=MONTHLY;COUNT=4;BYDAY=-1SU")
    assert said(change(world, row, title="Other")) == said(row)
    row = change(world, row, recurrence_end_date="2030-12-31")
    assert said(row) == (True, "custom", None, "2030-12-31", "FREQ=MONTHLY;UNTIL=20301231T235959;BYDAY=-1SU")
    with refused("23514", "days_of_week of a custom schedule cannot be changed", hint=True):
        change(world, row, days_of_week=[1])
    row = change(world, row, recurrence_pattern="weekly", days_of_week=[2], recurrence_end_date=None)
    assert said(row) == (True, "weekly", [2], None, "FREQ=WEEKLY;BYDAY=TU")
    row = change(world, row, is_recurring=False)
    assert said(row) == (False, "weekly", [2], None, None)
    row = change(world, row, is_recurring=True)
    assert said(row) == (True, "weekly", [2], None, "FREQ=WEEKLY;BYDAY=TU")
    row = change(world, row, recurrence_rule=None)
    assert said(row)[0] is False and row["recurrence_rule"] is None
    # A rule that the day of the month makes simple is so only while it is that day.
    row = change(world, row, recurrence_rule="FREQ=MONTHLY;BYMONTHDAY=7")
    assert row["recurrence_pattern"] == "monthly"
    assert change(world, row, scheduled_date="2030-01-08")["recurrence_pattern"] == "custom"


def test_rules_without_sense_are_refused(world):
    row = world.schedule(**WEEKLY)
    for rule, part in {
        "FREQ=SOMETIMES": "FREQ",
        "every tuesday": "EVERY TUESDAY",
        "FREQ=DAILY;INTERVAL=0": "INTERVAL",
        "FREQ=WEEKLY;BYDAY=1MO": "BYDAY",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30": "BYMONTHDAY",
        "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30": "BYMONTHDAY",
        "FREQ=MINUTELY;INTERVAL=1440;BYHOUR=3": "BYHOUR",
        "FREQ=SECONDLY;COUNT=900000000": "COUNT",
        "FREQ=DAILY;UNTIL=20291231": "UNTIL",
        "FREQ=DAILY;COUNT=1;UNTIL=20301231": "UNTIL",
        "FREQ=DAILY;X-SOMETHING=1": "X-SOMETHING",
    }.items():
        for write in (lambda: world.schedule(recurrence_rule=rule), lambda: change(world, row, recurrence_rule=rule)):
            with refused("23514", f"{part} of the recurrence rule is not valid", hint=True):
                write()


def test_an_end_in_utc_is_one_by_the_clock(world):
    row = world.schedule(timezone="America/New_York", recurrence_rule="FREQ=DAILY;UNTIL=20300110T200000Z")
    assert row["recurrence_rule"] == "FREQ=DAILY;UNTIL=20300110T150000"
    assert days(world, row) == ["01-07", "01-08", "01-09", "01-10"]


@own_db("counts or changes all that is there")
def test_counted_rules_are_found_from_any_time(world):
    row = world.schedule(scheduled_date="2000-01-01", recurrence_rule="FREQ=DAILY;COUNT=20000")
    assert row["last_start"] == "2054-10-03T15:00:00"
    assert days(world, row, start="2054-10-02T00:00Z", end="2060-01-01T00:00Z") == ["10-02", "10-03"]
    world.db.owner("update public.live_stream_schedule set scheduled_date = '2000-01-02'")
    assert days(world, row, start="2054-10-02T00:00Z", end="2060-01-01T00:00Z") == ["10-02", "10-03", "10-04"]


# Exceptions.


def test_one_is_skipped_moved_retitled_and_added(world):
    row = world.schedule("Show", **WEEKLY)
    owner = world.influencer.api
    owner.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at="2030-01-07T15:00Z")
    moved = {"starts_at": "2030-01-15T18:00Z", "ends_at": "2030-01-15T20:30Z", "title": "Late show"}
    owner.rpc("live_stream_move_occurrence", schedule_id=row["id"], original_starts_at="2030-01-14T15:00Z", **moved)
    named = {"original_starts_at": "2030-01-21T15:00Z", "title": "Special"}
    owner.rpc("live_stream_move_occurrence", schedule_id=row["id"], **named)
    for _ in range(2):
        owner.rpc("live_stream_add_occurrence", schedule_id=row["id"], starts_at="2030-01-09T10:00Z")
    fields = ("starts_at", "ends_at", "original_starts_at", "status", "title")
    found = [tuple(one[name].removesuffix(":00+00:00") for name in fields) for one in listed(world, row)]
    assert found == [
        ("2030-01-07T15:00", "2030-01-07T16:00", "2030-01-07T15:00", "cancelled", "Show"),
        ("2030-01-09T10:00", "2030-01-09T11:00", "2030-01-09T10:00", "scheduled", "Show"),
        ("2030-01-15T18:00", "2030-01-15T20:30", "2030-01-14T15:00", "scheduled", "Late show"),
        ("2030-01-21T15:00", "2030-01-21T16:00", "2030-01-21T15:00", "scheduled", "Special"),
        ("2030-01-28T15:00", "2030-01-28T16:00", "2030-01-28T15:00", "scheduled", "Show"),
    ]
    # A window sees what is moved into it, and not what is moved out.
    assert days(world, row, start="2030-01-14T00:00Z", end="2030-01-15T00:00Z") == []
    assert days(world, row, start="2030-01-15T20:00Z", end="2030-01-15T20:10Z") == ["01-15"]
    for original in ("2030-01-07T15:00Z", "2030-01-14T15:00Z", "2030-01-09T10:00Z"):
        owner.rpc("live_stream_restore_occurrence", schedule_id=row["id"], original_starts_at=original)
    assert days(world, row) == ["01-07", "01-14", "01-21", "01-28"]


def test_an_added_one_can_be_moved_and_skipped(world):
    row = world.schedule(**WEEKLY)
    owner, one = world.influencer.api, {"schedule_id": row["id"], "original_starts_at": "2030-01-09T10:00Z"}
    owner.rpc("live_stream_add_occurrence", schedule_id=row["id"], starts_at="2030-01-09T10:00Z")
    owner.rpc("live_stream_move_occurrence", **one, starts_at="2030-01-10T10:00Z")
    assert days(world, row, end="2030-01-13T00:00Z") == ["01-07", "01-10"]
    owner.rpc("live_stream_skip_occurrence", **one)
    assert days(world, row, end="2030-01-13T00:00Z") == ["01-07"]


@own_db("counts or changes all that is there")
def test_a_schedule_that_takes_place_once_has_exceptions_too(world):
    row = world.schedule()
    owner = world.influencer.api
    owner.rpc("live_stream_add_occurrence", schedule_id=row["id"], starts_at="2031-01-09T10:00Z")
    owner.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at="2030-01-07T15:00Z")
    assert days(world, row, end="2032-01-01T00:00Z") == ["01-09"]
    (found,) = world.anon.select("upcoming_streams")
    assert found["full_start_datetime"] == "2031-01-09T10:00:00+00:00"


@own_db("counts or changes all that is there")
def test_upcoming_knows_exceptions(world):
    row = world.schedule("Show", **WEEKLY)
    owner = world.influencer.api
    owner.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at="2030-01-07T15:00Z")
    moved = {"starts_at": "2030-01-13T15:00Z", "title": "Early show"}
    owner.rpc("live_stream_move_occurrence", schedule_id=row["id"], original_starts_at="2030-01-14T15:00Z", **moved)
    (found,) = world.anon.select("upcoming_streams")
    assert (found["full_start_datetime"], found["title"]) == ("2030-01-13T15:00:00+00:00", "Early show")


def test_exceptions_that_make_no_sense_are_refused(world):
    row = world.schedule(**WEEKLY)
    first = {"schedule_id": row["id"], "original_starts_at": "2030-01-07T15:00Z"}

    def refuse(sqlstate, words, function="move", **args):
        with refused(sqlstate, words, hint=True):
            world.influencer.api.rpc(f"live_stream_{function}_occurrence", first | args)

    refuse("23514", "has no occurrence at 2030-01-07T15:00:01", original_starts_at="2030-01-07T15:00:01Z")
    refuse("23514", "has no occurrence at 2030-01-08", "skip", original_starts_at="2030-01-08T15:00Z")
    refuse("23514", "does not end in the week after its start", ends_at="2030-01-07T15:00Z")
    refuse("23514", "does not end in the week after its start", starts_at="2030-01-07T15:00Z", ends_at="2030-01-15T15:00Z")
    refuse("23514", "starts_at cannot be infinite", starts_at="infinity")
    refuse("23514", "original_starts_at cannot be infinite", original_starts_at="infinity")
    refuse("23514", "out of range", starts_at="10000-01-01T00:00Z")
    refuse("23514", "title of the occurrence is empty", title=" ")
    refuse("23502", "original_starts_at must not be null", original_starts_at=None)
    refuse("PT404", "does not exist", schedule_id=NOBODY)
    with refused("23505", "takes place at 2030-01-07T15:00:00", hint=True):
        world.influencer.api.rpc("live_stream_add_occurrence", schedule_id=row["id"], starts_at="2030-01-07T15:00Z")
    assert exceptions(world, row) == []


def test_only_the_owner_makes_exceptions(world):
    row = world.schedule(**WEEKLY)
    first = {"schedule_id": row["id"], "original_starts_at": "2030-01-07T15:00Z"}
    body = first | {"kind": "skip"}
    other = world.new_influencer()
    for person in (world.stranger, other):
        for function in ("skip", "move", "restore"):
            with refused("42501", "this schedule is not the caller's", hint=True):
                person.api.rpc(f"live_stream_{function}_occurrence", first)
        with refused("42501", "this schedule is not the caller's", hint=True):
            person.api.insert("live_stream_schedule_exceptions", body)
    with refused("42501", "permission denied"):
        world.anon.insert("live_stream_schedule_exceptions", body)
    world.influencer.api.insert("live_stream_schedule_exceptions", body)
    for person in (world.stranger, other):
        assert person.api.update("live_stream_schedule_exceptions", {"kind": "move"}, where={"schedule_id": row["id"]}) == []
        assert person.api.delete("live_stream_schedule_exceptions", where={"schedule_id": row["id"]}) == []
    assert exceptions(world, row) == [("01-07T15:00", "skip", True)]


@own_db("counts or changes all that is there")
def test_a_private_schedule_is_its_owners(world):
    row = world.schedule(**WEEKLY, visibility="private")
    world.influencer.api.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at="2030-01-07T15:00Z")
    for api in (world.anon, world.stranger.api):
        assert api.select("live_stream_schedule") == api.select("upcoming_streams") == []
        assert api.select("live_stream_schedule_exceptions") == []
        with refused("PT404", "does not exist"):
            api.rpc("live_stream_occurrences", schedule_id=row["id"], range_start="2030-01-01Z", range_end="2030-02-01Z")
    assert len(world.influencer.api.select("upcoming_streams")) == 1


def test_exceptions_follow_the_rule_or_are_reported(world):
    row = world.schedule(**WEEKLY, days_of_week=[1, 3], timezone="Europe/Berlin")
    owner = world.influencer.api
    for original in ("2030-01-07T14:00Z", "2030-01-09T14:00Z"):
        owner.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at=original)
    moved = {"original_starts_at": "2030-01-14T14:00Z", "starts_at": "2030-01-15T14:00Z"}
    owner.rpc("live_stream_move_occurrence", schedule_id=row["id"], **moved)
    # Another day goes: what was on it has no effect any more, and is kept.
    change(world, row, days_of_week=[1])
    assert exceptions(world, row) == [("01-07T14:00", "skip", True), ("01-09T14:00", "skip", False), ("01-14T14:00", "move", True)]
    assert days(world, row) == ["01-15", "01-21", "01-28"]
    # It comes back.
    change(world, row, days_of_week=[1, 3])
    assert days(world, row) == ["01-15", "01-16", "01-21", "01-23", "01-28", "01-30"]
    # Another time of the day, and another zone: the same shows.
    change(world, row, scheduled_start_time="16:00", scheduled_end_time="17:00")
    assert exceptions(world, row)[0] == ("01-07T15:00", "skip", True)
    change(world, row, timezone="America/New_York")
    assert [one[0] for one in exceptions(world, row)] == ["01-07T21:00", "01-09T21:00", "01-14T21:00"]
    assert days(world, row) == ["01-15", "01-16", "01-21", "01-23", "01-28", "01-30"]
    assert listed(world, row)[2]["starts_at"] == "2030-01-15T20:00:00+00:00", "15:00 by the clock, as it was moved"


@own_db("counts or changes all that is there")
def test_a_change_that_loses_exceptions_says_so(plain_db):
    world = people(plain_db)
    row = world.schedule(**WEEKLY)
    world.influencer.api.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at="2030-01-07T15:00Z")
    notices = []
    with plain_db.connect() as connection:
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        connection.execute("update public.live_stream_schedule set days_of_week = '{2}'")
        connection.execute("update public.live_stream_schedule set title = 'Other'")
    assert notices == [f"1 exceptions of schedule {row['id']} do not fit its rule any more"]


def test_this_and_all_that_follow(world):
    row = world.schedule("Show", **WEEKLY, timezone="Europe/Berlin")
    row = change(world, row, recurrence_rule="FREQ=WEEKLY;INTERVAL=2;COUNT=10;BYDAY=MO,TH")
    before = days(world, row, end="2031-01-01T00:00Z")
    owner = world.influencer.api
    for original in ("2030-01-10T14:00Z", "2030-02-04T14:00Z"):
        owner.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at=original)
    later = owner.rpc("live_stream_schedule_split", schedule_id=row["id"], original_starts_at="2030-01-24T14:00Z")
    assert later["id"] != row["id"] and later["title"] == "Show" and later["scheduled_date"] == "2030-01-24"
    skipped = [day for day in before if day not in ("01-10", "02-04")]
    assert days(world, row, end="2031-01-01T00:00Z") == skipped[:2] == ["01-07", "01-21"]
    assert days(world, later, end="2031-01-01T00:00Z") == skipped[2:]
    assert [len(exceptions(world, one)) for one in (row, later)] == [1, 1]
    changed = owner.update("live_stream_schedule", {"title": "New show"}, where={"id": later["id"]}, one=True)
    assert changed["has_exceptions"] is True
    for original, words in {
        "2030-01-07T14:00Z": "nothing before that occurrence",
        "2030-01-08T14:00Z": "no such occurrence",
        None: "must not be null",
    }.items():
        with refused("22023", words):
            owner.rpc("live_stream_schedule_split", schedule_id=row["id"], original_starts_at=original)
    with refused("42501", "this schedule is not the caller's"):
        world.stranger.api.rpc("live_stream_schedule_split", schedule_id=row["id"], original_starts_at="2030-01-21T14:00Z")
    once = world.schedule()
    with refused("22023", "takes place only once"):
        owner.rpc("live_stream_schedule_split", schedule_id=once["id"], original_starts_at="2030-01-07T15:00Z")


def test_an_end_that_is_written_beside_a_rule_is_the_rules(world):
    row = world.schedule(scheduled_date="2030-01-07", recurrence_rule="FREQ=MONTHLY;BYDAY=1MO", recurrence_end_date="2030-03-31")
    assert said(row) == (True, "custom", None, "2030-03-31", "FREQ=MONTHLY;UNTIL=20300331T235959;BYDAY=1MO")
    row = change(world, row, recurrence_rule="FREQ=DAILY")
    assert said(row) == (True, "daily", None, None, "FREQ=DAILY"), "the old end was the old rule's"
    row = change(world, row, recurrence_rule="FREQ=DAILY;COUNT=3", recurrence_end_date="2030-03-31")
    assert said(row) == (True, "custom", None, None, "FREQ=DAILY;COUNT=3"), "a rule has one end"


def test_two_exceptions_that_come_to_name_the_same(world):
    """Skipped, and added an hour later; then the show moves to that hour: it takes place, and the host is not in the way."""
    row = world.schedule(**WEEKLY)
    owner = world.influencer.api
    owner.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at="2030-01-07T15:00Z")
    owner.rpc("live_stream_add_occurrence", schedule_id=row["id"], starts_at="2030-01-07T16:00Z", title="Later")
    change(world, row, scheduled_start_time="16:00", scheduled_end_time="17:00")
    assert exceptions(world, row) == [("01-07T15:00", "skip", False), ("01-07T16:00", "add", True)]
    found = [(one["starts_at"][5:16], one["title"]) for one in listed(world, row, end="2030-01-20T00:00Z")]
    assert found == [("01-07T16:00", "Later"), ("01-14T16:00", "A weekly stream")]
    change(world, row, scheduled_start_time="15:00", scheduled_end_time="16:00")
    assert exceptions(world, row) == [("01-07T15:00", "skip", True), ("01-07T16:00", "add", True)]
    # A day of them, all moved by as much as they are apart.
    hourly = world.schedule(scheduled_date="2030-01-07", scheduled_end_time=None, expected_duration_minutes=5, recurrence_rule="FREQ=DAILY;BYHOUR=15,16,17")
    for hour in (15, 16, 17):
        owner.rpc("live_stream_skip_occurrence", schedule_id=hourly["id"], original_starts_at=f"2030-01-07T{hour}:00Z")
    for zone, first in {"Etc/GMT-1": 14, "Etc/GMT+1": 16, "UTC": 15}.items():
        change(world, hourly, timezone=zone)
        assert exceptions(world, hourly) == [(f"01-07T{first + n}:00", "skip", True) for n in range(3)]


def test_a_split_never_changes_what_follows(world):
    """BYSETPOS of a weekly rule counts from the first start in a week: a split within one would count another way."""
    row = world.schedule(scheduled_date="2030-01-07", recurrence_rule="FREQ=WEEKLY;BYDAY=MO,WE,FR;BYSETPOS=2,3")
    before = days(world, row)
    owner = world.influencer.api
    with refused("22023", "the rule says something else when it begins there", hint=True):
        owner.rpc("live_stream_schedule_split", schedule_id=row["id"], original_starts_at="2030-01-16T15:00Z")
    assert days(world, row) == before
    for rule in ("FREQ=MONTHLY;BYDAY=MO,WE;BYSETPOS=1,-1", "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE,SU;WKST=SU", "FREQ=DAILY;INTERVAL=3;COUNT=9"):
        row = world.schedule(scheduled_date="2030-01-07", recurrence_rule=rule)
        before = listed(world, row, end="2030-06-01T00:00Z")
        at_third = before[2]["original_starts_at"]
        later = owner.rpc("live_stream_schedule_split", schedule_id=row["id"], original_starts_at=at_third)
        assert [listed(world, one, end="2030-06-01T00:00Z") for one in (row, later)] == [before[:2], before[2:]], rule


@own_db("counts or changes all that is there")
def test_ten_thousand_exceptions_of_a_schedule(plain_db):
    world = people(plain_db)
    row = world.schedule(scheduled_date="2030-01-01", recurrence_rule="FREQ=DAILY")
    add = """insert into public.live_stream_schedule_exceptions (schedule_id, original_starts_at, kind)
             select %s, timestamptz '2030-01-01 15:00Z' + n * interval '1 day', 'skip' from generate_series(%s::integer, %s::integer) n"""
    plain_db.owner(add, [row["id"], 1, 10_000])
    began = time.monotonic()
    change(world, row, scheduled_start_time="14:00", scheduled_end_time="15:00")
    assert plain_db.value("select count(*) from public.live_stream_schedule_exceptions where fits") == 10_000
    assert at(world.anon.select("upcoming_streams")[0]["full_start_datetime"]) == at("2030-01-01T14:00Z")
    assert time.monotonic() - began < 10


def test_skipping_where_clocks_skip(world):
    """The occurrence at a time that clocks do not show is named by the moment at which it takes place."""
    daily = {"is_recurring": True, "recurrence_pattern": "daily", "timezone": "Europe/Berlin"}
    row = world.schedule(**daily, scheduled_date="2026-03-28", scheduled_start_time="02:30", scheduled_end_time="02:45")
    window = {"start": "2026-03-27T00:00Z", "end": "2026-03-31T00:00Z"}
    assert [one["starts_at"][5:16] for one in listed(world, row, **window)] == ["03-28T01:30", "03-29T01:30", "03-30T00:30"]
    one = {"schedule_id": row["id"], "original_starts_at": "2026-03-29T01:30Z"}
    world.influencer.api.rpc("live_stream_skip_occurrence", **one)
    assert days(world, row, **window) == ["03-28", "03-30"]


@own_db("counts or changes all that is there")
def test_many_exceptions_do_not_slow_a_schedule_down(plain_db):
    world = people(plain_db)
    row = world.schedule(scheduled_date="2030-01-01", recurrence_rule="FREQ=DAILY")
    plain_db.owner(
        """insert into public.live_stream_schedule_exceptions (schedule_id, original_starts_at, kind)
           select %s, timestamptz '2030-01-01 15:00Z' + n * interval '1 day', 'skip' from generate_series(0, 999) n""",
        [row["id"]],
    )
    (found,) = world.anon.select("upcoming_streams")
    expected = at("2030-01-01T15:00Z") + timedelta(days=1000)
    assert at(found["full_start_datetime"]) == expected


@own_db("counts or changes all that is there")
def test_other_zone_rules_move_what_was_moved_too(plain_db):
    """As if the server's zone data had changed since: the clock time counts, and no row is touched."""
    world = people(plain_db)
    row = world.schedule(**WEEKLY)
    moved = {"original_starts_at": "2030-01-14T15:00Z", "starts_at": "2030-01-15T18:00Z"}
    world.influencer.api.rpc("live_stream_move_occurrence", schedule_id=row["id"], **moved)
    with plain_db.connect() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update public.live_stream_schedule set timezone = 'Etc/GMT-2'")
    assert [one["starts_at"][:16] for one in listed(world, row)][:2] == ["2030-01-07T13:00", "2030-01-15T16:00"]
    with plain_db.connect() as connection:
        connection.execute("select live_stream.materialize_occurrences()")
    assert len(exceptions(world, row)) == 1


@own_db("has a trigger of the app's")
def test_what_an_apps_trigger_writes_meanwhile_is_looked_at(db, world):
    """The engine's own changes pass the guards of schedules; what somebody else does within them does not."""
    schedule = world.schedule(**WEEKLY)
    db.owner(
        """create table public.refused (message text);
           create function public.meddle() returns trigger language plpgsql as $$
           begin
             insert into public.live_stream_schedule
               (influencer_id, title, scheduled_date, scheduled_start_time, timezone)
             values (new.influencer_id, 'Meddling', '2030-01-01', '10:00', 'Nowhere/Land');
             return null;
           exception when check_violation then
             insert into public.refused values (sqlerrm);
             return null;
           end $$;
           create trigger meddle after update on public.live_stream_schedule
             for each row execute function public.meddle()"""
    )
    world.influencer.api.rpc(
        "live_stream_skip_occurrence", schedule_id=schedule["id"], original_starts_at="2030-01-14T15:00Z"
    )
    assert [one["kind"] for one in db.sql("select kind from public.live_stream_schedule_exceptions")] == ["skip"]
    assert db.value("select count(*) from public.live_stream_schedule") == 1
    assert "Nowhere/Land" in db.value("select message from public.refused")
