"""Locks of ours are of ids, and ids are chosen by clients: nobody chooses one that another person's request waits for."""

from __future__ import annotations

import uuid

from people import people
from sizes import own_db
from steps import Steps, all_end_well

pytestmark = own_db("holds transactions open")


def halves_swapped(name: str) -> str:
    number = uuid.UUID(name).int
    return str(uuid.UUID(int=(number >> 64) | (number & (1 << 64) - 1) << 64))


def alike(name: str) -> list[str]:
    """Ids that a weak sum of the halves takes for this one."""
    high, low = divmod(uuid.UUID(name).int, 1 << 64)
    return [halves_swapped(name), *(str(uuid.UUID(int=(high ^ mask) << 64 | low ^ mask)) for mask in (1, 1 << 63, high, low))]


JOIN = "select * from public.live_stream_join(%s)"


def test_a_session_with_an_id_like_another_one(plain_db):
    world = people(plain_db)
    session = world.session()
    with Steps(plain_db) as steps:
        for twin in alike(session["id"]):
            attacker = world.new_influencer()
            holding = steps.client(attacker)
            columns = "(id, influencer_id, title, status) values (%s, %s, 'Twin', 'live')"
            holding.run(f"insert into public.live_stream_sessions {columns}", [twin, attacker.influencer_id])
            holding.run("select * from public.live_stream_end(%s)", [twin])
        all_end_well(steps.client(world.new_user()).start(JOIN, [session["id"]]))
        all_end_well(steps.client(world.influencer).start("select * from public.live_stream_end(%s)", [session["id"]]))


def test_an_influencer_with_an_id_like_another_one(plain_db):
    world = people(plain_db)
    victim = world.new_influencer()
    with Steps(plain_db) as steps:
        for twin in alike(victim.influencer_id):
            attacker = world.new_user()
            plain_db.sql("insert into public.influencers (id, user_id, display_name) values (%s, %s, 'Twin')", [twin, attacker.user_id])
            holding = steps.client(attacker)
            holding.run("select * from public.live_stream_create('A show', influencer_id => %s)", [twin])
            holding.run("select * from public.live_stream_ban(%s, influencer_id => %s)", [world.new_user().user_id, twin])
        host = steps.client(victim)
        all_end_well(host.start("select * from public.live_stream_create('A show')"))
        all_end_well(host.start("select * from public.live_stream_ban(%s)", [world.new_user().user_id]))


def test_an_influencer_with_the_id_of_a_user(plain_db):
    """As apps have it whose influencers are users; and as anybody makes it who has read a user's id in the chat."""
    world = people(plain_db)
    session, victim = world.session(), world.new_user()
    attacker = world.new_user()
    plain_db.sql(
        "insert into public.influencers (id, user_id, display_name) values (%s, %s, 'Twin')", [victim.user_id, attacker.user_id]
    )
    with Steps(plain_db) as steps:
        holding, joining = steps.client(attacker), steps.client(victim)
        holding.run("select * from public.live_stream_create('A show')")
        all_end_well(joining.start(JOIN, [session["id"]]))


def test_a_guest_who_names_a_user(plain_db):
    world = people(plain_db)
    session, victim = world.session(), world.new_user()
    with Steps(plain_db) as steps:
        holding, joining = steps.client("anon"), steps.client(victim)
        named = "select * from public.live_stream_join(%s, viewer_id => %s)"
        holding.run(named, [session["id"], victim.user_id])
        all_end_well(joining.start(JOIN, [session["id"]]))
