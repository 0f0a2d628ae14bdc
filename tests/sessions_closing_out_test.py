"""A session that becomes private or unlisted closes out who may not see it any more."""

from __future__ import annotations

from datetime import datetime, timedelta

import psycopg
import pytest

from busy import until
from moderating import accept, invitation, invite, moderator, uninvite  # noqa: F401
from people import at_once, people
from postgrest import RequestError
from recount import differences
from refusals import refused
from sizes import own_db
from steps import Steps, all_end_well, sqlstate
from viewing import counts, counts_at_rest, join, rows, viewer_row

HIDE = "update public.live_stream_sessions set visibility = %s where id = %s returning *"


@pytest.fixture
def crowd(world, moderator):  # noqa: F811
    """A public session that is live, and who watches it: their calls, and their rows."""
    session = world.session()
    guest = world.new_user()
    invite(world.influencer, session, guest)
    who = {"owner": world.influencer.api, "moderator": moderator.api, "guest": guest.api, "viewer": world.viewer.api}
    viewers = {name: join(api, session) for name, api in who.items()} | {"anon": join(world.anon, session)}
    viewers["inserted"] = world.join(session, world.stranger)
    viewers["inserted anon"] = world.join(session)
    who |= {"anon": world.anonymous(viewers["anon"]), "inserted": world.stranger.api}
    return session, who | {"inserted anon": world.anonymous(viewers["inserted anon"])}, viewers


def watching(world, viewers):
    return {name for name, row in viewers.items() if viewer_row(world, row)["is_still_watching"]}


LET_IN = {"owner", "moderator", "guest"}
WITH_AN_ACCOUNT = LET_IN | {"viewer", "inserted"}


def by_host(world, session, visibility):
    return world.set_session(session, visibility=visibility)


def by_server(world, session, visibility):
    world.service.update("live_stream_sessions", {"visibility": visibility}, where={"id": session["id"]}, one=True)


def by_owner(world, session, visibility):
    world.db.owner(HIDE, [visibility, session["id"]])


def with_other_columns(world, session, visibility):
    world.set_session(session, visibility=visibility, title="Only for friends", max_viewers=50)


def of_all(world, session, visibility):
    world.influencer.api.update("live_stream_sessions", {"visibility": visibility}, where={"influencer_id": world.influencer.influencer_id})


def saved_again(world, session, visibility):
    with Steps(world.db) as steps:
        client = steps.client(world.influencer)
        client.run(
            "insert into public.live_stream_sessions (id, influencer_id, title, visibility) values (%s, %s, 'Saved', %s)"
            " on conflict (id) do update set visibility = excluded.visibility, title = excluded.title",
            [session["id"], world.influencer.influencer_id, visibility],
        )
        client.commit()


@pytest.mark.parametrize("way", [by_host, by_server, by_owner, with_other_columns, of_all, saved_again])
def test_a_session_that_becomes_private(world, crowd, way):
    session, who, viewers = crowd
    way(world, session, "private")
    assert watching(world, viewers) == LET_IN
    row = world.read(session)
    assert (row["current_viewers"], row["peak_viewers"], row["total_unique_viewers"]) == (3, 7, 7)
    # Who is closed out finds no way back, and reads nothing.
    for name in who.keys() - LET_IN:
        id = viewers[name]["id"]
        assert not who[name].rpc("live_stream_heartbeat", viewer_id=id)["is_still_watching"]
        for attempt in (
            lambda: join(who[name], session, viewer_id=id),
            lambda: who[name].rpc("live_stream_join", session_code=session["session_code"], viewer_id=id),
            lambda: who[name].update("live_stream_viewers", {"is_still_watching": True}, where={"id": id}),
            lambda: who[name].insert("live_stream_viewers", {"session_id": session["id"]}),
        ):
            with refused("PT404", hint=True):
                attempt()
        for table in ("live_stream_chat", "live_stream_products"):
            assert who[name].select(table, where={"session_id": session["id"]}) == []
        assert who[name].select("live_stream_sessions", where={"id": session["id"]}) == []
        assert who[name].rpc("live_stream_session", session_id=session["id"]) == []
    for name in LET_IN:
        assert join(who[name], session)["id"] == viewers[name]["id"]
    assert counts(world, session)[0] == 3 and differences(world.db) == []


