"""The plan of the house, as ARCHITECTURE.md has it: arrows lead down, rooms have one name, files stay small."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from database import ROOT

SRC = ROOT / "src"
LINES = 500

# Rooms: pairs of who calls and who is called, each with the places that do.
Arrows = dict[tuple[str, str], set[str]]


def floors() -> dict[str, int]:
    """Of each room: its floor, from the table «Floors» of ARCHITECTURE.md."""
    _, _, section = (ROOT / "ARCHITECTURE.md").read_text().partition("### Floors")
    rows = re.findall(r"^\| (\d+) \| ([a-z, ]+) \|", section.partition("###")[0], re.MULTILINE)
    return {room: int(floor) for floor, rooms in rows for room in rooms.split(", ")}


def room_of(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".rs")


# In this order: a quote that is a character begins no text, and two slashes in a text no comment.
TOKENS = re.compile(r"""'(?:\\.|[^'\\\n])'|r(#*)".*?"\1|"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?\*/""", re.DOTALL)


def without_comments(text: str) -> str:
    """The code alone: no comments, and texts without what they say."""
    return TOKENS.sub(lambda found: " " if found[0].startswith("/") else '""', text)


def paths_of(tree: str, prefix: str = "") -> Iterator[str]:
    """The paths of what stands after `use`: `a::{b, c::{d}}` are `a::b` and `a::c::d`."""
    depth, begin, parts = 0, 0, []
    for at, sign in enumerate(tree):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if sign == "," and depth == 0:
            parts.append(tree[begin:at])
            begin = at + 1
    for part in (*parts, tree[begin:]):
        head, brace, rest = part.strip().partition("{")
        if brace:
            yield from paths_of(rest.rsplit("}", 1)[0], prefix + head)
        elif head:
            yield prefix + head


def rooms_named(text: str) -> set[str]:
    """The rooms that a file calls, by `use crate::…` or by a path in its code."""
    text = without_comments(text)
    named = set()
    for tree in re.findall(r"\buse\s+([^;]+);", text):
        for path in paths_of(tree):
            if path.startswith("crate::"):
                named.add(path.split("::")[1].split(" ")[0])
    rest = re.sub(r"\buse\s+[^;]+;", "", text)
    return named | set(re.findall(r"\bcrate::(\w+)", rest))


# Ways to call another room that are no path from `crate::`.
DETOURS = r"\bcrate\s+as\b|\bcrate::\{\s*self\s+as\b|\bcrate\s+::|#\[path\b|\binclude!|\bextern\s+crate\b|(?<![\w>])::live_stream\b"


def detours(path: Path, text: str) -> list[str]:
    """What reaches another room by another way than `crate::`, so that the arrows would not show it."""
    text = without_comments(text)
    found = re.findall(DETOURS, text)
    # A room is `crate::room`: from its own file, `super` is the root; in a module within a file, one step further.
    within = len(path.relative_to(SRC).with_suffix("").parts) - 1 - (path.stem == "mod")
    outer, inline, inner = text.partition("mod tests {")
    for part, steps in ((outer, within), (inline + inner, within + 1)):
        for climb in re.findall(r"\bsuper(?:\s*::\s*super)*", part):
            if climb.count("super") > steps:
                found.append(climb)
    return found


def arrows(files: Iterable[tuple[str, str, str]]) -> Arrows:
    """Of files, each with its room, its name and its text."""
    found: Arrows = {}
    for room, name, text in files:
        for other in rooms_named(text) - {room}:
            found.setdefault((room, other), set()).add(name)
    return found


def climbing(found: Arrows, floor: dict[str, int]) -> list[str]:
    """What leads up, or to a room that is on no floor."""
    return sorted(
        f"{room} → {other}: {', '.join(sorted(names))}"
        for (room, other), names in found.items()
        if floor.get(other, 99) > floor.get(room, 0)
    )


def circles(found: Arrows) -> list[str]:
    """Rooms that are reached from themselves."""
    reached = {room: {other for (of, other) in found if of == room} for room, _ in found}
    for _ in reached:
        for rooms in reached.values():
            rooms |= {further for room in rooms for further in reached.get(room, ())}
    return sorted(room for room, rooms in reached.items() if room in rooms)


def ours() -> Arrows:
    return arrows((room_of(path), str(path.relative_to(ROOT)), path.read_text()) for path in SRC.rglob("*.rs"))


def test_every_room_has_a_floor():
    rooms = {room_of(path) for path in SRC.iterdir()} - {"lib"}
    assert rooms == set(floors())
    assert len(ours()) > 30


def test_no_arrow_leads_up():
    assert climbing(ours(), floors()) == []


def test_every_arrow_is_to_be_seen():
    assert {str(path): found for path in SRC.rglob("*.rs") if (found := detours(path, path.read_text()))} == {}


def test_a_detour_is_found():
    for file, code in (
        ("metrics/mod.rs", "use super::viewers;"),
        ("influencers.rs", "use super::*;"),
        ("metrics/log.rs", "fn f() { super::super::viewers::f() }"),
        ("metrics/entry/capacity.rs", "use self::super::super::super::viewers as v;"),
        ("pg/mod.rs", "pub use super::viewers as relay;"),
        ("metrics/log.rs", "use crate as c;\nfn f() { c::viewers::f() }"),
        ("metrics/log.rs", "use {crate as c, std::fmt};"),
        ("metrics/log.rs", "use crate::{self as c};"),
        ("metrics/log.rs", '#[path = "../viewers/presence.rs"] mod p;'),
        ("metrics/log.rs", 'include!("../viewers/presence.rs");'),
        ("metrics/log.rs", "fn f() { crate ::viewers::f() }"),
        ("metrics/log.rs", "extern crate self as live_stream;"),
        ("metrics/log.rs", "fn f() { ::live_stream::viewers::f() }"),
        ("metrics/log.rs", "mod tests { use super::super::super::viewers; }"),
    ):
        assert detours(SRC / file, code), code
    for file, code in (
        ("metrics/log.rs", "use super::Delta;"),
        ("metrics/entry/capacity.rs", "use super::super::fold;"),
        ("metrics/mod.rs", "mod tests { use super::*; }"),
        ("metrics/mod.rs", "// use super::viewers;\n/* crate as c */ fn f() -> char { '\"' }"),
    ):
        assert detours(SRC / file, code) == [], code


