"""Every task of the pipeline: `python3 worker.py TASK`, and the task is one of these. Standard library only, 3.9+.

    collect, acquire   buy inputs.symbol until the ship has inputs.units of it
    sell               sell all that the ship has of inputs.symbol, at the best price
    deliver            deliver all that the ship has of inputs.symbol to the factory
    liquidate          empty the asset of inputs.symbol: sell it; jettison it where nobody buys it and inputs.jettison is true

Mainstay gives a task one JSON file and takes one back:

    INPUTS_PATH    {"job": {"name", "uid"}, "task": {"name"}, "inputs": {"world": URL, "symbol", "units", "jettison"},
                    "assets": {"ship": {"ref"}, "factory": {"ref"}}}; of liquidate the ship is assets.asset
    OUTPUTS_PATH   what came of it; and {"assets": {"factory": {"deliveries": [{"symbol", "units"}]}}}

It may be killed at any instant and run again. So it looks before it acts: what is in the cargo already is not bought
again, what is gone is not sold again. And what it asks for has a name, so that a request of a killed one that is still
on its way can't take effect a second time:

    trade          <uid of the job>/<task>/<how often the cargo had changed>: true of this very cargo, and no later one
    delivery       <uid of the job>/<task>: a job delivers once, and whoever asks again is told of that delivery

It tries nothing twice: that is for the job. Exit status 1: the world says no, and would again. 2: what it was given
doesn't do. 75: the world didn't answer, or was out of order; later it may do. The reason is on stderr, in a line.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
from urllib.parse import quote, urlencode, urlsplit

REFUSED, USAGE, TEMPORARY = 1, 2, 75
ANSWER_SECONDS = 50  # less than timeoutSeconds of the tasks, so that the reason is told here


class Failure(Exception):  # noqa: N818 (this attempt's, told in one line)
    """Why this attempt ends, and with what exit status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class World:
    """The world's API. Raises Failure."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise Failure(
                USAGE, f"inputs.world is the world's URL, as http://127.0.0.1:8090, and not {url!r}"
            )
        self._url = url
        self._peer = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=ANSWER_SECONDS)
        # the header as a whole, so that the probes of the assets can have it from the same Secret
        said = os.environ.get("WORLD_AUTHORIZATION")
        self._headers = {"Authorization": said} if said else {}

    def ask(self, method: str, *path: str, body: dict | None = None, **query: str):  # noqa: ANN201 (any JSON)
        """Return what is answered."""
        where = "/" + "/".join(quote(part, safe="") for part in path)
        where += f"?{urlencode(query)}" if query else ""
        content = None if body is None else json.dumps(body)
        try:
            self._peer.request(method, where, content, self._headers)
            answer = self._peer.getresponse()
            status, said = answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._peer.close()
            raise Failure(TEMPORARY, f"no answer from {self._url}: {error or type(error).__name__}") from None
        if status >= 400:
            later = status >= 500 or status in (408, 425, 429)
            reason = said.get("error", {}).get("message", said) if isinstance(said, dict) else said
            raise Failure(
                TEMPORARY if later else REFUSED, f"{method} {where} was answered {status}: {reason}"
            )
        return said["data"]


class Job:
    """What this task is given, and its ship."""

    def __init__(self, task: str, given: dict) -> None:
        self.task = task
        self.inputs: dict = given["inputs"]
        self.symbol: str = self.inputs["symbol"]
        self._uid: str = given["job"]["uid"]
        self._assets: dict = given["assets"]
        self.ship = self.asset("asset" if task == "liquidate" else "ship")
        self.world = World(self.inputs.get("world") or "")

    @property
    def units(self) -> int:
        """How many the job is about."""
        units = self.inputs["units"]
        if type(units) is not int or units < 1:
            raise Failure(USAGE, f"inputs.units is a whole number above 0, and not {units!r}")
        return units

    def asset(self, name: str) -> str:
        """Return the asset that the job calls so."""
        return self._assets[name]["ref"]

    def cargo(self) -> tuple[int, int]:
        """How many units of the symbol are in the ship, and how often its cargo has changed."""
        cargo = self.world.ask("GET", "my", "ships", self.ship, "cargo")
        held = {one["symbol"]: one["units"] for one in cargo["inventory"]}
        return held.get(self.symbol, 0), cargo["version"]

    def go(self, waypoint: str) -> None:
        """Be there."""
        self.act("navigate", waypointSymbol=waypoint)

    def trade(self, operation: str, units: int, version: int) -> None:
        """Do it with this cargo, and with no later one."""
        name = f"{self._uid}/{self.task}/{version}"
        self.act(operation, symbol=self.symbol, units=units, requestId=name)

    def act(self, operation: str, **body: object) -> dict:
        """Have the ship do something."""
        return self.world.ask("POST", "my", "ships", self.ship, operation, body=body)

    def deliver(self, factory: str, units: int) -> dict:
        """Deliver once in this job's life; return that delivery, now made or long ago."""
        name = f"{self._uid}/{self.task}"
        answer = self.act("deliver", symbol=self.symbol, units=units, factory=factory, requestId=name)
        return answer["transaction"]

    def best_market(self, price: str, best) -> str | None:  # noqa: ANN001 (min or max)
        """Return the waypoint where this price of the symbol is best; None where there is none."""
        offers = [
            (good[price], market["symbol"])
            for market in self.world.ask("GET", "markets")
            for good in market["tradeGoods"]
            if good["symbol"] == self.symbol and price in good
        ]
        return best(offers)[1] if offers else None

    def summary(self) -> dict:
        """What this task has done, whichever attempt of it did: as the world's ledger has it."""
        lines = self.world.ask("GET", "ledger", ship=self.ship, requestId=f"{self._uid}/{self.task}/")
        return {
            "symbol": self.symbol,
            "units": sum(line["units"] for line in lines),
            "credits": sum(line["units"] * line.get("price", 0) for line in lines),
            "trades": [line["id"] for line in lines],
        }