@pytest.mark.parametrize("way", [by_host, by_server, saved_again])
def test_a_session_that_becomes_unlisted(world, crowd, way):
    """Who has an account and has joined sees it on. Of the others nobody knows whether they have the code."""
    session, who, viewers = crowd
    way(world, session, "unlisted")
    assert watching(world, viewers) == WITH_AN_ACCOUNT and counts(world, session)[::2] == (5, 7)
    assert who["anon"].select("live_stream_sessions", where={"id": session["id"]}) == []
    assert who["viewer"].select("live_stream_sessions", where={"id": session["id"]})
    assert not who["anon"].rpc("live_stream_heartbeat", viewer_id=viewers["anon"]["id"])["is_still_watching"]
    # Who has the code or the id comes back, and stays.
    args = {"session_code": session["session_code"], "viewer_id": viewers["anon"]["id"]}
    assert world.anon.rpc("live_stream_join", **args)["id"] == viewers["anon"]["id"]
    assert world.join(session)["is_still_watching"] and counts(world, session)[0] == 7
    who["anon"].rpc("live_stream_share", viewer_id=viewers["anon"]["id"])
    who["anon"].rpc("live_stream_report_quality", viewer_id=viewers["anon"]["id"], disconnections_count=1)
    world.db.sql("select live_stream.flush_metrics()")
    world.set_session(session, title="Still unlisted", visibility="unlisted")
    assert counts(world, session)[0] == 7
    # And then it becomes private.
    way(world, session, "private")
    assert watching(world, viewers) == LET_IN and counts(world, session)[0] == 3 and differences(world.db) == []


def test_whom_the_server_lets_in_stays(world):
    """Without an account too, such as who has paid elsewhere."""
    session = world.session()
    gone = join(world.anon, session)
    world.set_session(session, visibility="private")
    viewer = world.service.rpc("live_stream_join", session_id=session["id"])
    world.anon.rpc("live_stream_share", viewer_id=viewer["id"])
    world.anon.rpc("live_stream_report_quality", viewer_id=viewer["id"], disconnections_count=1)
    world.db.sql("select live_stream.flush_metrics()")
    world.set_session(session, title="Another")
    assert viewer_row(world, viewer)["is_still_watching"] and not viewer_row(world, gone)["is_still_watching"]
    assert counts(world, session) == (1, 1, 2) and differences(world.db) == []


@pytest.mark.parametrize("first, then", [("private", "unlisted"), ("private", "public"), ("unlisted", "public"), ("private", "private")])
def test_who_may_see_it_still_stays(world, first, then):
    session, guest = world.session(visibility=first), world.new_user()
    invite(world.influencer, session, guest)
    viewers = [join(guest.api, session), join(world.influencer.api, session)]
    if first != "private":
        viewers += [join(world.anon, session), join(world.viewer.api, session)]
    world.set_session(session, visibility=then)
    assert all(viewer_row(world, row)["is_still_watching"] for row in viewers) and counts(world, session)[0] == len(viewers)


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("patch", [{"requires_sign_in": True}, {"title": "Another"}, {"is_chat_enabled": False}])
def test_other_changes_close_nobody_out(world, patch, live):
    session = world.session(live=live)
    viewers = [join(world.anon, session), join(world.viewer.api, session)]
    world.set_session(session, **patch)
    assert all(viewer_row(world, row)["is_still_watching"] for row in viewers)


@pytest.mark.parametrize("status", ["scheduled", "paused", "error", "ended"])
def test_in_whatever_state_it_is(world, status):
    session = world.session(live=status != "scheduled")
    viewer = join(world.viewer.api, session)
    if status != "scheduled":
        world.set_session(session, status=status)
    before = viewer_row(world, viewer)
    world.set_session(session, visibility="private")
    after = viewer_row(world, viewer)
    assert not after["is_still_watching"] and (status != "ended" or after == before)
    assert differences(world.db) == []


