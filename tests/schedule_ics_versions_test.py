"""Imports of what has versions, what is called off, and what changes for all that follow."""

from __future__ import annotations

from datetime import datetime, timezone

import icalendar
import pytest
import recurring_ical_events

from calendars import calendar_of, feed, ours, starts, stored, take, utc, window_of
from sizes import own_db

pytestmark = own_db("counts or changes all that is there")

MASTER = "UID:1\nSUMMARY:x\nDTSTART;TZID=Europe/Berlin:20300107T200000\nDTEND;TZID=Europe/Berlin:20300107T210000\nRRULE:FREQ=DAILY;COUNT=6"
ALL = [(f"01-{day:02}T19:00", "x") for day in range(7, 13)]


def oracle(text, start, end):
    """What python's recurring_ical_events makes of a calendar: begin, end, title."""
    events = recurring_ical_events.of(icalendar.Calendar.from_ical(text)).between(start, end)
    return sorted((utc(event["DTSTART"].dt), utc(event["DTEND"].dt), str(event["SUMMARY"])) for event in events)


def taken(world, start, end):
    return sorted((one[0], one[1], one[3]) for one in ours(world, stored(world), start, end))


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\r\r\n", " \r\n", "\t\n", " \t \r\r\n", "\n\n"])
@pytest.mark.parametrize("status", ["CANCELLED", "CANCELED", "Cancelled", "canceled", " CANCELLED"])
def test_what_is_called_off_is_called_off_however_lines_end(world, end, status):
    whole = f"UID:2\nSUMMARY:no\nDTSTART:20300107T100000Z\nSTATUS:{status}"
    one = f"UID:1\nRECURRENCE-ID;TZID=Europe/Berlin:20300109T200000\nSTATUS:{status}"
    text = calendar_of(MASTER, one, whole).replace("\r\n", end)
    assert [row["not_taken"] for row in take(world, text)] == [None, "it is cancelled"]
    assert starts(world, *window_of(1, 20)) == ALL[:2] + ALL[3:]


def test_names_and_values_come_in_every_way(world):
    text = (
        "\ufeffbegin:vcalendar\r\nBegin : VEvent\r\nuid:1\r\nsummary;Language=en;x=\"a:b;c\":Fo\r\n lded\\, twi\r\n\tce\\nand;out\r\n"
        "dtstart;tzid=\"Europe/Berlin\";value=date-time:2030\r\n 0107T200000 \r\nduration: pt1h30m \r\nX-COLOR;X=^n:red\r\n"
        "rrule: freq=daily;count=2 \r\ntransp:OPAQUE\r\nend:vevent\r\nend:vcalendar"
    )
    assert [(row["title"], row["not_taken"]) for row in take(world, text)] == [("Folded, twice\nand;out", "left out: X-COLOR")]
    plain = text.lstrip("\ufeff").replace(" : VEvent", ":VEVENT").replace(" pt1h30m ", "PT1H30M").replace(" freq=daily;count=2 ", "FREQ=DAILY;COUNT=2")
    window = window_of(1, 20)
    assert taken(world, *window) == oracle(plain, *window)


VERSIONS = {
    "a later one first": (["SUMMARY:new\nSEQUENCE:3", "SUMMARY:old\nSEQUENCE:2"], "new"),
    "a later one last": (["SUMMARY:old\nSEQUENCE:2", "SUMMARY:new\nSEQUENCE: 10 "], "new"),
    "a later stamp": (["SUMMARY:new\nDTSTAMP:20260102T000000Z", "SUMMARY:old\nDTSTAMP:20260101T000000Z"], "new"),
    "a later change": (["SUMMARY:new\nLAST-MODIFIED:20260102T000000Z", "SUMMARY:old\nLAST-MODIFIED:20260101T000000Z"], "new"),
    "sequence before stamp": (["SUMMARY:new\nSEQUENCE:1\nDTSTAMP:20200101T000000Z", "SUMMARY:old\nDTSTAMP:20260101T000000Z"], "new"),
    "the last of equals": (["SUMMARY:old", "SUMMARY:new"], "new"),
    "called off since": (["SUMMARY:old", "SUMMARY:new\nSEQUENCE:1\nSTATUS:CANCELED"], None),
    "not called off any more": (["SUMMARY:old\nSTATUS:CANCELLED", "SUMMARY:new\nSEQUENCE:1"], "new"),
    "nonsense is 0": (["SUMMARY:new\nSEQUENCE:1", "SUMMARY:old\nSEQUENCE:many"], "new"),
}


