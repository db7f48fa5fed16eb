"""A small world of ships, markets and factories, in the shape of the SpaceTraders API. Standard library only, 3.9+.

    python3 world.py --port 8090 --data /tmp/world --ships 4
    python3 world.py audit --data /tmp/world

    GET  /my/ships/SHIP                 {"data": {"symbol", "nav": {"waypointSymbol"}, "cargo": {"capacity", "units",
                                        "version", "inventory": [{"symbol", "units"}]}}}; /my/ships: all; /cargo: that
    POST /my/ships/SHIP/navigate        {"waypointSymbol"}: it is there at once
    POST /my/ships/SHIP/purchase        {"symbol", "units"}; so are sell and jettison, and deliver with "factory" too
    GET  /markets, /markets/WAYPOINT    {"symbol", "tradeGoods": [{"symbol", "purchasePrice", "sellPrice"}]}
    GET  /factories, /factories/F       {"symbol", "waypointSymbol", "accepts", "supply", "delivered", "produces"}
    GET  /ledger                        every purchase, sale, delivery, jettison; ?ship=SHIP, ?requestId=PREFIX select
    GET  /audit, /my/agent, /health

Who sends a `requestId` with a trade may send it again: the second one changes nothing, and gets the answer of the
first. `version` of a cargo is how often it changed.

    PUT  /admin/latency                 {"seconds", "operation": all}
    PUT  /admin/failures                {"operation", "times": until DELETE, "status": 503, "ship": any}
    PUT  /admin/hold                    {"operation", "point": "before" or "after" its line, "ship": any, "late": false}
    GET  /admin/held                    who waits there; DELETE /admin/hold lets all go, and holds nobody more
    PUT  /admin/accepts/FACTORY         {"accepts": [symbols]}
    POST /admin/reset                   {"ships": as many as now, "capacity": 60}: the world begins anew

Operations are navigate, purchase, sell, deliver, jettison; and to read: ship (GET of one), cargo (that and its /cargo),
factory, market. The ledger is a file, and all the rest a replay of it: kill this at any instant, and what was answered
has happened. What it is told under /admin is forgotten then, but for the two last.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading

from audit import audit, table
from controls import OPERATIONS, Controls
from http_api import Server
from ledger import NAME, read
from service import Service
from state import World


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM or SIGINT, or audit. Return the exit status: 1 says that something is wrong."""
    parser = argparse.ArgumentParser(description="A small world of ships, markets and factories.")
    parser.add_argument("command", nargs="?", choices=("serve", "audit"), default="serve")
    parser.add_argument("--port", type=int, default=8090, help="0 takes a free one")
    parser.add_argument(
        "--data", default=os.environ.get("DATA_DIR", "."), help=f"directory of {NAME}, the truth"
    )
    parser.add_argument("--ships", type=int, default=4, help="how many there are at least")
    parser.add_argument(
        "--latency", type=float, default=0, help="seconds that each operation of a ship takes"
    )
    parser.add_argument("--token-file", help="file with the token that clients must send")
    parser.add_argument("--json", action="store_true", help="audit: as JSON")
    options = parser.parse_args(arguments)
    try:
        return _audit(options) if options.command == "audit" else _serve(options)
    except BlockingIOError:
        return _failed(f"another world has the ledger in {options.data}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        return _failed(f"{type(error).__name__}: {error}")


def _audit(options: argparse.Namespace) -> int:
    lines, _ = read(os.path.join(options.data, NAME))
    found = audit(lines, World(lines))
    print(json.dumps(found) if options.json else table(found))
    return 0 if found["ok"] else 1


def _serve(options: argparse.Namespace) -> int:
    token = None
    if options.token_file:
        with open(options.token_file, encoding="utf-8") as file:
            token = file.read().strip()
        if not token:
            raise ValueError(f"{options.token_file} is empty")
    latency = dict.fromkeys(OPERATIONS, options.latency)
    service = Service(options.data, options.ships, Controls(latency))
    with Server(options.port, service, token) as server:
        for number in (signal.SIGTERM, signal.SIGINT):
            # shutdown() waits for the loop that the handler interrupts: it needs a thread of its own
            signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
        count = len(service.world.ships)
        print(f"listening on http://127.0.0.1:{server.server_port}, {count} ships", flush=True)
        server.serve_forever(poll_interval=0.1)
    return 0


def _failed(reason: str) -> int:
    print(f"world: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
