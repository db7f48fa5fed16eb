"""The world outside of the registration sample: every service that its tasks call. Standard library only.

    python3 stub.py --control-api-port 8795 --data-dir /tmp/world

POST /<task> {"job": {"name", "uid"}, "attempt", "uses": {earlier task: its receipt}, "values": {...}} does what
that task asks for, and answers the same for the same values. The answer has a `receipt`, of this job and task alone.
A call that shows a receipt of another job, or of a task that never completed, is refused.

Every call is in a ledger, without its values, as some are passwords. It is a file: after a `kill -9` the stub knows
what it knew. A call that was completed before changes nothing and is told apart as `repeated`.

    GET  /ledger           every call in order; ?job=NAME selects
    GET  /ledger/summary   uid of a job → its tasks → how often completed, repeated, failed, refused; attempts
    POST /faults           {"task", "times": 1, "job": any, "status": 503, "delaySeconds": 0, "kind": "status"}
    GET  /faults           those that are left; DELETE /faults forgets them
    GET  /health

A fault's kind is `status` (answers that), `disconnect` (no answer), `garbage` (no JSON) or `lostAnswer` (does what it
was asked, but nobody hears of it). One with delaySeconds alone is slow, and works.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

BODY_LIMIT = 1 << 20  # bytes of one request
LOCAL_NAMES = ("127.0.0.1", "localhost")
KINDS = ("status", "disconnect", "garbage", "lostAnswer")
SHORTEST_PASSWORD = 8  # characters
PEOPLE = ("Ana Silva", "Ben Okafor", "Carla Rossi", "Dan Weber", "Eva Novak", "Farid Haddad")


class Refused(Exception):  # noqa: N818 (an answer, not a malfunction)
    """A service says no, with an HTTP status and a reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


# --- the services: values in, answer out, nothing remembered


def number(*words: object) -> int:
    """Return a number that these words always give, and others hardly ever."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, words)).encode()).digest()[:6], "big")


def need(values: dict, *names: str) -> list:
    """Return these values; Refused where one is missing."""
    missing = [name for name in names if values.get(name) in (None, "")]
    if missing:
        raise Refused(422, f"missing: {', '.join(missing)}")
    return [values[name] for name in names]


def extraction(values: dict) -> dict:
    """Read a restaurant's website."""
    name, website = need(values, "name", "website")
    return {
        "address": f"{number(name) % 200 + 1} Harbour Street",
        "phone": f"+44 20 7946 {number(website) % 10000:04}",
        "menus": [
            {"id": menu, "items": number(name, menu) % 30 + 10, "pictures": number(name, menu) % 4 + 2}
            for menu in ("lunch", "dinner")
        ],
    }


def contact_search(values: dict) -> dict:
    """Find who decides at the restaurant, and the companies that may own it. Without a hint, two people fit."""
    (name,) = need(values, "name")
    first = number(name) % len(PEOPLE)
    hint = values.get("contact")
    companies = [(f"{name} Ltd", number(name, 1)), (f"{name} Holdings", number(name, 2))]
    return {
        "contacts": [hint] if hint else [PEOPLE[first], PEOPLE[(first + 2) % len(PEOPLE)]],
        "companies": [{"name": n, "number": f"{digits % 10**8:08}"} for n, digits in companies],
    }


def details_extraction(values: dict) -> dict:
    """Ask the company registry."""
    company, _contact = need(values, "companyNumber", "contact")
    return {
        "vatNumber": f"GB{number(company) % 10**9:09}",
        "registeredAddress": f"{number(company) % 90 + 1} Registry Road",
        "openingHours": "Tue-Sun 12:00-23:00",
    }


def cloudwaitress_account(values: dict) -> dict:
    """Register an account, or sign in to one."""
    email, password = need(values, "email", "password")
    if len(password) < SHORTEST_PASSWORD:
        raise Refused(401, f"the password for {email} was refused: under {SHORTEST_PASSWORD} characters")
    return {"accountId": f"cw-{number(email) % 10**6:06}", "accountCreated": bool(values.get("register"))}


def code_generation(values: dict) -> dict:
    """Generate the website's code."""
    name, address = need(values, "name", "address")
    return {
        "files": {
            "index.html": f"<h1>{name}</h1>\n<p>{address}</p>\n",
            "theme.css": f"h1 {{ color: #{number(name) % 0x1000000:06x} }}\n",
        }
    }