@pytest.mark.parametrize("case", VERSIONS)
def test_of_two_versions_the_later_counts(world, case):
    versions, title = VERSIONS[case]
    start = "DTSTART:20300107T190000Z\n"
    report = take(world, calendar_of(*(f"UID:1\n{start}{version}" for version in versions)))
    assert [one["not_taken"] for one in report] == [None if title else "it is cancelled", "another version of it is taken"]
    expected = [("01-07T19:00", title)] if title else []
    assert starts(world, *window_of(1, 20)) == expected
    world.influencer.api.delete("live_stream_schedule", where={"influencer_id": world.influencer.influencer_id})
    # The same of one occurrence. Its event may be older than its change, or younger.
    change = "UID:1\nRECURRENCE-ID:20300109T190000Z\n"
    for of_master in ("", "\nSEQUENCE:7"):
        report = take(world, calendar_of(MASTER + of_master, *(change + version for version in versions)))
        assert [one["not_taken"] for one in report] == ["RECURRENCE-ID 20300109T190000Z: another version of it is taken"]
        expected = ALL[:2] + ([("01-09T19:00", title)] if title else []) + ALL[3:]
        assert starts(world, *window_of(1, 20)) == expected
        world.influencer.api.delete("live_stream_schedule", where={"influencer_id": world.influencer.influencer_id})


def test_one_calendar_of_a_file_may_call_off_what_another_one_has(world):
    text = calendar_of(MASTER) + calendar_of("UID:1\nSEQUENCE:1\nRECURRENCE-ID:20300109T190000Z", head="METHOD:CANCEL")
    assert [one["not_taken"] for one in take(world, text)] == [None]
    assert starts(world, *window_of(1, 20)) == ALL[:2] + ALL[3:]
    text = calendar_of(MASTER.replace("UID:1", "UID:3")) + calendar_of("UID:3\nSEQUENCE:1\nDTSTART:20300107T190000Z", head="METHOD: cancel ")
    assert [one["not_taken"] for one in take(world, text)] == ["it is cancelled", "another version of it is taken"]


def test_events_without_a_uid_are_as_many_as_they_are(world):
    event = "SUMMARY:x\nDTSTART:20300107T190000Z"
    report = take(world, calendar_of(event, event, "UID:\n" + event, "RECURRENCE-ID:20300107T190000Z\nSUMMARY:whose?"))
    assert [one["not_taken"] for one in report] == [None] * 3 + ["the event that it is an occurrence of is missing"]
    assert len(stored(world)) == 3


EXCLUDED = {
    "EXRULE:FREQ=DAILY;INTERVAL=2": [1, 3, 5],
    "EXRULE:FREQ=DAILY;COUNT=2": [2, 3, 4, 5],
    "EXRULE:FREQ=WEEKLY;BYDAY=WE,TH;UNTIL=20300109T235959Z": [0, 1, 3, 4, 5],
    "EXRULE:FREQ=DAILY;BYHOUR=19": [0, 1, 2, 3, 4, 5],
    "EXRULE:FREQ=DAILY;COUNT=1\nEXRULE: freq=daily;count=1;byday=fr ": [1, 2, 3, 5],
    "EXDATE;VALUE=DATE:20300109,20300111": [0, 1, 3, 5],
    "EXDATE:20300109": [0, 1, 3, 4, 5],
    "EXDATE;VALUE=DATE:20300109T190000Z": [0, 1, 3, 4, 5],
    "EXDATE;TZID=Europe/Berlin: 20300109T200000 ,20300107T200000\t": [1, 3, 4, 5],
}


@pytest.mark.parametrize("lines", EXCLUDED)
def test_what_is_taken_away_is_gone(world, lines):
    assert [one["not_taken"] for one in take(world, calendar_of(f"{MASTER}\n{lines}"))] == [None]
    assert starts(world, *window_of(1, 20)) == [ALL[n] for n in EXCLUDED[lines]]
    # For one without an end the exclusions have one.
    world.influencer.api.delete("live_stream_schedule", where={"title": "x"})
    endless = MASTER.replace(";COUNT=6", "")
    (row,) = take(world, calendar_of(f"{endless}\n{lines}"))
    has_end = "EXRULE" not in lines or "COUNT" in lines or "UNTIL" in lines
    assert row["not_taken"] == (None if has_end else "EXRULE has no end")
    assert starts(world, *window_of(1, 13)) == ([ALL[n] for n in EXCLUDED[lines]] if has_end else [])


def test_exclusions_take_added_dates_away_as_well(world):
    lines = "RDATE:20300115T190000Z,20300116T190000Z\nEXRULE:FREQ=DAILY;UNTIL=20300115T190000Z;BYDAY=TU"
    assert [one["not_taken"] for one in take(world, calendar_of(f"{MASTER}\n{lines}"))] == [None]
    assert starts(world, *window_of(1, 20)) == [ALL[0], *ALL[2:], ("01-16T19:00", "x")]


