"""A schedule that is put to other times: its sessions go along, with all that they have. Against python-dateutil."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

import pytest

from people import people
from putting import agree, change, coming, daily, ids, made, make, moments, put, show, starts, this_minute
from scheduling import at
from sizes import own_db, scale
from steps import Steps

pytestmark = own_db("counts or changes all that is there")



# One show.


@pytest.mark.parametrize("by", [{"minutes": 30}, {"minutes": -30}, {"days": 3}, {"days": 30}, {"hours": 23}], ids=str)
@pytest.mark.parametrize("who", ["host", "upsert", "service", "sql"])
def test_a_show_is_put_later_with_all_that_it_has(supabase_db, by, who):
    world = people(supabase_db)
    product = world.new_product()
    row = show(world, products_to_showcase=[product])
    make(world)
    (session,) = world.influencer.api.select("live_stream_sessions")
    api = world.influencer.api
    world.set_session(session, title="By hand", visibility="private")
    api.rpc("live_stream_invite", session_id=session["id"], user_id=world.viewer.user_id)
    invitation = api.rpc("live_stream_create_invitation", session_id=session["id"])
    viewer = world.join(session, world.viewer)
    session = world.read(session)
    start = at(f"{row['scheduled_date']}T{row['scheduled_start_time']}Z") + timedelta(**by)
    columns = {"scheduled_date": f"{start:%Y-%m-%d}", "scheduled_start_time": f"{start:%H:%M:%S}"}
    if who == "host":
        change(world, row, **columns)
    elif who == "upsert":
        sent = {name: row[name] for name in ("id", "influencer_id", "title")} | columns
        with Steps(supabase_db) as steps:
            host = steps.client(world.influencer)
            names, places = ", ".join(sent), ", ".join(["%s"] * len(sent))
            host.run(f"insert into public.live_stream_schedule ({names}) values ({places}) on conflict (id) do update set scheduled_date = excluded.scheduled_date, scheduled_start_time = excluded.scheduled_start_time", list(sent.values()))
            host.commit()
    elif who == "service":
        world.service.update("live_stream_schedule", columns, where={"id": row["id"]})
    else:
        supabase_db.owner("update public.live_stream_schedule set scheduled_date = %s, scheduled_start_time = %s", list(columns.values()))
    now = world.read(session)
    changed = {name for name in now if now[name] != session[name]} - {"updated_at"}
    assert changed == {"scheduled_start_time", "scheduled_end_time"}
    assert (at(now["scheduled_start_time"]), now["title"], now["visibility"]) == (start, "By hand", "private")
    assert at(now["scheduled_end_time"]) == start + timedelta(hours=1)
    assert make(world, "60 days") == 0 and len(api.select("live_stream_sessions")) == 1
    assert [one["product_id"] for one in api.select("live_stream_products")] == [product]
    assert [one["id"] for one in world.viewer.api.select("live_stream_viewers", where={"is_still_watching": True})] == [viewer["id"]]
    world.stranger.api.rpc("live_stream_accept_invitation", token=invitation["token"])
    assert world.stranger.api.select("live_stream_sessions", "id") == [{"id": session["id"]}]


def test_a_show_that_nobody_began_is_put_to_next_week(world):
    row = show(world, 60)
    make(world)
    (session,) = ids(world, row)
    world.db.sql("set session_replication_role = replica")
    for table, column in (("schedule_sessions", "original_local_start"), ("schedule_sessions", "starts_at"), ("schedule_sessions", "ends_at"), ("sessions", "scheduled_start_time")):  # fmt: skip
        world.db.sql(f"update public.live_stream_{table} set {column} = {column} - interval '14 days'")
    world.db.sql("update public.live_stream_schedule set scheduled_date = scheduled_date - 14, last_start = last_start - interval '14 days'")
    world.db.sql("reset session_replication_role")
    row = put(world, row, days=6)
    assert ids(world, row) == [session] and starts(world, row) == moments(row, 1)
    assert make(world, "30 days") == 0


def test_a_show_that_was_put_to_the_past_comes_back(world):
    row = show(world)
    make(world)
    before = ids(world, row)
    row = put(world, row, days=-3)
    assert ids(world, row) == before
    row = put(world, row, days=3, minutes=20)
    assert ids(world, row) == before and starts(world, row) == moments(row, 1)
    agree(world, row)


def test_an_end_at_a_time_of_the_day_goes_along(world):
    """As calendars write it: the last one is still the last."""
    end = this_minute() + timedelta(days=4)
    row = daily(world, recurrence_rule=f"FREQ=DAILY;UNTIL={end:%Y%m%dT%H%M00}")
    make(world, "9 days")
    before = ids(world, row)
    assert len(before) == 4
    for minutes in (1, -2):
        row = put(world, row, minutes=minutes)
        assert ids(world, row) == before and starts(world, row) == moments(row, 9)
    agree(world, row)


def test_an_end_after_a_day_or_after_other_shows_stays(world):
    """Put by minutes, the last day is still the last; put by days, there are fewer, and the end has the new time of the day."""
    end, minutes = this_minute() + timedelta(days=4), 30 if this_minute().hour < 12 else -30
    days = daily(world, recurrence_rule=f"FREQ=DAILY;UNTIL={end:%Y%m%d}")
    row = put(world, days, minutes=minutes)
    assert (row["recurrence_end_date"], row["recurrence_rule"]) == (f"{end:%Y-%m-%d}", days["recurrence_rule"])
    timed = daily(world, recurrence_rule=f"FREQ=DAILY;UNTIL={end:%Y%m%dT%H%M00}")
    assert put(world, timed, days=2)["recurrence_rule"] == timed["recurrence_rule"]
    row = put(world, timed, days=1, minutes=minutes)
    assert row["recurrence_rule"] == f"FREQ=DAILY;UNTIL={end + timedelta(minutes=minutes):%Y%m%dT%H%M00}"


# Series.


LONG_AGO = datetime(2000, 1, 1, tzinfo=timezone.utc)


def random_schedule(chosen):
    rules = ["FREQ=DAILY", "FREQ=DAILY;INTERVAL=2", "FREQ=WEEKLY", "FREQ=WEEKLY;BYDAY=MO,TH", "FREQ=WEEKLY;BYDAY=MO,WE,FR;WKST=SU",
             "FREQ=DAILY;BYHOUR=9,13,21", "FREQ=MONTHLY;BYDAY=1MO,-1FR", "FREQ=DAILY;COUNT=12", "FREQ=HOURLY;INTERVAL=7", None, "FREQ=DAILY;COUNT=7", "FREQ=WEEKLY;COUNT=3",
             f"FREQ=DAILY;UNTIL={this_minute() + timedelta(days=9):%Y%m%d}", "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SA"]  # fmt: skip
    first = this_minute() + timedelta(days=chosen.randint(-20, 5))
    return {
        "scheduled_date": f"{first:%Y-%m-%d}",
        "scheduled_start_time": f"{chosen.randrange(24):02}:{chosen.choice([0, 15, 30, 45]):02}:00",
        "timezone": chosen.choice(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Sydney"]),
        "recurrence_rule": chosen.choice(rules),
        "expected_duration_minutes": chosen.choice([30, 60, 200]),
        "scheduled_end_time": None,
    }


def random_change(chosen, row):
    other = random_schedule(chosen)
    if row["recurrence_rule"] and other["recurrence_rule"] is None:
        other["recurrence_rule"] = "FREQ=DAILY"
    names = chosen.choice([["scheduled_start_time"], ["scheduled_date"], ["timezone"], ["recurrence_rule"], ["scheduled_start_time", "scheduled_date"],
                           ["recurrence_rule", "scheduled_start_time"], ["expected_duration_minutes"], list(other)])  # fmt: skip
    return {name: other[name] for name in names}


@pytest.mark.parametrize("seed", range(scale(2, 12)))
def test_the_nth_that_comes_is_still_the_nth(plain_db, seed):
    """Whatever the schedule and the change: sessions keep their order, and each is where dateutil has the n-th."""
    world, chosen = people(plain_db), random.Random(f"later {seed}")
    plain_db.set(planned_sessions_per_influencer=0, schedules_per_influencer=0)
    rows = [world.schedule(**random_schedule(chosen)) for _ in range(60)]
    make(world, "30 days")
    moved = kept = gone = 0
    for row in rows:
        before, sent, now = made(world, row), random_change(chosen, row), datetime.now(timezone.utc)
        old = coming(row, len(before), now)
        assert [(one["wall"], one["start"]) for one in before] == old, row
        new_row = row | sent
        edges = [edge for one in (row, new_row) for _, start in coming(one, 3, now - timedelta(hours=4)) for edge in (start, start + timedelta(minutes=one["expected_duration_minutes"]))]  # fmt: skip
        if any(abs(edge - now) < timedelta(minutes=2) for edge in edges):
            continue
        # What has begun goes to the nearest: that has tests of its own.
        if any(start <= now for one in (row, new_row) for _, start in coming(one, 1, now)):
            continue
        new_row = change(world, row, **sent)
        # The only one is the only one, also where it is put to a time that is over.
        is_only = not (row["recurrence_rule"] or new_row["recurrence_rule"])
        new = coming(new_row, 3 * len(before) + 200, LONG_AGO if is_only else now)
        is_put = any(row[name] != new_row[name] for name in ("scheduled_date", "scheduled_start_time", "timezone"))
        if not is_put and {wall for wall, _ in old} <= {wall for wall, _ in new}:
            new = old
        after = made(world, row, None)
        want = {one["id"]: (*place, "scheduled") for one, place in zip(before, new)}
        assert {one["id"]: (one["wall"], one["start"], one["status"]) for one in after} == want, (row, sent)
        cancelled = {one["id"] for one in world.influencer.api.select("live_stream_sessions", where={"status": "cancelled"})}
        assert {one["id"] for one in before} - set(want) <= cancelled
        moved, kept, gone = moved + (new[: len(before)] != old), kept + (new[: len(before)] == old), gone + (len(want) < len(before))
        rows[rows.index(row)] = new_row
    assert moved > 15 and kept > 5 and gone > 1, (moved, kept, gone)
    make(world, "30 days")
    for row in rows:
        found = made(world, row)
        begun = None if row["recurrence_rule"] else LONG_AGO
        assert [(one["wall"], one["start"]) for one in found] == coming(row, len(found), begun), "and the missing ones are made"


@pytest.mark.parametrize(
    "begin, to",
    [
        ("FREQ=WEEKLY;BYDAY=MO", "FREQ=WEEKLY;BYDAY=TU"),
        ("FREQ=DAILY", "FREQ=WEEKLY"),
        ("FREQ=DAILY", "FREQ=DAILY;INTERVAL=2"),
        ("FREQ=DAILY;COUNT=5", "FREQ=DAILY;INTERVAL=3;COUNT=3"),
        ("FREQ=DAILY", "FREQ=MONTHLY;BYMONTHDAY=1,15"),
    ],
)
def test_another_rule_takes_them_along_and_back(world, begin, to):
    row = daily(world, recurrence_rule=begin)
    make(world, "20 days")
    before = made(world, row)
    changed = change(world, row, recurrence_rule=to)
    count = len(coming(changed, len(before)))
    assert ids(world, row) == [one["id"] for one in before][:count] and starts(world, row) == moments(changed, count)
    agree(world, row)
    if "COUNT" not in to:
        assert put(world, put(world, row, minutes=50), minutes=-50)["recurrence_rule"] == to
        assert ids(world, row) == [one["id"] for one in before] and starts(world, row) == moments(changed, count)


@pytest.mark.parametrize("begin, to", [("FREQ=WEEKLY", "FREQ=DAILY"), ("FREQ=DAILY;COUNT=3", "FREQ=DAILY;COUNT=9"), ("FREQ=DAILY", "FREQ=DAILY;COUNT=30")])
def test_a_rule_that_has_more_moves_nobody(world, begin, to):
    """Who was invited to a start that is still there expects it there."""
    row = daily(world, recurrence_rule=begin)
    make(world, "20 days")
    before = made(world, row)
    change(world, row, recurrence_rule=to)
    assert made(world, row) == before
    make(world, "20 days")
    assert {one["id"] for one in before} < set(ids(world, row)) or "30" in to
    agree(world, row)


def test_a_series_that_is_shortened(world):
    row = daily(world)
    make(world)
    before = made(world, row)
    change(world, row, recurrence_end_date=f"{this_minute() + timedelta(days=2):%Y-%m-%d}")
    assert made(world, row) == before[:2]
    statuses = [world.read(one)["status"] for one in before]
    assert statuses == ["scheduled", "scheduled", "cancelled", "cancelled"]
    agree(world, row)


def test_what_is_different_goes_along(world):
    """The skipped one is still the third, and the moved one is where the host put it."""
    row = daily(world)
    make(world, "6 days 1 hour")
    owner, before = world.influencer.api, made(world, row)
    old = moments(row, 6)
    owner.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at=str(old[2]))
    moved_to = this_minute() + timedelta(days=4, minutes=17)
    owner.rpc("live_stream_move_occurrence", schedule_id=row["id"], original_starts_at=str(old[1]), starts_at=str(moved_to), title="Late")
    owner.rpc("live_stream_move_occurrence", schedule_id=row["id"], original_starts_at=str(old[3]), ends_at=str(old[3] + timedelta(hours=3)))
    left = [before[nth]["id"] for nth in (0, 3, 4, 5, 1)]
    where = lambda new: {one: start for one, start in zip(left, [new[0], new[3], new[4], new[5], moved_to])}  # noqa: E731
    found = lambda: {one["id"]: one["start"] for one in made(world, row)}  # noqa: E731
    assert found() == where(old)
    for by in ({"minutes": 30}, {"days": 1, "hours": -1}, {"days": 2}, {"days": -1, "minutes": 7}):
        row = put(world, row, **by)
        new = moments(row, 6)
        assert found() == where(new)
        kept = world.anon.select("live_stream_schedule_exceptions", order="original_starts_at")
        assert [(at(one["original_starts_at"]), one["kind"], one["fits"]) for one in kept] == [(new[1], "move", True), (new[2], "skip", True), (new[3], "move", True)]
        ends = {one["id"]: at(one["scheduled_end_time"]) for one in owner.select("live_stream_sessions")}
        assert ends[before[3]["id"]] == new[3] + timedelta(hours=3) and ends[before[4]["id"]] == new[4] + timedelta(hours=1)
        agree(world, row)
    row = change(world, row, recurrence_rule="FREQ=DAILY;INTERVAL=3")
    assert found() == where(moments(row, 6))
    assert make(world, "6 days") == 0, "the third is skipped, and the others are there"


def test_exceptions_beyond_what_is_made(world):
    """A day that is left out is that day, and one of a weekly show that goes to the next day goes along."""
    row = daily(world)
    make(world, "8 days")
    far = moments(row, 40)[30]
    skip = lambda row, moment: world.influencer.api.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at=str(moment))  # noqa: E731
    skip(row, far)
    skipped = lambda row: [(at(one["original_starts_at"]), one["fits"]) for one in world.anon.select("live_stream_schedule_exceptions", where={"schedule_id": row["id"]})]  # noqa: E731
    row = put(world, row, days=1)
    assert skipped(row) == [(far, True)], "the same day"
    row = put(world, row, minutes=25)
    assert skipped(row) == [(far + timedelta(minutes=25), True)]
    row = change(world, row, recurrence_rule="FREQ=WEEKLY;BYDAY=" + "MOTUWETHFRSASU"[2 * far.weekday() :][:2])
    assert skipped(row) == [(far + timedelta(minutes=25), True)]
    assert far + timedelta(minutes=25) not in starts(world, row), "the sessions pass it by"
    weekly = daily(world, recurrence_rule="FREQ=WEEKLY")
    make(world, "8 days")
    third = moments(weekly, 3)[2]
    skip(weekly, third)
    weekly = put(world, weekly, days=1)
    assert skipped(weekly) == [(third + timedelta(days=1), True)]


def left_out(world, row):
    return [(at(one["original_starts_at"]), one["fits"]) for one in world.anon.select("live_stream_schedule_exceptions", where={"schedule_id": row["id"]})]


def test_what_is_left_out_right_after_the_last_session_is_counted_along(world):
    """A week and a day later the third is still the third; the fourth would be about another week than it was meant for."""
    for nth, found in ((2, lambda row, _: (moments(row, 3)[2], True)), (3, lambda _, old: (old, False))):
        row = daily(world, recurrence_rule="FREQ=WEEKLY")
        make(world, "8 days 1 hour")
        old = moments(row, 4)[nth]
        world.influencer.api.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at=str(old))
        row = put(world, row, days=8)
        assert left_out(world, row) == [found(row, old)]


def test_what_is_left_out_far_away_goes_past_no_neighbour(world):
    """The fourth of every third day is before what was the third of every week."""
    row = daily(world, recurrence_rule="FREQ=WEEKLY")
    make(world, "8 days 1 hour")
    far, next_day = moments(row, 4)[3], at(f"{row['scheduled_date']}T00:00Z") + timedelta(days=1)
    world.influencer.api.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at=str(far))
    row = change(world, row, scheduled_date=f"{next_day:%Y-%m-%d}", recurrence_rule="FREQ=DAILY;INTERVAL=3")
    assert left_out(world, row) == [(far, False)]


def test_an_exception_that_has_lost_its_place_takes_nobody_elses(world):
    """The sixth was left out, and there are three: as the third comes to that day, it takes place."""
    row = daily(world)
    make(world, "3 days 1 hour")
    before, old = ids(world, row), moments(row, 6)
    world.influencer.api.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at=str(old[5]))
    row = change(world, row, recurrence_rule="FREQ=DAILY;COUNT=3")
    row = put(world, row, days=3)
    assert ids(world, row) == before and starts(world, row) == old[3:]
    assert left_out(world, row) == [(old[5], False)]


def test_what_was_moved_from_the_past_stays(world):
    row = daily(world, -60 * 24 * 3 - 90)
    make(world)
    before, past = ids(world, row), moments(row, 1)[0] - timedelta(days=1)
    moved_to = this_minute() + timedelta(days=1, minutes=11)
    move = {"schedule_id": row["id"], "original_starts_at": str(past), "starts_at": str(moved_to), "title": "Again"}
    world.influencer.api.rpc("live_stream_move_occurrence", **move)
    assert make(world) == 1
    (again,) = set(ids(world, row)) - set(before)
    row = put(world, row, minutes=40)
    assert starts(world, row) == sorted([*moments(row, len(before)), moved_to])
    assert set(ids(world, row)) == {*before, again} and world.read({"id": again})["title"] == "Again"
    assert make(world, "3 days") == 0
    agree(world, row)


# What has begun, and what the host has done.


def test_what_is_on_air_or_called_off_stays_so(world):
    row = daily(world, -20)
    make(world)
    on_air, second, cancelled, deleted, *rest = made(world, row)
    world.start(on_air)
    world.set_session(cancelled, status="cancelled")
    world.influencer.api.delete("live_stream_sessions", where={"id": deleted["id"]})
    old = world.read(on_air)
    row = put(world, row, minutes=30)
    new = moments(row, 5)
    assert world.read(on_air)["scheduled_start_time"] == old["scheduled_start_time"]
    assert ids(world, row) == [second["id"], *(one["id"] for one in rest)] and starts(world, row) == [new[1], *new[4:]]
    assert make(world, "3 days 2 hours") == 0, "none is made for what is on air, called off or deleted"
    world.end(on_air)
    row = put(world, row, minutes=15)
    assert ids(world, row)[0] == second["id"] and starts(world, row)[0] == moments(row, 2)[1]
    assert make(world, "3 days 2 hours") == 0


def test_today_is_over_as_it_is_put_earlier_and_comes_again_as_it_is_put_later(world):
    row = daily(world, 60, expected_duration_minutes=30)
    make(world)
    before = ids(world, row)
    row = put(world, row, hours=-3, days=0)
    assert ids(world, row) == before and starts(world, row) == moments(row, len(before)), "the first is the next"
    row = put(world, row, hours=3, days=0)
    assert ids(world, row) == before and starts(world, row) == moments(row, len(before))


def test_todays_show_that_is_done_keeps_tomorrows_where_it_is(world):
    """What comes again today is another show."""
    row = daily(world, 2)
    make(world)
    first, *others = made(world, row)
    world.start(first)
    world.end(first)
    row = put(world, row, minutes=40)
    assert ids(world, row) == [one["id"] for one in others] and starts(world, row) == moments(row, len(others) + 1)[1:]
    assert made(world, row, "ended")[0]["id"] == first["id"] and make(world, "3 days") == 0


def hours_later(world, row, hours):
    """The schedule and what was made for it, as if so many hours had gone by since."""
    with world.db.connect() as connection, connection.transaction():
        connection.execute("set local session_replication_role = replica")
        by = {"by": f"{hours} hours", "id": row["id"]}
        for changes in (
            "live_stream_schedule set scheduled_date = (scheduled_date + scheduled_start_time - %(by)s::interval)::date,"
            " scheduled_start_time = scheduled_start_time - %(by)s::interval where id = %(id)s",
            "live_stream_sessions set scheduled_start_time = scheduled_start_time - %(by)s::interval,"
            " scheduled_end_time = scheduled_end_time - %(by)s::interval"
            " where id in (select session_id from public.live_stream_schedule_sessions where schedule_id = %(id)s)",
            "live_stream_schedule_sessions set original_local_start = original_local_start - %(by)s::interval,"
            " original_starts_at = original_starts_at - %(by)s::interval, starts_at = starts_at - %(by)s::interval,"
            " ends_at = ends_at - %(by)s::interval where schedule_id = %(id)s",
        ):
            connection.execute(f"update public.{changes}", by)
    return world.influencer.api.select("live_stream_schedule", where={"id": row["id"]}, one=True)


@pytest.mark.parametrize("minutes, goes", [(719, True), (720, False), (721, False)])
def test_what_nobody_began_goes_to_the_nearest(world, minutes, goes):
    """Today's show, which is over, is the one that is put later where tomorrow's was not nearer, or as near, to that time."""
    row = daily(world, 2)
    make(world)
    row = hours_later(world, row, 3)
    old = made(world, row)
    row = put(world, row, minutes=minutes)
    left = old if goes else old[1:]
    assert ids(world, row) == [one["id"] for one in left] and starts(world, row) == moments(row, len(left))
    assert world.read(old[0])["status"] == ("scheduled" if goes else "cancelled")


def test_what_is_over_and_done_is_not_todays_show_once_more(world):
    """It has its session already: what is put to later today is another one."""
    row = daily(world, 2)
    make(world)
    done, *others = ids(world, row)
    world.start({"id": done})
    world.end({"id": done})
    row = hours_later(world, row, 3)
    row = put(world, row, hours=4)
    today, *later = moments(row, len(others) + 1)
    assert ids(world, row) == others and starts(world, row) == later
    assert make(world, "3 days") == 1 and starts(world, row)[0] == today
    (kept,) = made(world, row, "ended")
    assert (kept["id"], kept["wall"] < today.replace(tzinfo=None)) == (done, True)


def test_an_occurrence_that_was_added_stays_as_the_series_comes_there(world):
    """It goes before: the session of the series' own is called off."""
    row = daily(world)
    make(world)
    before, added_at = made(world, row), moments(row, 2)[1] + timedelta(minutes=30)
    world.influencer.api.rpc("live_stream_add_occurrence", schedule_id=row["id"], starts_at=str(added_at))
    assert make(world) == 1
    (added,) = set(ids(world, row)) - {one["id"] for one in before}
    row = put(world, row, minutes=30)
    new = moments(row, len(before))
    assert starts(world, row) == new and ids(world, row) == [before[0]["id"], added, *(one["id"] for one in before[2:])]
    assert world.read(before[1])["status"] == "cancelled" and make(world, "3 days") == 0