# --- the tasks


def buy(job: Job) -> dict:
    """Have as many units as the job is about; what is there already counts."""
    held, _ = job.cargo()
    if held < job.units:
        market = job.best_market("purchasePrice", min)
        if market is None:
            raise Failure(REFUSED, f"no market sells {job.symbol}")
        job.go(market)
        held, version = job.cargo()
        if held < job.units:
            job.trade("purchase", job.units - held, version)
    return job.summary()


def sell(job: Job) -> dict:
    """Have none left. None at all is as good: it was sold before."""
    if job.cargo()[0]:
        market = job.best_market("sellPrice", max)
        if market is None:
            raise Failure(REFUSED, f"no market buys {job.symbol}")
        job.go(market)
        held, version = job.cargo()
        if held:
            job.trade("sell", held, version)
    return job.summary()


def liquidate(job: Job) -> dict:
    """Have none left, whatever it takes."""
    if job.best_market("sellPrice", max) is not None:
        return sell(job)
    if job.inputs.get("jettison") is not True:
        raise Failure(
            REFUSED, f"no market buys {job.symbol}; with inputs.jettison: true it is thrown overboard"
        )
    held, version = job.cargo()
    if held:
        job.trade("jettison", held, version)
    return job.summary()


def deliver(job: Job) -> dict:
    """Deliver what is there. An empty cargo may have been delivered by an attempt that was killed: ask all the same."""
    factory = job.asset("factory")
    job.go(job.world.ask("GET", "factories", factory)["waypointSymbol"])
    held, _ = job.cargo()
    done = job.deliver(factory, held or job.units)
    if not done["accepted"]:
        print(f"{factory} does not accept {done['symbol']}; it was delivered all the same", file=sys.stderr)
    made = {"symbol": done["symbol"], "units": done["units"]}
    return {**made, "delivery": done["id"], "assets": {"factory": {"deliveries": [made]}}}


TASKS = {"collect": buy, "acquire": buy, "sell": sell, "deliver": deliver, "liquidate": liquidate}


def main(arguments: list[str]) -> int:
    """Run the task that is named. Return the exit status."""
    if len(arguments) != 1 or arguments[0] not in TASKS:
        print(f"usage: worker.py TASK, one of {', '.join(TASKS)}", file=sys.stderr)
        return USAGE
    task = arguments[0]
    try:
        with open(os.environ["INPUTS_PATH"], encoding="utf-8") as file:
            job = Job(task, json.load(file))
        outputs = TASKS[task](job)
        with open(os.environ["OUTPUTS_PATH"], "w", encoding="utf-8") as file:
            json.dump(outputs, file)
    except Failure as failure:
        return _failed(task, failure.status, str(failure))
    except KeyError as error:
        return _failed(task, USAGE, f"{error} is missing")
    except (OSError, TypeError, ValueError) as error:
        return _failed(task, USAGE, f"{type(error).__name__}: {error}")
    return 0


def _failed(task: str, status: int, reason: str) -> int:
    print(f"{task}: {' '.join(reason.split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
