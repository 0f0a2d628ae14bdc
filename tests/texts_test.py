"""Texts that show nothing are empty wherever a text may not be empty; and one emoji is one reaction."""

from __future__ import annotations

import emoji
import pytest

from chatting import counts, react, send, stored, unreact
from refusals import refused
from sizes import both_shapes

# Nothing to see: white space, controls, what Unicode ignores or has as a filler, what fonts draw as a space, mixtures.
NOTHING = {
    "nothing": "", "spaces": " \t\n", "no-break space": "\u00a0", "ideographic space": "\u3000", "line separator": "\u2028",
    "zero width space": "\u200b", "word joiner": "\u2060", "byte order mark": "\ufeff", "soft hyphen": "\u00ad",
    "hangul filler": "\u3164", "hangul jamo fillers": "\u115f\u1160", "halfwidth filler": "\uffa0", "braille blank": "\u2800",
    "a control": "\u0001", "delete": "\u007f", "next line": "\u0085", "a joiner alone": "\u200d", "a non-joiner": "\u200c",
    "a style alone": "\ufe0f", "a rare style": "\U000e0100", "an override": "\u202e", "an isolate": "\u2067\u2069", "a mark": "\u200f",
    "invisible times": "\u2062", "mongolian separator": "\u180e", "tags": "\U000e0041\U000e007f", "an annotation": "\ufff9\ufffb",
    "musical format": "\U0001d173", "null notehead": "\U0001d159", "khitan filler": "\U00016fe4", "grapheme joiner": "\u034f",
    "khmer inherent vowel": "\u17b4", "a mixture": " \u200b\ufeff\n\u3164\u00ad\u2800\u2060 ",
}
# Something to see, which stays byte for byte.
SHOWN = [
    "👩\u200d👩\u200d👧", "❤\ufe0f", "❤", "❤\ufe0e", "1\ufe0f\u20e3", "🏳\ufe0f\u200d🌈", "🇩🇪", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "می\u200cخواهم", "क्\u200dष", "\u200bx", " x ", "a\u00adb", "\u0301", "\u2800x", "\ufeffx", "\u0600",
]  # fmt: skip
nothing = pytest.mark.parametrize("text", NOTHING.values(), ids=NOTHING)


@nothing
def test_a_title_that_shows_nothing_is_empty(world, text):
    session = world.session()
    schedule = world.schedule(is_recurring=True, recurrence_pattern="daily")
    for title in (lambda: world.session(text, live=False), lambda: world.set_session(session, title=text)):
        with refused("23514", "the title of a session is empty", hint=True):
            title()
    with refused("23514", "the title of a session is empty", hint=True):
        world.influencer.api.rpc("live_stream_create", title=text)
    with refused("23514", "the title of the schedule is empty", hint=True):
        world.schedule(text)
    with refused("23514", "the title of the schedule is empty", hint=True):
        world.influencer.api.update("live_stream_schedule", {"title": text}, where={"id": schedule["id"]})
    with refused("23514", "the title of the occurrence is empty", hint=True):
        world.influencer.api.rpc(
            "live_stream_move_occurrence", schedule_id=schedule["id"], original_starts_at="2030-01-08T15:00Z",
            starts_at="2030-01-08T16:00Z", title=text,
        )  # fmt: skip
    notification = {"user_id": world.viewer.user_id, "type": "special_offer"}
    with refused("23514", "the title of the notification is empty", hint=True):
        world.service.insert("live_stream_notifications", notification | {"title": text})
    sent = world.service.insert("live_stream_notifications", notification | {"title": "Half price"})
    with refused("23514", "the title of the notification is empty", hint=True):
        world.service.update("live_stream_notifications", {"title": text}, where={"id": sent["id"]})


@nothing
def test_a_message_that_shows_nothing_is_empty(world, text):
    session = world.session()
    message = world.say(session, world.viewer)
    for who in (world.viewer, world.influencer):
        with refused("23514", "the message is empty", hint=True):
            world.say(session, who, text)
        with refused("23514", "the message is empty", hint=True):
            send(who, session, text)
    with refused("23514", "the message is empty", hint=True):
        world.viewer.api.rpc("live_stream_edit_message", message_id=message["id"], message=text)
    with refused("23514", "the message is empty", hint=True):
        world.service.insert("live_stream_chat", {"session_id": session["id"], "message": text})
    with refused("23514", "the reaction is empty", hint=True):
        react(world.viewer, message, text)
    with refused("23514", "the reaction is empty", hint=True):
        world.service.insert(
            "live_stream_chat_reactions", {"message_id": message["id"], "user_id": world.viewer.user_id, "reaction": text}
        )
    assert stored(world, message)["message"] == "hello"
    assert counts(world, session) == (1, 0)


@both_shapes
@nothing
def test_where_a_text_may_be_left_out_one_that_shows_nothing_is_left_out(world, text):
    session = world.session()
    world.join(session, world.viewer)
    ban = world.influencer.api.rpc("live_stream_ban", user_id=world.viewer.user_id, session_id=session["id"], reason=text)
    assert ban["reason"] is None
    if not world.db.is_supabase:
        host = world.influencer.api
        host.update("influencers", {"display_name": text}, where={"id": world.influencer.influencer_id}, select=None)
        (row,) = world.db.sql("select display_name from influencers where id = %s", [world.influencer.influencer_id])
        assert row["display_name"] == ""