def create_onboarding_user(values: dict) -> dict:
    """Create the user who is guided through the first days."""
    email, _contact = need(values, "email", "contact")
    return {"userId": f"user-{number(email, 'user') % 10**6:06}", "userCreated": True}


def upload_images(values: dict) -> dict:
    """Upload a menu's pictures."""
    name, menu, pictures = need(values, "name", "menu", "pictures")
    return {
        "urls": [f"https://images.example/{number(name, menu, i) % 10**6:06}.jpg" for i in range(pictures)]
    }


def restaurant_registration(values: dict) -> dict:
    """Register the restaurant."""
    name, _address, company = need(values, "name", "address", "companyNumber")
    return {"restaurantId": f"rest-{number(name, company) % 10**6:06}"}


def website_config(values: dict) -> dict:
    """Publish the generated code."""
    name, files = need(values, "name", "files")
    return {"site": f"https://{'-'.join(name.lower().split())}.example", "published": sorted(files)}


def services_config(values: dict) -> dict:
    """Say what the restaurant offers, and when."""
    need(values, "restaurantId", "openingHours")
    return {"services": ["dine-in", "takeaway"]}


def payment_config(values: dict) -> dict:
    """Say how guests pay."""
    need(values, "restaurantId", "vatNumber")
    return {"payments": ["card", "cash"]}


def menu_import(values: dict) -> dict:
    """Import a menu, with pictures where some were uploaded."""
    name, menu, items = need(values, "name", "menu", "items")
    return {
        "menuId": f"menu-{number(name, menu) % 10**6:06}",
        "menuImported": True,
        "items": items,
        "withPicture": len(values.get("images") or []),
    }


def sync_onboarding_user(values: dict) -> dict:
    """Copy the onboarding user's record."""
    need(values, "userId", "contact")
    return {"synced": True}