@pytest.mark.parametrize("rule", ["FREQ=DAILY;BYMONTH=13", "nonsense", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "FREQ=DAILY;INTERVAL=0"])
def test_an_exclusion_that_is_not_understood_keeps_the_event_out(world, rule):
    (row,) = take(world, calendar_of(f"{MASTER}\nEXRULE:{rule}"))
    assert row["schedule_id"] is None and row["not_taken"].startswith("EXRULE: ")


@pytest.mark.parametrize("end", ["DTEND:20300107T190000Z", "DURATION:PT0S", "DTEND;TZID=Europe/Berlin:20300107T200000", ""])
def test_what_ends_as_it_begins_does_not_say_how_long_it_lasts(world, end):
    (row,) = take(world, calendar_of(f"UID:1\nSUMMARY:x\nDTSTART;TZID=Europe/Berlin:20300107T200000\n{end}"))
    assert row["not_taken"] is None
    ((begin, finish, _),) = taken(world, *window_of(1, 20))
    assert (finish - begin).total_seconds() == 3600


NEXT = "UID:1\nRECURRENCE-ID;RANGE=THISANDFUTURE;TZID=Europe/Berlin:{}T200000\n{}"
RANGES = {
    "a title": ["SUMMARY:y\nDTSTART;TZID=Europe/Berlin:20300109T200000\nDTEND;TZID=Europe/Berlin:20300109T210000"],
    "another time": ["SUMMARY:x\nDTSTART;TZID=Europe/Berlin:20300109T173000\nDTEND;TZID=Europe/Berlin:20300109T190000"],
    "another day": ["SUMMARY:y\nDTSTART;TZID=Europe/Berlin:20300110T200000\nDTEND;TZID=Europe/Berlin:20300110T203000"],
    "in another zone": ["SUMMARY:y\nDTSTART:20300109T160000Z\nDTEND:20300109T180000Z"],
}
RULES = [
    "FREQ=DAILY;COUNT=6", "FREQ=DAILY;UNTIL=20300112T190000Z", "FREQ=WEEKLY;BYDAY=MO,WE,FR;COUNT=5", "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE;WKST=SU",
    "FREQ=DAILY;INTERVAL=2;BYHOUR=20", "FREQ=MONTHLY;BYDAY=1MO,2WE,-1TU;COUNT=12", "FREQ=DAILY;BYDAY=MO,TU,WE,TH,FR;COUNT=9",
]  # fmt: skip


@pytest.mark.parametrize("case", RANGES)
def test_a_change_may_count_for_all_that_follow(world, case):
    """Against python's recurring_ical_events. The whole series, or nothing of it and why."""
    window = datetime(2030, 1, 1, tzinfo=timezone.utc), datetime(2030, 12, 1, tzinfo=timezone.utc)
    refused = []
    for rule in RULES:
        master = MASTER.replace("FREQ=DAILY;COUNT=6", rule)
        text = calendar_of(master, *(NEXT.format("20300109", change) for change in RANGES[case]))
        report = take(world, text)
        if report[0]["schedule_id"] is None:
            refused.append(rule)
            assert report[0]["not_taken"] == "RANGE moves it in a way that no rule has"
            continue
        assert [one["not_taken"] for one in report] == [None] * 2, rule
        assert taken(world, *window) == oracle(text, *window), rule
        world.influencer.api.delete("live_stream_schedule", where={"influencer_id": world.influencer.influencer_id})
    assert refused == []


def test_changes_of_all_that_follow_and_of_single_ones(world):
    """What is named by its place in the series is found where the series went."""
    master = MASTER + "\nEXDATE:20300111T190000Z\nRDATE:20300110T100000Z\nDESCRIPTION:one"
    texts = [
        NEXT.format("20300109", "SUMMARY:y\nDTSTART;TZID=Europe/Berlin:20300109T213000\nDURATION:PT30M\nDESCRIPTION:two"),
        "UID:1\nRECURRENCE-ID:20300110T190000Z\nSUMMARY:x\nDTSTART:20300110T080000Z\nDTEND:20300110T090000Z",
        "UID:1\nRECURRENCE-ID:20300108T190000Z\nSTATUS:CANCELLED",
        NEXT.format("20300112", "SUMMARY:z"),
    ]
    report = take(world, calendar_of(master, *texts))
    assert [(one["title"], one["not_taken"], bool(one["schedule_id"])) for one in report] == [("x", None, True), ("y", None, True), ("z", None, True)]
    assert starts(world, *window_of(1, 20)) == [
        ("01-07T19:00", "x"), ("01-09T20:30", "y"), ("01-10T08:00", "x"), ("01-10T11:30", "y"), ("01-12T19:00", "z")
    ]  # fmt: skip
    rows = {row["title"]: row for row in stored(world)}
    assert [rows[title]["description"] for title in "xyz"] == ["one", "two", "one"]
    assert {event["SUMMARY"] for event in feed(world).walk("VEVENT")} == {"x", "y", "z"}


