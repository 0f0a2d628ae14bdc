"""One influencer's plans stall nobody: sessions are made in slices, and influencers take turns."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone

import pytest

from busy import another, join
from people import at_once, people
from refusals import refused
from sizes import own_db

EVERY_SECOND = "FREQ=SECONDLY;INTERVAL=2"
ALL = ";BYHOUR={};BYMINUTE={};BYSECOND={}".format(*(",".join(map(str, range(most))) for most in (24, 60, 60)))
# A day's seconds are looked at before the first start that counts; and two that have none for years.
LONG = [
    EVERY_SECOND, "FREQ=YEARLY" + ALL, "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=SU",
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=SU",
]  # fmt: skip
YESTERDAY = datetime.now(timezone.utc) - timedelta(days=1)


def evil(db, influencer, count, rules=LONG):
    """Many schedules at once, as the owner of the tables may bring them."""
    db.owner(
        "insert into public.live_stream_schedule (influencer_id, title, scheduled_date, scheduled_start_time, recurrence_rule)"
        " select %s, 'evil', %s, '00:00', (%s::text[])[1 + n %% %s] from generate_series(1, %s) n",
        [influencer.influencer_id, YESTERDAY.date(), rules, len(rules), count],
    )


def daily(world, by):
    return world.schedule("Daily", by=by, scheduled_date=f"{YESTERDAY:%Y-%m-%d}", is_recurring=True, recurrence_pattern="daily")


def with_sessions(db, but):
    """How many others have sessions of their schedules."""
    return db.value(
        "select count(distinct influencer_id) from public.live_stream_sessions s"
        " join public.live_stream_schedule_sessions l on l.session_id = s.id where influencer_id <> %s", [but.influencer_id]
    )  # fmt: skip


def look_again(db):
    """As if a minute had passed."""
    db.sql("update live_stream.schedule_turns set began_at = began_at - interval '1 minute'")


# Those whose turn it is have up to twenty schedules each, and in each step somebody has its first turn.
SHARE = 20


def evil_in_the_order_of_making(db, bad):
    """How many schedules of somebody had sessions made before the last of the others had the first of its own."""
    rows = db.sql(
        """select schedule_id, influencer_id::text as of from public.live_stream_schedule_sessions l
             join public.live_stream_schedule s on s.id = l.schedule_id order by l.ctid"""
    )
    first = {}
    for place, row in enumerate(rows):
        first.setdefault(row["of"], place)
    last = max(place for of, place in first.items() if of != bad.influencer_id)
    return len({row["schedule_id"] for row in rows[:last] if row["of"] == bad.influencer_id})


@own_db("counts all that is there")
def test_a_call_ends_and_the_next_ones_go_on(plain_db):
    world = people(plain_db)
    plain_db.set(planned_sessions_per_influencer=0)
    bad = world.new_influencer()
    evil(plain_db, bad, 2_000)
    others = [world.new_influencer() for _ in range(10)]
    for other in others:
        daily(world, other)
    # However slow the machine is, each call goes one step at least, and in each step one of the ten has its turn.
    calls = 0
    while with_sessions(plain_db, bad) < 10:
        assert plain_db.owner("select live_stream.run_schedules() as more")[0]["more"], "more is left"
        calls += 1
        assert calls <= 11, "each call goes on where the last one was"
    assert evil_in_the_order_of_making(plain_db, bad) <= 11 * SHARE, "each has its turn before anybody's schedules are through"
    evil_before = plain_db.value("select count(*) from public.live_stream_sessions where title = 'evil'")
    # From another connection, as pg_cron calls it; and a new influencer is not behind what is left of the first.
    plain_db.close()
    daily(world, world.new_influencer())
    look_again(plain_db)
    calls = 0
    while with_sessions(plain_db, bad) < 11 or calls < 2:
        assert plain_db.owner("select live_stream.run_schedules() as more")[0]["more"], "the first has more than others wait for"
        look_again(plain_db)
        calls += 1
        assert calls <= 24, "two rounds of one step for each"
    assert plain_db.value("select count(*) from public.live_stream_sessions where title = 'evil'") > evil_before, "its own share too"


@own_db("counts all that is there")
def test_calls_go_through_all_schedules_and_then_rest(plain_db):
    world = people(plain_db)
    plain_db.set(planned_sessions_per_influencer=0)
    for n in range(3):
        who = world.new_influencer()
        for _ in range(45):
            daily(world, who)
    calls = 0
    while plain_db.owner("select live_stream.run_schedules() as more")[0]["more"]:
        calls += 1
        assert calls < 20
    made = plain_db.sql("select schedule_id, count(*) as n from public.live_stream_schedule_sessions group by 1")
    assert len(made) == 135 and {row["n"] for row in made} <= {8, 9}
    # Within the minute there is nothing to do.
    plain_db.sql("delete from public.live_stream_schedule_sessions")
    assert plain_db.owner("select live_stream.run_schedules() as more")[0]["more"] is False
    assert plain_db.value("select count(*) from public.live_stream_schedule_sessions") == 0


@own_db("counts all that is there")
def test_calls_at_the_same_time_do_not_pile_up(plain_db):
    world = people(plain_db)
    plain_db.set(planned_sessions_per_influencer=0)
    evil(plain_db, world.new_influencer(), 1_000)
    call = "select live_stream.run_schedules() as more"
    with plain_db.connect("app_owner") as first, first.transaction():
        assert first.execute(call).fetchone()["more"]
        # It is not over yet, and whoever comes meanwhile does nothing, and waits for nothing.
        for _ in range(3):
            with plain_db.connect("app_owner") as other:
                other.execute("set lock_timeout = '100ms'")
                assert other.execute(call).fetchone()["more"], "another is at it"
    # The time of a row is that of its transaction.
    assert plain_db.value("select count(distinct created_at) from public.live_stream_schedule_sessions") == 1


@own_db("has a worker of its own")
def test_numbers_of_others_stay_within_a_moment(plain_db):
    """The worker makes sessions of two thousand schedules of a stranger in slices, and folds between any two."""
    world = people(plain_db)
    plain_db.set(planned_sessions_per_influencer=0)
    evil(plain_db, world.new_influencer(), 2_000)
    other = world.new_influencer()
    daily(world, other)
    session = world.session(max_viewers=None)
    # A slice is a transaction, and that is known by its time.
    slices = "select created_at as slice, count(*) as made from public.live_stream_schedule_sessions group by 1"
    between, made, end = [], {}, time.monotonic() + 60
    with plain_db.connect() as looking, plain_db.connect() as joining:
        while len(made) < 20:
            assert time.monotonic() < end, "nothing is made"
            with another(plain_db, session):
                join(joining, session)
            before = {row["slice"] for row in looking.execute(slices)}
            while looking.execute("select from live_stream.metric_changes limit 1").rowcount:
                assert time.monotonic() < end, "nobody folds"
                made = {row["slice"]: row["made"] for row in looking.execute(slices)}
                between.append(len(made.keys() - before))
                time.sleep(0.01)
            made = {row["slice"]: row["made"] for row in looking.execute(slices)}
    # One that was under way, and one that had begun before the fold was seen.
    assert max(between) <= 2, between
    assert max(made.values()) < 5_000, "no slice makes as many as a call"
    assert plain_db.value("select count(*) from public.live_stream_sessions where title = 'Daily'") >= 8


@own_db("has a trigger of the app's")
def test_one_whose_sessions_are_refused_holds_up_no_other(plain_db):
    world = people(plain_db)
    plain_db.owner(
        """create function public.refuse() returns trigger language plpgsql as
           $$begin if new.title = 'evil' then raise exception 'not this one'; end if; return new; end$$"""
    )
    plain_db.owner("create trigger refuse before insert on public.live_stream_sessions for each row execute function public.refuse()")
    bad = world.new_influencer()
    evil(plain_db, bad, 3, [EVERY_SECOND])
    for _ in range(5):
        daily(world, world.new_influencer())
    assert plain_db.owner("select live_stream.run_schedules() as more")[0]["more"] is False
    assert with_sessions(plain_db, bad) == 5


@own_db("counts all that is there")
def test_sessions_are_planned_up_to_the_quota(plain_db):
    world = people(plain_db)
    plain_db.set(planned_sessions_per_influencer=30)
    evil(plain_db, world.influencer, 3, [EVERY_SECOND])
    by_hand = [world.session(live=False) for _ in range(10)]
    for _ in range(3):
        plain_db.owner("select live_stream.run_schedules()")
        look_again(plain_db)
    planned = "select count(*) from public.live_stream_sessions where status = 'scheduled'"
    assert plain_db.value(planned) == 30, "what was planned by hand counts too"
    with refused("23514", "too many sessions planned", hint=True):
        world.session(live=False)
    # One that is on air, or called off, makes room.
    world.start(by_hand[0])
    world.set_session(by_hand[1], status="cancelled")
    world.session(live=False), world.session(live=False)
    with refused("23514", "too many sessions planned"):
        world.session(live=False)
    world.service.insert("live_stream_sessions", {"influencer_id": world.influencer.influencer_id, "title": "the server's"})


@own_db("counts all that is there")
def test_what_is_over_and_old_is_planned_no_more(plain_db):
    world = people(plain_db)
    plain_db.set(planned_sessions_per_influencer=2)
    old = [world.session(live=False, scheduled_start_time="2020-01-01T00:00Z") for _ in range(2)]
    plain_db.sql("set session_replication_role = replica")
    plain_db.sql("update public.live_stream_sessions set created_at = now() - interval '25 hours'")
    plain_db.sql("reset session_replication_role")
    world.session(live=False), world.session(live=False)
    with refused("23514", "too many sessions planned"):
        world.set_session(old[0], scheduled_start_time="2099-01-01T00:00Z")
    world.set_session(old[0], title="As old as before")


@own_db("counts all that is there")
def test_planned_at_the_same_moment(plain_db):
    world = people(plain_db)
    plain_db.set(planned_sessions_per_influencer=5, schedules_per_influencer=4)
    plan = lambda: world.session(live=False)  # noqa: E731
    done = at_once(*[plan] * 12)
    assert sum(isinstance(one, dict) for one in done) == 5, done
    make = lambda: world.schedule()  # noqa: E731
    done = at_once(*[make] * 12)
    assert sum(isinstance(one, dict) for one in done) == 4, done
    assert {one.sqlstate for one in done if not isinstance(one, dict)} == {"23514"}


def test_schedules_of_an_influencer(db, world):
    db.set(schedules_per_influencer=2)
    first = world.schedule()
    world.schedule()
    with refused("23514", "too many schedules", hint=True):
        world.schedule()
    world.schedule(by=world.new_influencer())
    with refused("23514", "too many schedules"):
        world.influencer.api.rpc("live_stream_import_ics", influencer_id=None, ics=CALENDAR)
    with refused("23514", "too many schedules"):
        weekly = world.influencer.api.update("live_stream_schedule", {"recurrence_rule": "FREQ=WEEKLY"}, where={"id": first["id"]}, one=True)
        world.influencer.api.rpc("live_stream_schedule_split", schedule_id=weekly["id"], original_starts_at="2030-01-14T15:00Z")
    world.service.insert("live_stream_schedule", {k: first[k] for k in ("influencer_id", "title", "scheduled_date", "scheduled_start_time")})
    world.influencer.api.delete("live_stream_schedule", where={"influencer_id": world.influencer.influencer_id})
    world.schedule()
    db.set(schedules_per_influencer=0)
    world.schedule(), world.schedule(), world.schedule()


CALENDAR = """BEGIN:VCALENDAR
BEGIN:VEVENT
UID:1
SUMMARY:One
DTSTART:20300101T100000Z
END:VEVENT
END:VCALENDAR
"""


def test_exceptions_of_a_schedule(db, world):
    db.set(exceptions_per_schedule=2)
    row = world.schedule(is_recurring=True, recurrence_pattern="daily")
    skip = lambda day: world.influencer.api.rpc(  # noqa: E731
        "live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at=f"2030-01-{day}T15:00Z"
    )
    skip("08"), skip("09"), skip("09")
    with refused("23514", "too many exceptions", hint=True):
        skip("10")
    world.service.insert("live_stream_schedule_exceptions", {"schedule_id": row["id"], "original_starts_at": "2030-01-10T15:00Z", "kind": "skip"})
    with refused("23514", "too many exceptions"):
        skip("11")
    db.set(exceptions_per_schedule=0)
    skip("11")


def test_exceptions_at_the_same_moment(db, world):
    db.set(exceptions_per_schedule=3)
    row = world.schedule(is_recurring=True, recurrence_pattern="daily")
    skip = lambda day: world.influencer.api.rpc(  # noqa: E731
        "live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at=f"2030-01-{day}T15:00Z"
    )
    done = at_once(*(lambda day=day: skip(day) for day in range(10, 20)))
    assert sum(isinstance(one, dict) for one in done) == 3, done


def many_exceptions(world, days, schedules=1):
    """A request for each schedule that skips an occurrence, of one influencer."""
    rows = [world.schedule(is_recurring=True, recurrence_pattern="daily") for _ in range(schedules)]
    return [
        lambda row=row, day=day: world.influencer.api.rpc(
            "live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at=f"2030-01-{day}T15:00Z"
        )
        for row in rows
        for day in days
    ]


def test_exceptions_of_an_influencer(db, world):
    db.set(exceptions_per_influencer=3)
    first, second, third, again, last = many_exceptions(world, ("10", "11", "12", "12", "13"))
    other = many_exceptions(world, ("10",))[0]
    first(), second(), third(), again()
    for one in (last, other):
        with refused("23514", "too many exceptions of schedules", hint=True):
            one()
    # Somebody else has its own, and the server has no limit.
    grace = world.new_influencer()
    row = world.schedule(by=grace, is_recurring=True, recurrence_pattern="daily")
    grace.api.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at="2030-01-10T15:00Z")
    world.service.insert(
        "live_stream_schedule_exceptions",
        [{"schedule_id": row["id"], "original_starts_at": f"2030-01-{day}T15:00Z", "kind": "skip"} for day in range(11, 16)],
    )
    with refused("23514", "too many exceptions of schedules"):
        world.influencer.api.rpc("live_stream_import_ics", influencer_id=None, ics=SKIPPED)
    world.influencer.api.delete("live_stream_schedule_exceptions", where={"original_starts_at": "2030-01-10T15:00Z"})
    other()
    with refused("23514", "too many exceptions of schedules"):
        last()
    db.set(exceptions_per_influencer=0)
    last()


SKIPPED = """BEGIN:VCALENDAR
BEGIN:VEVENT
UID:1
SUMMARY:Daily
DTSTART:20300101T100000Z
RRULE:FREQ=DAILY
EXDATE:20300102T100000Z
END:VEVENT
END:VCALENDAR
"""


def test_exceptions_of_several_schedules_at_the_same_moment(db, world):
    db.set(exceptions_per_influencer=3)
    done = at_once(*many_exceptions(world, ("10", "11"), schedules=5))
    assert sum(isinstance(one, dict) for one in done) == 3, done
    assert {one.sqlstate for one in done if not isinstance(one, dict)} == {"23514"}