def test_it_ends_and_becomes_private_at_once(world):
    session = world.session()
    viewers = [join(world.viewer.api, session), join(world.influencer.api, session)]
    ended = world.set_session(session, status="ended", visibility="private")
    assert ended["current_viewers"] == 0
    assert {viewer_row(world, row)["left_at"] for row in viewers} == {ended["actual_end_time"]}


@own_db("backdates viewers")
def test_until_when_they_have_watched(world, db):
    session = world.session()
    silent, heard, never = (join(world.anon, session) for _ in range(3))
    db.owner("update public.live_stream_viewers set joined_at = now() - interval '600 seconds'")
    for viewer in (silent, heard):
        world.service.rpc("live_stream_heartbeat", viewer_id=viewer["id"])
    db.owner(
        "update public.live_stream_heartbeats h set seen_at = v.joined_at + interval '539 seconds'"
        " from public.live_stream_viewers v where v.id = h.viewer_id and v.id = %s",
        [silent["id"]],
    )
    hidden = world.set_session(session, visibility="private")
    closed = [viewer_row(world, viewer) for viewer in (silent, heard, never)]
    assert closed[0]["watch_duration_seconds"] == 539
    assert {row["left_at"] for row in closed[1:]} == {hidden["updated_at"]}
    for row in closed[1:]:
        stayed = datetime.fromisoformat(row["left_at"]) - datetime.fromisoformat(row["joined_at"])
        assert row["watch_duration_seconds"] == int(stayed / timedelta(seconds=1) + 0.5)
    assert world.read(session)["total_watch_time_seconds"] == sum(row["watch_duration_seconds"] for row in closed)


def test_a_schedule_that_becomes_private(world):
    schedule = world.schedule(scheduled_date=f"{datetime.now() + timedelta(days=2):%Y-%m-%d}")
    world.db.owner("select live_stream.materialize_occurrences()")
    (made,) = world.service.select("live_stream_schedule_sessions", where={"schedule_id": schedule["id"]})
    session = {"id": made["session_id"]}
    viewers = [join(world.viewer.api, session), join(world.anon, session), join(world.influencer.api, session)]
    world.influencer.api.update("live_stream_schedule", {"visibility": "private"}, where={"id": schedule["id"]})
    assert [viewer_row(world, row)["is_still_watching"] for row in viewers] == [False, False, True]
    assert world.read(session)["visibility"] == "private" and differences(world.db) == []


def test_a_rollback_brings_them_back(world, crowd):
    session, _, viewers = crowd
    with Steps(world.db) as steps:
        host = steps.client(world.influencer)
        host.run("savepoint a")
        host.run(HIDE, ["private", session["id"]])
        host.run("rollback to savepoint a")
        host.commit()
        assert watching(world, viewers) == set(viewers)
        host.run(HIDE, ["private", session["id"]])
        host.rollback()
    assert watching(world, viewers) == set(viewers) and counts(world, session)[0] == 7
    assert differences(world.db) == []


# At the same time.


def test_who_has_its_row_just_now_is_closed_later(plain_db):
    """The worker closes it, or its own transaction as it commits."""
    world = people(plain_db)
    for visibility, change in (("private", "browser = 'lynx'"), ("private", None), ("unlisted", "browser = 'lynx'")):
        session = world.session(by=world.new_influencer())
        with_account, anonymous = join(world.viewer.api, session), join(world.anon, session)
        with Steps(plain_db) as steps:
            holder, own = steps.client(), steps.client(world.viewer)
            if change:
                own.run(f"update public.live_stream_viewers set {change} where id = %s", [with_account["id"]])
            holder.run("select from public.live_stream_viewers where id = any (%s) for no key update skip locked",
                       [[with_account["id"], anonymous["id"]]])  # fmt: skip
            world.service.update("live_stream_sessions", {"visibility": visibility}, where={"id": session["id"]})
            assert viewer_row(world, anonymous)["is_still_watching"]
            own.commit()
            holder.rollback()
        until(lambda: not viewer_row(world, anonymous)["is_still_watching"])
        until(lambda: viewer_row(world, with_account)["is_still_watching"] == (visibility == "unlisted"))
    until(lambda: differences(plain_db) == [])