def option_sets(values: dict) -> dict:
    """Make sets of options (sizes, extras) for an imported menu."""
    menu, items = need(values, "menuId", "items")
    return {"optionSets": number(menu) % 5 + items // 10}


def item_tags(values: dict) -> dict:
    """Tag the items of an imported menu (vegan, spicy)."""
    menu, items = need(values, "menuId", "items")
    return {"tagged": items - number(menu) % 5}


SERVICES = {
    "extraction": extraction,
    "contactSearch": contact_search,
    "detailsExtraction": details_extraction,
    "cloudwaitressAccount": cloudwaitress_account,
    "codeGeneration": code_generation,
    "createOnboardingUser": create_onboarding_user,
    "uploadImages": upload_images,
    "restaurantRegistration": restaurant_registration,
    "websiteConfig": website_config,
    "servicesConfig": services_config,
    "paymentConfig": payment_config,
    "menuImport": menu_import,
    "syncOnboardingUser": sync_onboarding_user,
    "optionSets": option_sets,
    "itemTags": item_tags,
}


# --- what is remembered


class Ledger:
    """Every call and every fault, in a file of a JSON line each. `lock` is held by whoever uses it."""

    def __init__(self, path: str, faults: list[dict]) -> None:
        """Raises OSError or ValueError. `faults` of the configuration count once in the ledger's life."""
        self.lock = threading.Lock()
        self.calls: list[dict] = []
        self._faults: dict[str, dict] = {}
        self._completed: set[tuple[str, str]] = set()  # (uid of the job, task)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with open(self._file, "rb", closefd=False) as file:
            content = file.read()
        whole = content.rfind(b"\n") + 1  # a last line without an end was being written when the machine died
        os.ftruncate(self._file, whole)
        for line in content[:whole].splitlines():
            self._take(json.loads(line))
        for position, fault in enumerate(faults):
            if f"config-{position}" not in self._faults:
                self.add_fault(fault, f"config-{position}")

    def _write(self, record: dict) -> None:
        """Append and take in. A process that is killed after this loses nothing: the kernel has it."""
        os.write(self._file, json.dumps(record).encode() + b"\n")
        self._take(record)

    def _take(self, record: dict) -> None:
        if "fault" in record:
            self._faults[record["fault"]["id"]] = dict(record["fault"])
        elif "cleared" in record:
            for fault in self._faults.values():
                fault["times"] = 0
        elif "used" in record:
            self._faults[record["used"]]["times"] -= 1
        else:
            self.calls.append(record)
            if record["result"] in ("completed", "repeated"):
                self._completed.add((record["uid"], record["task"]))

    # faults

    def add_fault(self, fault: dict, name: str = "") -> dict:
        """Remember to fail. Raises ValueError for what is no fault."""
        made = {"id": name or f"fault-{len(self._faults) + 1}", "times": 1, "delaySeconds": 0, **fault}
        unknown = sorted(set(made) - {"id", "task", "times", "job", "status", "delaySeconds", "kind"})
        if unknown or made.get("task") not in SERVICES or made.get("kind", "status") not in KINDS:
            raise ValueError(f"a fault has a task of {sorted(SERVICES)}, and a kind of {KINDS}; {unknown}")
        if not (isinstance(made["times"], int) and 0 <= made["delaySeconds"] <= 3600):
            raise ValueError("times is a whole number, delaySeconds at most 3600")
        if "kind" not in made and ("status" in made or not made["delaySeconds"]):
            made["kind"] = "status"
        if made.get("kind") == "status":
            made.setdefault("status", 503)
            if made["status"] not in range(400, 600):
                raise ValueError("status is an error's, 400 to 599")
        self._write({"fault": made})
        return made

    def clear_faults(self) -> None:
        """Fail no more."""
        self._write({"cleared": True})

    def faults(self) -> list[dict]:
        """Return those that are left."""
        return [fault for fault in self._faults.values() if fault["times"] > 0]

    def next_fault(self, task: str, job: str) -> dict:
        """Use up one of this call's faults; an empty one if there is none."""
        for fault in self.faults():
            if fault["task"] == task and fault.get("job", job) == job:
                self._write({"used": fault["id"]})
                return fault
        return {}

    # calls

    def record(self, call: dict, result: str, **more: object) -> None:
        """Write a call down."""
        self._write(
            {"number": len(self.calls) + 1, "time": round(time.time(), 3), **call, "result": result, **more}
        )

    def is_completed(self, uid: str, task: str) -> bool:
        """Whether it was done before, whatever attempt asks now."""
        return (uid, task) in self._completed

    def check_uses(self, call: dict) -> None:
        """Raise Refused for an output of an earlier task that this job did not get from us."""
        for task, shown in call["uses"].items():
            if not self.is_completed(call["uid"], task) or shown != receipt(call["uid"], task):
                raise Refused(409, f"{shown!r} is no receipt of this job's {task}")

    def summary(self, calls: list[dict]) -> dict:
        """Count calls: uid of a job → its name and tasks → results and attempts."""
        jobs: dict[str, dict] = {}
        for call in calls:
            job = jobs.setdefault(call["uid"], {"job": call["job"], "tasks": {}})
            counts = dict.fromkeys(("completed", "repeated", "failed", "refused"), 0)
            task = job["tasks"].setdefault(call["task"], {**counts, "attempts": []})
            task[call["result"]] += 1
            task["attempts"].append(call["attempt"])
        return jobs


def receipt(uid: str, task: str) -> str:
    """Return what proves that this task of this job was done here."""
    return f"{task}-{number(uid, task, 'receipt') % 16**8:08x}"


# --- HTTP


class World(ThreadingHTTPServer):
    """Serves on 127.0.0.1."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, ledger: Ledger, delay_seconds: float) -> None:
        self.ledger = ledger
        self.delay_seconds = delay_seconds
        super().__init__(("127.0.0.1", port), Handler)

    def handle_error(self, _request: object, _client: object) -> None:
        """Say nothing of a client that went away: tasks are killed now and then."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: World
    wbufsize = -1  # an answer leaves in one piece

    def log_message(self, _format: str, *args: object) -> None:
        """Say nothing: the ledger is the log."""

    def do_GET(self) -> None:
        """Tell of the ledger and the faults."""
        url, ledger = urlsplit(self.path), self.server.ledger
        wanted = parse_qs(url.query).get("job")
        with ledger.lock:
            calls = [call for call in ledger.calls if not wanted or call["job"] in wanted]
            answers = {
                "/ledger": lambda: calls,
                "/ledger/summary": lambda: ledger.summary(calls),
                "/faults": ledger.faults,
                "/health": lambda: {"status": "ok"},
            }
            answer = answers[url.path]() if url.path in answers else None
        if answer is None:
            self._answer(404, {"error": f"no such path: {url.path}", "paths": sorted(answers)})
        else:
            self._answer(200, answer)

    def do_DELETE(self) -> None:
        """Forget the faults."""
        if self.path != "/faults":
            self._answer(404, {"error": f"no such path: {self.path}"})
            return
        with self.server.ledger.lock:
            self.server.ledger.clear_faults()
        self._answer(200, [])

    def do_POST(self) -> None:
        """Take a fault, or serve a task."""
        host = self.headers.get("Host", "").partition(":")[0]
        if "Origin" in self.headers or host not in LOCAL_NAMES:
            self._answer(403, {"error": "this is for programs on this machine, not for web pages"})
            return
        try:
            body = json.loads(self.rfile.read(min(int(self.headers["Content-Length"]), BODY_LIMIT)))
            if self.path == "/faults":
                with self.server.ledger.lock:
                    answer = self.server.ledger.add_fault(body)
                self._answer(200, answer)
            elif self.path[1:] in SERVICES:
                self._serve(self.path[1:], body)
            else:
                self._answer(404, {"error": f"no such service: {self.path[1:]}", "services": list(SERVICES)})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self._answer(400, {"error": f"malformed request: {type(error).__name__}: {error}"})

    def _serve(self, task: str, body: dict) -> None:
        ledger = self.server.ledger
        call = {
            "job": str(body["job"]["name"]),
            "uid": str(body["job"]["uid"]),
            "task": task,
            "attempt": int(body["attempt"]),
            "uses": dict(body["uses"]),
        }
        values = dict(body["values"])
        with ledger.lock:
            fault = ledger.next_fault(task, call["job"])
        time.sleep(self.server.delay_seconds + fault.get("delaySeconds", 0))
        kind = fault.get("kind")
        with ledger.lock:
            if kind in (None, "lostAnswer"):
                status, answer = self._do(call, values)
            else:
                status, answer = fault.get("status", 200), {"error": f"{task} is told to fail"}
                ledger.record(call, "failed", byFault=fault["id"])
        if kind in ("disconnect", "lostAnswer"):
            self.close_connection = True
        elif kind == "garbage":
            self._send(200, b"<html>Bad gateway</html>\n")
        else:
            self._answer(status, answer)

    def _do(self, call: dict, values: dict) -> tuple[int, dict]:
        ledger, task = self.server.ledger, call["task"]
        try:
            ledger.check_uses(call)
            answer = SERVICES[task](values)
        except Refused as refusal:
            ledger.record(call, "refused", status=refusal.status)
            return refusal.status, {"error": str(refusal)}
        ledger.record(call, "repeated" if ledger.is_completed(call["uid"], task) else "completed")
        return 200, {**answer, "receipt": receipt(call["uid"], task)}

    def _answer(self, status: int, content: object) -> None:
        self._send(status, json.dumps(content).encode() + b"\n")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="The world outside of the registration sample.")
    parser.add_argument("--control-api-port", type=int, default=8795, help="0 takes a free one")
    parser.add_argument("--data-dir", default=".", help="where ledger.jsonl is kept")
    parser.add_argument(
        "--config", help="JSON file: delaySeconds of every call, faults as POST /faults takes them"
    )
    options = parser.parse_args()
    try:
        config = {}
        if options.config:
            with open(options.config, encoding="utf-8") as file:
                config = json.load(file)
        ledger = Ledger(os.path.join(options.data_dir, "ledger.jsonl"), config.get("faults", []))
        world = World(options.control_api_port, ledger, float(config.get("delaySeconds", 0)))
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        print(f"stub: {error}", file=sys.stderr)
        return 1
    for signum in (signal.SIGTERM, signal.SIGINT):
        # shutdown() waits for the loop that the handler interrupts: it needs a thread of its own
        signal.signal(signum, lambda *_: threading.Thread(target=world.shutdown).start())
    print(f"listening on http://127.0.0.1:{world.server_port}", flush=True)
    world.serve_forever(poll_interval=0.05)
    world.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
