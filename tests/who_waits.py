"""Who waits for whom, as data: README.md's table of it, in requests of tests/everybody.py.

`WAITS`: for a transaction that is held open. `WAITS_FOR_A_COMMIT`: beside that, for one that is committing, and is stopped
there; that is no longer than a commit takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from everybody import REQUESTS

README = Path(__file__).parent.parent / "README.md"
HEAD = "| who | waits for |\n| --- | --- |\n"


@dataclass(frozen=True)
class Rule:
    """Each of these requests waits for each of those; or may, where that depends on what else is going on."""

    who: str
    whom: str
    waiting: frozenset[str]
    held: frozenset[str]
    always: bool = True


def of(*names: str) -> frozenset[str]:
    assert set(names) <= set(REQUESTS), set(names) - set(REQUESTS)
    return frozenset(names)


COMES = of(
    "anonymous join", "anonymous join by the function", "anonymous comes back", "join", "join by the function", "join saved again",
    "comes back", "comes back by the function", "another host joins",
)  # fmt: skip
ANOTHER_TAB = of("joins in another tab", "whom the server erases joins")
OWN_ROW = of("report_quality", "share", "viewer saved again", "changes its row", "leave")
OTHER_ROWS = of("anonymous share", "anonymous leave", "leave by the function")
EDITS = of("edit_message", "message saved again", "edits directly")
CLEARS = of("moderator clears a flag", "moderator clears a flag by the function")
TO_A_MESSAGE = of("moderator deletes", "host deletes a message")
BANS_WHO_WATCHES = of("moderator bans who watches", "host bans who watches")
PARTS = BANS_WHO_WATCHES | of(
    "moderator times out", "moderator bans a stranger", "moderator bans directly", "host bans a stranger", "add_moderator",
    "chooses a moderator directly",
)  # fmt: skip
LISTS_OF_BANS = of("moderator changes a ban", "moderator lifts a ban", "moderator deletes a ban")
TO_A_PRODUCT = of("host features", "host changes a product", "product saved again", "product metrics", "record_order",
                  "host records an order directly")  # fmt: skip
ORDERS = of("server records an order", "server corrects an order", "server deletes an order")
REMINDED = of("follow", "changes a follow")
TO_THE_SESSION = of("host renames", "session saved again", "host limits", "host pauses", "host resumes", "host hides", "end")
COUNTS_ANEW = of("erase_user", "recount")
FLUSHES = of("flush_metrics")
TRACKS = of("track_view", "track_click", "track_add_to_cart", "track_share")
CHATS = of("message", "reply", "react", "unreact", "moderator writes")
KEEPS = (
    COMES | ANOTHER_TAB | OWN_ROW | OTHER_ROWS | EDITS | CHATS | TRACKS | ORDERS | LISTS_OF_BANS | COUNTS_ANEW
    | of("whom the server erases joins", "accept_invitation", "heartbeat", "anonymous heartbeat", "flag_message", "flags what many flag",
         "moderator deletes", "moderator puts back", "moderator clears a flag", "moderator clears a flag by the function", "moderator times out", "moderator bans a stranger",
         "moderator bans who watches", "server notifies")
    | TO_THE_SESSION
    | of("host features", "host shows another product", "host changes a product", "product saved again", "product metrics",
         "host removes a product", "record_order", "host records an order directly", "host deletes a message",
         "host bans who watches", "revoke_invitation", "host revokes a link")
)  # fmt: skip
DELETES = of("server deletes the session")

WAITS = [
    Rule("joining, coming back, leaving; sharing, reporting and changing one's own viewer row",
         "the host that is ending that session", COMES | ANOTHER_TAB | OWN_ROW | OTHER_ROWS, of("end")),
    Rule("leaving, sharing, reporting and changing one's own viewer row; joining in another tab", "who is just banning that person",
         OWN_ROW, BANS_WHO_WATCHES),
    Rule("leaving, sharing, reporting and changing one's own viewer row; joining in another tab",
         "the host that is just making that session private or unlisted", ANOTHER_TAB | OWN_ROW | OTHER_ROWS, of("host hides")),
    Rule("writing to a message (edit, delete)", "who is writing to the same message", TO_A_MESSAGE, EDITS),
    Rule("writing to a message (edit, delete)", "who is writing to the same message", EDITS, TO_A_MESSAGE),
    Rule("flagging a message, clearing its flag", "who is just doing either to the same one",
         of("flags what many flag"), of("flags what many flag")),
    Rule("flagging a message, clearing its flag", "who is just doing either to the same one",
         CLEARS, CLEARS),
    Rule("a host or a moderator who bans, or chooses moderators", "another one of the same influencer's who does", PARTS, PARTS),
    Rule("an order of a product, and changing that product or its numbers", "another order of it, or the host who is changing it",
         TO_A_PRODUCT | ORDERS, TO_A_PRODUCT | ORDERS),
    Rule("accepting an invitation", "the host who is just revoking it", of("accept_invitation"), of("host revokes a link")),
    Rule("changing or ending a session", "`erase_user` of somebody who is in it, `recount` and `flush_metrics`", TO_THE_SESSION, COUNTS_ANEW),
    Rule("changing or ending a session", "`erase_user` of somebody who is in it, `recount` and `flush_metrics`",
         TO_THE_SESSION | COUNTS_ANEW | DELETES, FLUSHES, always=False),
    Rule("`erase_user` of somebody who is in a session, `recount`, `flush_metrics`", "who is changing that session, or another one of them",
         COUNTS_ANEW, TO_THE_SESSION | COUNTS_ANEW),
    Rule("`erase_user` of somebody who is in a session, `recount`, `flush_metrics`", "who is changing that session, or another one of them",
         FLUSHES, TO_THE_SESSION | COUNTS_ANEW | FLUSHES | DELETES, always=False),
    Rule("`erase_user`", "joins of that person, and who is writing to its messages", of("erase_user"), of("whom the server erases joins", "moderator puts back")),
    Rule("joins of a person, and writing to its messages", "`erase_user` of that person", of("whom the server erases joins", "moderator puts back"), of("erase_user")),
    Rule("changing a schedule, `materialize_occurrences`", "`materialize_occurrences`",
         of("host changes a schedule", "host cancels a schedule", "materialize_occurrences"), of("materialize_occurrences")),
    Rule("anything that makes a row of a session, or changes one", "who deletes that session", KEEPS, DELETES),
    Rule("deleting a session", "all who have made rows of it, or changed some", DELETES, KEEPS | DELETES),
]  # fmt: skip

COUNTS = COMES | OWN_ROW | OTHER_ROWS | CHATS | TRACKS | ORDERS | BANS_WHO_WATCHES | of(
    "whom the server erases joins", "server notifies", "host shows another product", "host removes a product", "record_order",
    "host records an order directly", "host features", "host changes a product", "product saved again", "product metrics",
)  # fmt: skip
HELD_IN_ITS_ROW = of("report_quality", "viewer saved again", "changes its row")
WAITS_FOR_A_COMMIT = [
    Rule("ending, limiting or hiding a session", "who is coming to it", of("end", "host limits", "host hides"), COMES),
    Rule("coming to a session", "who limits or hides it", COMES, of("host limits", "host hides")),
    Rule("changing a session", "who counts in its row, being alone there", TO_THE_SESSION | COUNTS_ANEW | FLUSHES, COUNTS, always=False),
    Rule("revoking a link", "who accepts it", of("host revokes a link"), of("accept_invitation")),
    Rule("bans by another host of who watches", "who deletes the session", of("another host bans who watches"), DELETES),
    Rule("bans", "who changes its own viewer row", BANS_WHO_WATCHES | of("another host bans who watches"), HELD_IN_ITS_ROW),
    Rule("changing one's own viewer row", "any ban of that person", HELD_IN_ITS_ROW, of("another host bans who watches")),
    Rule("writing to a message", "who reacts or replies to it", EDITS, of("reply", "react")),
    Rule("orders and changes of a product", "who looks at it", TO_A_PRODUCT | ORDERS, TRACKS),
]  # fmt: skip

# One of each kind that others wait for.
WAITED_FOR = of(
    "end", "moderator bans who watches", "edit_message", "record_order", "server records an order", "cancel",
    "host moves a session", "recount", "erase_user", "host renames", "materialize_occurrences", "add_moderator",
)  # fmt: skip


def expected(rules: list[Rule], held: str, beside: set[str]) -> tuple[set[str], set[str]]:
    """Of the requests beside one that is held: which must wait, and which may."""
    must: set[str] = set()
    may: set[str] = set()
    for rule in rules:
        if held in rule.held:
            (must if rule.always else may).update(rule.waiting & beside)
    return must, may


def readme_table() -> str:
    return HEAD + "".join(f"| {who} | {whom} |\n" for who, whom in dict.fromkeys((rule.who, rule.whom) for rule in WAITS))
