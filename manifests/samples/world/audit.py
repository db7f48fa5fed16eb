"""The law of this world: of each good, bought = sold + delivered + jettisoned + what is in cargo.

Worked out from the lines alone, and then compared with what the replay of the same lines has in its ships.
"""

from __future__ import annotations

from collections import Counter

from state import TRADES, World

COLUMNS = {"purchase": "bought", "sale": "sold", "delivery": "delivered", "jettison": "jettisoned"}


def audit(lines: list[dict], world: World) -> dict:
    """Return {"ok", "symbols": {good: {"bought", "sold", ... "cargo", "ok"}}, "violations": [words]}."""
    counts: dict[str, Counter] = {name: Counter() for name in COLUMNS.values()}
    violations: list[str] = []
    holds: Counter = Counter()
    capacity: dict[str, int] = {}
    requests: set = set()
    for number, line in enumerate(lines, 1):
        what = f"line {number} ({line['kind']} {line['id']})"
        if line["id"] != number:
            violations.append(f"{what}: its id should be {number}")
        if line["kind"] == "begin":
            counts, holds, requests = {name: Counter() for name in COLUMNS.values()}, Counter(), set()
            capacity = {}
        if line["kind"] in ("begin", "ships"):
            for one in range(1, line["ships"] + 1):
                capacity.setdefault(f"ship-{one}", line["capacity"])
        if line["kind"] not in TRADES:
            continue
        ship, good, units = line["ship"], line["symbol"], line["units"]
        counts[COLUMNS[line["kind"]]][good] += units
        holds[ship, good] += units if line["kind"] == "purchase" else -units
        if holds[ship, good] < 0:
            violations.append(f"{what}: {ship} then has {holds[ship, good]} {good}")
        if holds[ship, good] != line["held"]:
            violations.append(f"{what}: {ship} has {holds[ship, good]} {good}, the line says {line['held']}")
        if (full := sum(n for (one, _), n in holds.items() if one == ship)) > capacity.get(ship, 0):
            violations.append(f"{what}: {ship} holds {full} units, more than {capacity.get(ship, 0)}")
        if (request := line.get("requestId")) is not None and request in requests:
            violations.append(f"{what}: requestId {request} took effect twice")
        requests.add(request)
    cargo: Counter = Counter()
    for ship in world.ships.values():
        cargo.update(ship.cargo)
    symbols = {}
    for good in sorted(set(cargo).union(*counts.values())):
        row = {name: count[good] for name, count in counts.items()} | {"cargo": cargo[good]}
        row["ok"] = row["bought"] == row["sold"] + row["delivered"] + row["jettisoned"] + row["cargo"]
        symbols[good] = row
        if not row["ok"]:
            violations.append(f"{good}: bought {row['bought']}, and the rest doesn't add up to that")
    return {"ok": not violations, "symbols": symbols, "violations": violations}


def table(found: dict) -> str:
    """Return it as lines for people."""
    names = ("symbol", *COLUMNS.values(), "cargo")
    rows = [names] + [(good, *(row[name] for name in names[1:])) for good, row in found["symbols"].items()]
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(names))]
    shown = ["  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]  # noqa: B905 (Python 3.9)
    return "\n".join(
        [*shown, *found["violations"], "nothing is lost, nothing is doubled" if found["ok"] else "VIOLATED"]
    )