def test_over_a_change_of_clocks(world):
    """At a time that clocks skip in spring, and back."""
    row = world.schedule(timezone="Europe/Berlin", scheduled_date=f"{this_minute() + timedelta(days=1):%Y-%m-%d}", recurrence_rule="FREQ=WEEKLY;BYDAY=SU",
                         scheduled_start_time="01:30", scheduled_end_time=None)  # fmt: skip
    make(world, "360 days")
    before = ids(world, row)
    assert len(before) > 48
    for time_of_day in ("02:30", "03:30", "01:30"):
        row = change(world, row, scheduled_start_time=time_of_day)
        assert ids(world, row) == before and starts(world, row) == moments(row, len(before))
    for zone in ("America/New_York", "UTC", "Pacific/Auckland"):
        row = change(world, row, timezone=zone)
        assert ids(world, row) == before[: len(before)] and starts(world, row) == moments(row, len(before))


def test_a_schedule_that_was_split_and_put_later(world):
    row = daily(world)
    make(world, "6 days 1 hour")
    before, new_start = ids(world, row), str(moments(row, 3)[2])
    later = world.influencer.api.rpc("live_stream_schedule_split", schedule_id=row["id"], original_starts_at=new_start)
    later, row = put(world, later, minutes=45), put(world, row, minutes=-45)
    assert (ids(world, row), ids(world, later)) == (before[:2], before[2:])
    assert starts(world, later) == moments(later, 4)
    assert make(world, "6 days") == 0