def test_no_rooms_call_each_other_in_a_circle():
    assert circles(ours()) == []


def test_an_arrow_that_is_added_is_found():
    """Each of these, written into a file of the metrics, would lead up."""
    for code in (
        "use crate::viewers;",
        "use crate::{pg::plan, worker};",
        "use crate::pg::{error::{Error, Result}};\nfn f() { crate::sessions::codes::generate() }",
        "pub use crate::chat::{guard::{self}, settle as after};",
        "    use crate::nowhere;",
        'fn f() { g("https://x", crate::viewers::x()) }',
        "fn f() { /* // */ crate::viewers::x() }",
        "fn f() { h('\"', crate::viewers::x(), '\"') }",
    ):
        found = ours()
        for pair, names in arrows([("metrics", "metrics/new.rs", code)]).items():
            found.setdefault(pair, set()).update(names)
        assert any("metrics/new.rs" in line for line in climbing(found, floors())), code
    assert climbing(arrows([("metrics", "new.rs", "// use crate::viewers;\nuse crate::{identity, pg};")]), floors()) == []


def test_a_circle_that_is_added_is_found():
    found = ours() | arrows([("moderation", "new.rs", "use crate::chat;")])
    assert circles(found) == ["chat", "moderation"]


def test_crates_know_nothing_of_postgresql():
    """Nor of rooms: what they need is in their own manifest."""
    for path in (ROOT / "crates").rglob("*.rs"):
        assert not re.search(r"\b(pgrx|pg_sys)\b", without_comments(path.read_text())), path


def test_nothing_unsafe_but_in_pg_and_install():
    """The compiler refuses it elsewhere; this says that nobody lets it pass."""
    lib = (SRC / "lib.rs").read_text()
    assert 'unsafe_code = "deny"' in (ROOT / "Cargo.toml").read_text()
    assert re.findall(r"#\[allow\(unsafe_code\)\]\nmod (\w+);", lib) == ["install", "pg"]
    allowed = [path for path in SRC.rglob("*.rs") if "unsafe_code" in path.read_text()]
    assert allowed == [SRC / "lib.rs"]


def domain_of(name: str, rooms: set[str]) -> bool:
    return name in rooms or any(name.startswith(f"{room}_") for room in rooms)


def test_a_domain_has_one_name():
    """A file of sql/ is called as a room, or as a part of one; `analytics` and `realtime` have no Rust."""
    rooms = set(floors()) | {"analytics", "realtime"}
    others = [path.name for path in (ROOT / "sql").glob("*.sql") if not domain_of(path.stem, rooms)]
    # What is granted on the view over the app's influencers.
    assert others == ["influencer_cards.sql"]


def test_files_are_small_or_say_why_not():
    for folder, kind in (("src", "rs"), ("crates", "rs"), ("sql", "sql"), ("tests", "py")):
        for path in (ROOT / folder).rglob(f"*.{kind}"):
            if "target" in path.parts:
                continue
            text = path.read_text()
            first = ast.get_docstring(ast.parse(text)) if kind == "py" else re.match(r"(?:(?://|--)[^\n]*\n)*", text)[0]
            assert text.count("\n") <= LINES or "In one file" in first, path


# A file as texts name it: `sessions/mod.rs`, `chat_test.py`, `sql/access.sql`, `src/pg/shape`.
NAMED = re.compile(r"(?<![\w./*>-])((?:[\w-]+/)*[\w-]+\.(?:rs|py|sql|md|toml|txt)|(?:src|crates|tests|bench|scripts)/[\w/-]+)(?![\w*.])")


def files_named(text: str) -> set[str]:
    return {name.rstrip("/") for name in NAMED.findall(text)}


def test_a_file_that_a_text_names_is_there():
    """As the end of a path: from the folder of the text, from src/, or from the root."""
    tracked = [path for folder in ("src", "crates", "sql", "tests", "bench", "scripts") for path in (ROOT / folder).rglob("*")]
    tracked += ROOT.glob("*.*")
    there = {"/" + str(path.relative_to(ROOT)) for path in tracked if "target" not in path.parts}
    texts = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "SECURITY.md", "crates/recurrence/README.md")]
    comments = {path: re.sub(r"(?m)^(?!\s*//).*$", "", path.read_text()) for path in SRC.rglob("*.rs")}
    comments |= {path: ast.get_docstring(ast.parse(path.read_text())) or "" for path in (ROOT / "tests").glob("*.py")}
    comments |= {path: path.read_text() for path in texts}
    missing = {
        (str(path.relative_to(ROOT)), name)
        for path, text in comments.items()
        for name in files_named(text)
        if not any(one.endswith("/" + name) for one in there)
    }
    assert missing == set()
    assert files_named("see `pg/gone.rs`, and src/nothing") == {"pg/gone.rs", "src/nothing"}