def test_all_that_follow_may_be_called_off(world):
    report = take(world, calendar_of(MASTER, NEXT.format("20300110", "STATUS:CANCELLED")))
    assert [one["not_taken"] for one in report] == [None]
    assert starts(world, *window_of(1, 20)) == ALL[:3]
    (row,) = stored(world)
    assert row["recurrence_end_date"] == "2030-01-10" or row["last_start"] < "2030-01-10T20"
    report = take(world, calendar_of(MASTER.replace("UID:1", "UID:2"), NEXT.format("20300107", "STATUS:CANCELLED").replace("UID:1", "UID:2")))
    assert [(one["schedule_id"], one["not_taken"]) for one in report] == [(None, "it is cancelled")]


NOT_UNDERSTOOD = {
    "UID:1\nDTSTART:20300107T190000Z\nRRULE FREQ=DAILY": "not understood: RRULE FREQ=DAILY",
    "UID:1\nDTSTART:20300107T190000Z\nSTATUS:CANCELD": "STATUS CANCELD is not understood",
    "UID:1\nDTSTART:20300107T190000Z\nDTSTART:20300108T190000Z": "DTSTART is there twice, and the first is taken",
    "UID:1\nDTSTART:20300107T190000Z\nDTEND:20300107T200000Z\nDURATION:PT2H": "DTEND is taken, and not DURATION",
    "UID:1\nSUMMARY:caf\ufffd\nDTSTART:20300107T190000Z": "SUMMARY has characters that were lost on the way",
    f"{MASTER}\nRDATE;VALUE=DATE:20300115": "RDATE has no time of day",
    f"{MASTER}\nEXDATE;VALUE=DATE:20300115": "EXDATE 20300115 is no occurrence",
    f"{MASTER}\nEXDATE:soon": "EXDATE soon is no time",
    f"{MASTER}\nRDATE;TZID=Mars/Base:20300115T100000": "time zone Mars/Base is not known",
}


def test_what_is_not_understood_is_told_event_by_event(world):
    for event, why in NOT_UNDERSTOOD.items():
        (row,) = take(world, calendar_of(event))
        assert row["schedule_id"] and row["not_taken"] == why, event
    of = "RECURRENCE-ID 20300109T190000Z: "
    for change, why in {
        "RECURRENCE-ID;RANGE=THISANDPRIOR:20300109T190000Z\nSUMMARY:y": of + "RANGE=THISANDPRIOR is not taken",
        "RECURRENCE-ID:20300109T190000Z\nDTSTART;VALUE=DATE:20300110": of + "DTSTART has no time of day",
        "RECURRENCE-ID:20300115T190000Z\nSUMMARY:y": "RECURRENCE-ID 20300115T190000Z: it is no occurrence",
        "RECURRENCE-ID;VALUE=DATE:20300115\nSUMMARY:y": "RECURRENCE-ID 20300115: it is no occurrence",
        "RECURRENCE-ID;VALUE=DATE:20300109\nSUMMARY:y": "RECURRENCE-ID 20300109: that day has several occurrences",
    }.items():
        (row,) = take(world, calendar_of(f"{MASTER}\nRDATE:20300109T080000Z", f"UID:1\n{change}"))
        assert row["schedule_id"] and row["not_taken"] == why, change


def test_a_file_that_is_cut_off_says_so(world):
    text = calendar_of(MASTER, MASTER.replace("UID:1", "UID:2"))
    cut = text[: text.rindex("COUNT=6") + len("COUNT=")]
    report = take(world, cut)
    assert report[0]["not_taken"] is None and report[1]["schedule_id"] is None
    cut = text[: text.rindex("END:VEVENT")]
    report = take(world, cut.replace("UID:", "UID:3"))
    assert [one["not_taken"] for one in report] == [None, "END:VEVENT is missing"]


@pytest.mark.parametrize("line", ["RRULE:FREQ=DAILY;COUNT=3", "RDATE:20300401T100000Z", "EXDATE:20300308T100000Z"])
def test_a_rule_of_one_occurrence_is_reported(world, line):
    """It says nothing there, and that is said."""
    show = "UID:1\nSUMMARY:Show\nDTSTART:20300307T100000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=4"
    late = f"UID:1\nSUMMARY:Late\nRECURRENCE-ID:20300308T100000Z\nDTSTART:20300308T120000Z\nDURATION:PT1H\n{line}"
    report = take(world, calendar_of(show, late))
    assert any(line.partition(":")[0] in (one["not_taken"] or "") for one in report), report