@pytest.mark.parametrize("who", ["viewer", "anon"])
@pytest.mark.parametrize("way", ["insert", "function", "comes back"])
def test_a_join_that_was_admitted_before_and_commits_after(plain_db, who, way):
    """It comes to a private session, and is refused."""
    world = people(plain_db)
    session = world.session()
    api = world.viewer.api if who == "viewer" else world.anon
    gone = api.rpc("live_stream_leave", viewer_id=join(api, session)["id"])
    with Steps(plain_db) as steps:
        coming = steps.client(world.viewer if who == "viewer" else "anon")
        coming.run({
            "insert": "insert into public.live_stream_viewers (session_id) values (%(session)s)",
            "function": "select * from public.live_stream_join(%(session)s)",
            "comes back": "select * from public.live_stream_join(%(session)s, viewer_id => %(id)s)",
        }[way], {"session": session["id"], "id": gone["id"]})  # fmt: skip
        world.set_session(session, visibility="private")
        with pytest.raises(psycopg.Error) as refusal:
            coming.commit()
        assert refusal.value.sqlstate == "PT404"
    assert counts(world, session) == (0, 1, 1) and len(rows(world, session)) == 1
    assert differences(plain_db) == []


@pytest.mark.parametrize("who", ["viewer", "anon"])
@pytest.mark.parametrize("visibility", ["private", "unlisted"])
def test_a_join_that_commits_between_the_statement_and_the_commit(plain_db, visibility, who):
    world = people(plain_db)
    session = world.session()
    api = world.viewer.api if who == "viewer" else world.anon
    with Steps(plain_db) as steps:
        host = steps.client(world.influencer)
        host.run(HIDE, [visibility, session["id"]])
        viewer = join(api, session)
        assert viewer["is_still_watching"]
        host.commit()
    stays = visibility == "unlisted" and who == "viewer"
    assert viewer_row(world, viewer)["is_still_watching"] is stays
    assert counts_at_rest(world, session) == (int(stays), 1, 1) and differences(plain_db) == []


def test_joining_and_hiding_at_once(world):
    for round in range(4):
        session = world.session(by=(host := world.new_influencer()), max_viewers=(None, 1000, 40, 30)[round])
        people = [world.new_user() for _ in range(8)]
        calls = [lambda w=w: world.join(session, w) for w in people] + [lambda: join(world.anon, session) for _ in range(8)]
        calls.insert(round * 4, lambda: world.set_session(session, by=host, visibility="private"))
        for outcome in at_once(*calls):
            assert not isinstance(outcome, RequestError) or outcome.sqlstate == "PT404", str(outcome)
        until(lambda: not any(row["is_still_watching"] for row in rows(world, session)))
        world.db.sql("select live_stream.flush_metrics()")
        assert world.service.select("live_stream_sessions", where={"id": session["id"]}, one=True)["current_viewers"] == 0
    until(lambda: differences(world.db) == [])


@pytest.mark.parametrize("first", ["uninvites", "hides"])
def test_a_guest_is_uninvited_at_the_same_moment(plain_db, first):
    """Neither sees what the other one does."""
    world = people(plain_db)
    session = world.session()
    invite(world.influencer, session, world.viewer)
    viewer = join(world.viewer.api, session)
    with Steps(plain_db) as steps:
        uninviting, hiding = steps.client(world.influencer), steps.client(world.influencer)
        uninviting.run("select * from public.live_stream_uninvite(%s, %s)", [session["id"], world.viewer.user_id])
        hiding.run(HIDE, ["private", session["id"]])
        for client in (uninviting, hiding) if first == "uninvites" else (hiding, uninviting):
            client.commit()
    until(lambda: not viewer_row(world, viewer)["is_still_watching"])
    until(lambda: differences(plain_db) == [])


