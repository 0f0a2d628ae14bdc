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


def without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*", "", text)


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
    assert "#![deny(unsafe_code)]" in lib
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
