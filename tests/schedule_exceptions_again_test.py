"""What is different about an occurrence and is saved again: an upsert does what the same update does, or refuses as it does."""

from __future__ import annotations

import pytest

from postgrest import RequestError
from refusals import refused

DAILY = {"scheduled_date": "2030-01-01", "scheduled_start_time": "10:00", "timezone": "UTC", "recurrence_rule": "FREQ=DAILY"}
KEY = "schedule_id,original_starts_at"
# What there is, at which time of the rule.
THERE = {
    "skip": {"kind": "skip", "original_starts_at": "2030-01-03T10:00:00+00:00"},
    "move": {"kind": "move", "original_starts_at": "2030-01-03T10:00:00+00:00", "starts_at": "2030-01-03T12:00:00+00:00"},
    "title": {"kind": "move", "original_starts_at": "2030-01-03T10:00:00+00:00", "title": "Special"},
    "add": {"kind": "add", "original_starts_at": "2030-01-03T15:00:00+00:00"},
}
SENT = [
    {"kind": "skip"}, {"kind": "move"}, {"kind": "move", "starts_at": "2030-01-03T18:00Z"}, {"kind": "move", "title": "Other"},
    {"kind": "move", "starts_at": "2030-01-03T18:00Z", "ends_at": "2030-01-03T17:00Z"}, {"kind": "add"}, {"kind": "move", "title": None},
    {"kind": "move", "title": "\u200b"}, {"kind": "move", "starts_at": None, "ends_at": "2030-01-03T20:00Z"}, {"kind": None},
    {"kind": "move", "starts_at": "infinity"}, {"kind": "skip", "title": "x" * 300}, {"kind": "move", "fits": True}, {"kind": "skip", "fits": False},
    {"kind": "move", "created_at": "2020-01-01T00:00Z"}, {"kind": "move", "local_start": "2030-01-03T07:00"},
]  # fmt: skip
MOMENTS = ("created_at", "updated_at")


def made(world, there, fits):
    row = world.schedule("Show", **DAILY)
    one = world.influencer.api.insert("live_stream_schedule_exceptions", {"schedule_id": row["id"]} | THERE[there])
    if not fits:
        world.influencer.api.update("live_stream_schedule", {"recurrence_rule": "FREQ=WEEKLY;BYDAY=TU"}, where={"id": row["id"]}, one=True)
    return one


def answer(call, one):
    """Without what sets the two schedules apart."""
    try:
        row = call()
    except RequestError as error:
        return f"{error.sqlstate} {error.message} {error.detail} {error.hint}".replace(one["schedule_id"], "…")
    return {name: value for name, value in row.items() if name not in ("schedule_id", *MOMENTS)}


@pytest.mark.parametrize("who", ["influencer", "service"])
@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("there", THERE)
def test_what_an_upsert_does_is_what_the_update_does(world, there, fits, who):
    api = world.service if who == "service" else world.influencer.api
    done = 0
    for sent in SENT:
        one, other = made(world, there, fits), made(world, there, fits)
        key = {name: one[name] for name in ("schedule_id", "original_starts_at")}
        updated = answer(lambda: api.update("live_stream_schedule_exceptions", sent, where=key, one=True), one)
        body = sent | {"schedule_id": other["schedule_id"], "original_starts_at": other["original_starts_at"]}
        saved = answer(lambda: api.upsert("live_stream_schedule_exceptions", body, on_conflict=KEY), other)
        assert saved == updated, sent
        done += isinstance(saved, dict)
    assert done >= 8


def test_at_the_limit_what_is_there_is_saved_again_and_nothing_comes(world):
    one = made(world, "move", True)
    world.db.set(exceptions_per_schedule=1)
    body = {"schedule_id": one["schedule_id"], "original_starts_at": one["original_starts_at"], "kind": "skip"}
    assert world.influencer.api.upsert("live_stream_schedule_exceptions", body, on_conflict=KEY)["kind"] == "skip"
    with refused("23514", hint=True):
        world.influencer.api.upsert("live_stream_schedule_exceptions", body | {"original_starts_at": "2030-01-04T10:00Z"}, on_conflict=KEY)


@pytest.mark.parametrize("fits", [True, False])
def test_a_stranger_saves_nothing_and_what_is_sent_once_more_is_ignored(world, fits):
    one = made(world, "move", fits)
    body = {"schedule_id": one["schedule_id"], "original_starts_at": one["original_starts_at"], "kind": "skip"}
    for api in (world.new_influencer().api, world.viewer.api):
        for ignore in (False, True):
            with refused("42501"):
                api.upsert("live_stream_schedule_exceptions", body, on_conflict=KEY, ignore=ignore)
    assert world.influencer.api.upsert("live_stream_schedule_exceptions", body, on_conflict=KEY, ignore=True) in ([], None)
    (now,) = world.influencer.api.select("live_stream_schedule_exceptions", where={"schedule_id": one["schedule_id"]})
    assert (now["kind"], now["starts_at"]) == ("move", "2030-01-03T12:00:00+00:00")