def test_somebody_accepts_an_invitation_meanwhile(plain_db):
    """Who is a guest as it becomes private stays, and who is one a moment later joins again."""
    world = people(plain_db)
    session = world.session()
    token = invitation(world.influencer, session, max_uses=2)["token"]
    before, later = join(world.viewer.api, session), join(world.stranger.api, session)
    accept(world.viewer, token)
    with Steps(plain_db) as steps:
        host, accepting = steps.client(world.influencer), steps.client(world.stranger)
        accepting.run("select * from public.live_stream_accept_invitation(%s)", [token])
        host.run(HIDE, ["private", session["id"]])
        host.commit()
        accepting.commit()
    assert viewer_row(world, before)["is_still_watching"] and not viewer_row(world, later)["is_still_watching"]
    assert join(world.stranger.api, session)["id"] == later["id"] and differences(plain_db) == []


def test_in_a_transaction_with_one_snapshot(plain_db):
    """It is told to try again where somebody has come whom it cannot see."""
    world = people(plain_db)
    for joins in (True, False):
        session = world.session(by=(host := world.new_influencer()))
        viewer = join(world.viewer.api, session)
        with Steps(plain_db) as steps:
            client = steps.client(host)
            client.run("set transaction isolation level repeatable read")
            client.run(HIDE, ["private", session["id"]])
            if joins:
                join(world.anon, session)
                with pytest.raises(psycopg.errors.SerializationFailure):
                    client.commit()
            else:
                client.commit()
        assert viewer_row(world, viewer)["is_still_watching"] is joins
    until(lambda: differences(plain_db) == [])


def test_nobody_waits_for_a_host_who_takes_its_time(plain_db):
    """But who writes to a row that it closes."""
    world = people(plain_db)
    session = world.session()
    viewer, gone = join(world.viewer.api, session), join(world.anon, session)
    world.anon.rpc("live_stream_leave", viewer_id=gone["id"])
    with Steps(plain_db) as steps:
        host = steps.client(world.influencer)
        host.run(HIDE, ["private", session["id"]])
        assert join(world.stranger.api, session) and join(world.anon, session)
        assert join(world.anon, session, viewer_id=gone["id"])["is_still_watching"]
        world.viewer.api.rpc("live_stream_heartbeat", viewer_id=viewer["id"])
        world.say(session, world.viewer)
        leaving = steps.client(world.viewer)
        left = leaving.start("select * from public.live_stream_leave(%s)", [viewer["id"]])
        leaving.waits()
        host.commit()
        all_end_well(left)
    assert counts_at_rest(world, session)[0] == 0 and sqlstate(left) is None
    assert not any(row["is_still_watching"] for row in rows(world, session)) and differences(plain_db) == []


@own_db("fills a session")
def test_a_crowd_is_closed_out_by_one_statement(world, db):
    """It costs about what ending costs."""
    count = 20_000
    costs = []
    for patch in ({"status": "ended"}, {"visibility": "private"}):
        session = world.session(by=(host := world.new_influencer()), max_viewers=None)
        db.sql("insert into public.live_stream_viewers (session_id) select %s from generate_series(1, %s)", [session["id"], count])
        db.sql("select live_stream.flush_metrics()")
        guest = world.new_user()
        invite(host, session, guest)
        join(guest.api, session)
        began = db.value("select clock_timestamp()")
        world.set_session(session, by=host, **patch)
        costs.append((db.value("select clock_timestamp()") - began).total_seconds())
        watch = 0 if "status" in patch else 1
        row = world.service.select("live_stream_sessions", where={"id": session["id"]}, one=True)
        assert (row["current_viewers"], row["total_unique_viewers"]) == (watch, count + 1)
    assert costs[1] < 2 * costs[0] + 1, costs
    assert differences(db) == []