@pytest.mark.parametrize("text", SHOWN)
def test_a_text_that_shows_something_is_kept_as_it_is(world, text):
    session = world.session(text)
    assert session["title"] == text
    message = world.say(session, world.viewer, text, username=text)
    assert (message["message"], message["username"]) == (text, text)
    assert send(world.viewer, session, text)["message"] == text
    assert world.schedule(text)["title"] == text


def test_an_events_name_that_shows_nothing_is_none(world):
    ics = (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART:20300107T150000Z\r\nDTEND:20300107T160000Z\r\n"
        "RRULE:FREQ=DAILY\r\nSUMMARY:Show\r\nEND:VEVENT\r\nBEGIN:VEVENT\r\nUID:1\r\nRECURRENCE-ID:20300108T150000Z\r\n"
        "DTSTART:20300108T170000Z\r\nDTEND:20300108T180000Z\r\nSUMMARY:\u200b\u3164\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    (row,) = world.influencer.api.rpc("live_stream_import_ics", influencer_id=world.influencer.influencer_id, ics=ics)
    (moved,) = world.anon.select("live_stream_schedule_exceptions", where={"schedule_id": row["schedule_id"]})
    assert (moved["kind"], moved["title"]) == ("move", None)


# Reactions.

# As Unicode lists them, in which U+FE0F stands where a character is drawn as a text without.
EMOJI = [
    "❤\ufe0f", "1\ufe0f\u20e3", "*\ufe0f\u20e3", "🏳\ufe0f\u200d🌈", "🏳\ufe0f\u200d⚧\ufe0f", "👁\ufe0f\u200d🗨\ufe0f", "❤\ufe0f\u200d🔥",
    "👩\u200d❤\ufe0f\u200d💋\u200d👨", "🕵🏻\u200d♂\ufe0f", "☝\ufe0f", "☀\ufe0f", "✔\ufe0f", "🅰\ufe0f", "™\ufe0f", "🔥", "⚡", "👍🏽", "🇩🇪",
]  # fmt: skip


@pytest.mark.parametrize("emoji", EMOJI)
def test_an_emoji_is_one_reaction_however_it_is_spelt(world, emoji):
    session = world.session()
    message = world.say(session, world.viewer)
    spellings = [emoji, emoji.replace("\ufe0f", ""), emoji.replace("\ufe0f", "\ufe0e"), f" {emoji} "]
    for given in spellings:
        assert react(world.viewer, message, given)["reactions"] == {emoji: 1}
    assert react(world.stranger, message, spellings[1])["reactions"] == {emoji: 2}
    row = {"message_id": message["id"], "user_id": world.influencer.user_id}
    world.service.insert("live_stream_chat_reactions", row | {"reaction": spellings[1]})
    assert stored(world, message)["reactions"] == {emoji: 3}
    assert unreact(world.viewer, message, spellings[2])["reactions"] == {emoji: 2}
    assert unreact(world.stranger, message, spellings[0])["reactions"] == {emoji: 1}
    assert unreact(world.influencer, message, spellings[1])["reactions"] == {}
    assert counts(world, session) == (1, 0)


def test_the_server_writes_the_same_reaction_in_any_spelling(world):
    message = world.say(world.session(), world.viewer)
    row = {"message_id": message["id"], "user_id": world.stranger.user_id}
    assert world.service.insert("live_stream_chat_reactions", row | {"reaction": "❤"})["reaction"] == "❤\ufe0f"
    with refused("23505"):
        world.service.insert("live_stream_chat_reactions", row | {"reaction": "❤\ufe0e"})
    world.db.owner(
        "insert into live_stream_chat_reactions (message_id, user_id, reaction) values (%(message_id)s, %(user_id)s, '❤')"
        " on conflict (message_id, user_id, reaction) do update set reaction = excluded.reaction",
        row,
    )
    world.service.update("live_stream_chat_reactions", {"reaction": "☀"}, where=row)
    assert stored(world, message)["reactions"] == {"☀\ufe0f": 1}


def test_other_reactions_stay_apart(world):
    message = world.say(world.session(), world.viewer)
    others = ["like", "Like", "100", "#1", "👍", "👍🏻", "👍🏿", "❤\ufe0f", "💙", "é"]
    for reaction in others:
        react(world.viewer, message, reaction)
    assert stored(world, message)["reactions"] == dict.fromkeys(others, 1)


def test_what_becomes_longer_in_its_one_form_must_fit_too(world):
    message = world.say(world.session(), world.viewer)
    assert react(world.viewer, message, "❤" * 16)["reactions"] == {"❤\ufe0f" * 16: 1}
    with refused("23514", "the reaction is empty or too long", hint=True):
        react(world.viewer, message, "❤" * 17)


def test_emoji_are_spelt_as_unicode_lists_them(world):
    """Against another program's list of all emoji, each sent without U+FE0F."""
    message = world.say(world.session(), world.viewer)
    listed = {one for one, about in emoji.EMOJI_DATA.items() if about["status"] == emoji.STATUS["fully_qualified"]}
    assert len(listed) > 3000
    rows = world.db.owner(
        "insert into live_stream_chat_reactions (message_id, user_id, reaction)"
        " select %s, %s, bare from unnest(%s::text[]) as bare returning reaction",
        [message["id"], world.stranger.user_id, [one.replace("\ufe0f", "") for one in listed]],
    )
    assert {row["reaction"] for row in rows} == listed
