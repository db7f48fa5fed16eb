"""`mainstay assets`, `status asset/NAME`, and what other verbs say of assets."""

from __future__ import annotations

import json

import pytest
from tests.unit.cli.fleet import COMPENSATED, IRON, SINCE, Fleet, claim, condition, holder, iron
from tests.unit.cli.theatre import say

from mainstay.cli.assets import assets_table
from mainstay.cli.assetstate import by_key, missing, waiting
from mainstay.shell.kube import ASSETS, BATCHES, JOBS, Kube, path

EVERYTHING = ("status", "--kubeconfig", "another")
SEEN = condition("HoldingsObserved", "True", "Observed")
BLIND = condition("HoldingsObserved", "False", "ProbeFailed", "GET http://127.0.0.1:8090/my/ships/1: 503")
UNSEEN = condition("Ready", "Unknown", "ProbeFailed", "nothing is released")
STALLED = condition("Stalled", "True", "HolderCompleted", "job gone completed and left IRON_ORE 40")
UNCLAIMED = condition("Ready", "False", "UnclaimedHoldings", "no job is known to have put that there")
NEW = condition("Ready", "Unknown", "NotObservedYet", "looking what is in it")
ORPHANED = condition("Ready", "False", "HeldOrphaned", "job/gone left IRON_ORE 40")


@pytest.fixture
def fleet(tmp_path, monkeypatch) -> Fleet:
    made = Fleet()
    monkeypatch.setattr("mainstay.cli.home.LONGEST", 500)
    monkeypatch.setenv("MAINSTAY_HOME", str(tmp_path))
    monkeypatch.setattr(Kube, "connect", made.connect)
    return made


def said(*words: str, code: int = 0) -> str:
    return " ".join(say(*words, code=code).split())


def rows(*words: str) -> list[list[str]]:
    """First column, then the rest, of each line of a table."""
    return [line.split() for line in say(*words).splitlines()]


# -- the table


@pytest.mark.usefixtures("fleet")
def test_who_has_what_and_how_many_wait():
    head, *lines = rows("assets")
    assert head == ["ASSET", "TYPE", "STATE", "HOLDER", "HOLDINGS", "WAITING", "AGE", "MESSAGE"]
    assert lines[0][:7] == ["ship-1", "Ship", "Held", "job/mine", "IRON_ORE", "40", "1"]
    assert [line[0] for line in lines] == ["ship-1", "factory-1", "ship-2"]
    assert lines[2][:4] == ["ship-2", "Ship", "Free", "1"]


def test_failures_come_first(fleet):
    fleet.ship("zeta", "HeldOrphaned", None, None, ORPHANED, **iron())
    fleet.ship("zulu", "Unknown", None, None, BLIND, UNSEEN)
    comp = {"batch": "x-c3", "attempt": 3, "failures": 2, "startedAt": SINCE, "endedAt": SINCE}
    fleet.ship("xray", "Held", holder("x-c3", "JobBatch"), compensation=comp, **iron())
    told = say("assets").splitlines()[1:]
    assert [line.split()[0] for line in told[:4]] == ["xray", "zeta", "zulu", "ship-1"]
    assert "batch/x-c3" in told[0]
    assert "its compensation failed 2 times" in told[0]
    assert "HeldOrphaned: job/gone left IRON_ORE 40" in told[1]
    assert "ProbeFailed: GET http://127.0.0.1:8090/my/ships/1: 503" in told[2]


def test_names_namespaces_and_forms(fleet):
    fleet.add(ASSETS, "probe-9", {}, "other", state="Free")
    assert [line[0] for line in rows("assets", "asset/ship-2", "factory-1")[1:]] == ["factory-1", "ship-2"]
    assert [line[1] for line in rows("assets", "-A")[1:]] == ["ship-1", "factory-1", "ship-2", "probe-9"]
    assert "no assets in namespace none; -A shows every namespace" in said("assets", "-n", "none")
    assert 'no Asset "nix" in namespace default' in said("assets", "nix", code=1)
    assert "-A goes without names" in said("assets", "ship-1", "-A", code=2)
    assert "--output xml is unknown" in said("assets", "-o", "xml", code=2)
    assert "COMPENSATION" in say("assets", "-o", "wide")
    (ship, *_) = json.loads(say("assets", "-o", "json"))["assets"]
    assert (ship["name"], ship["state"], ship["holdings"]) == ("ship-1", "Held", IRON)
    assert ship["holder"] == holder("mine")
    assert ship["waiting"] == ["late"]


def test_words_that_do_not_fit_get_a_line_of_their_own(fleet):
    words = condition(
        "Ready", "False", "HeldOrphaned", "job/gone left IRON_ORE 40, and nothing empties it yet"
    )
    fleet.ship("zeta", "HeldOrphaned", holder("a-job-with-a-long-name"), None, words, **iron())
    ship = fleet.objects[path(ASSETS, "default", "zeta")]
    table = assets_table([ship], {})
    narrow = [line.plain for line in table.lines(120)]
    assert narrow[2] == "    HeldOrphaned: job/gone left IRON_ORE 40, and nothing empties it yet"
    assert "HeldOrphaned: job" not in narrow[1]
    assert [line.plain for line in table.lines(220)][1].endswith("nothing empties it yet")


# -- who waits


def test_a_queue_is_by_age_and_who_had_it_comes_first(fleet):
    fleet.job("had", "Suspended", claim("ship-1"), assets=[{"name": "ship1", "ref": "ship-1", "uid": "u"}])
    fleet.job("leaving", "InProgress", claim("ship-1"))
    fleet.objects[path(JOBS, "default", "leaving")]["metadata"]["deletionTimestamp"] = SINCE
    fleet.job("cancelled", "Pending", claim("ship-1"))
    for name, reason in (("typo", "SpecInvalid"), ("stranger", "NotOwner")):
        fleet.job(name, "Pending", claim("ship-1"), condition("Stalled", "True", reason, "spec.steps: no"))
    fleet.job("older", "Pending", claim("ship-1"), born="2026-11-20T02:00:00Z")
    fleet.objects[path(JOBS, "default", "cancelled")]["spec"]["state"] = "Cancelled"
    jobs = [one for at, one in fleet.objects.items() if f"/{JOBS}/" in at]
    known = by_key(one for at, one in fleet.objects.items() if f"/{ASSETS}/" in at)
    queue = waiting(jobs, known)["default", "ship-1"]
    assert [job["metadata"]["name"] for job in queue] == ["had", "older", "late"]


def test_a_job_of_the_compensation_that_has_it_does_not_wait(fleet):
    fleet.ship("ship-3", "HeldOrphaned", holder("ship-3-c1", "JobBatch"), **iron())
    fleet.job("ship-3-c1-iron-ore", "InProgress", claim("ship-3"))
    job = fleet.objects[path(JOBS, "default", "ship-3-c1-iron-ore")]
    job["metadata"]["ownerReferences"] = [{"kind": "JobBatch", "name": "ship-3-c1", "uid": "uid-ship-3-c1"}]
    known = by_key([fleet.objects[path(ASSETS, "default", "ship-3")]])
    assert missing(job, known) == []
    job["metadata"]["ownerReferences"] = []
    assert [name for name, _ in missing(job, known)] == ["ship-3"]


# -- one asset


@pytest.mark.usefixtures("fleet")
def test_one_asset_with_who_waits_for_what():
    told = say("status", "asset/ship-1")
    flat = " ".join(told.split())
    assert "asset/ship-1 Held Ship age" in flat
    assert "holder job/mine, for " in flat
    assert f"since {SINCE}; it is InProgress" in flat
    assert "holdings IRON_ORE 40" in flat
    assert "observed yes (every 15 s) asked 3 s ago" in flat
    assert "compensation none needed up to now" in flat
    waits = [line.split() for line in told.splitlines() if line.startswith("job/")]
    assert [line[0] for line in waits] == ["job/late"]
    assert " ".join(waits[0][3:]) == "ship-1 (job/mine), ship-2 (Free)"
    assert json.loads(say("status", "asset/ship-1", "-o", "json"))["status"]["holdings"] == IRON


@pytest.mark.usefixtures("fleet")
def test_a_factory_has_deliveries_and_totals():
    told = say("status", "asset/factory-1")
    lines = [line.split() for line in told.splitlines()]
    assert ["IRON_ORE", "65", "2"] in lines
    assert [line[:5] for line in lines if len(line) == 6 and line[2] in ("yes", "no")] == [
        ["GOLD", "40", "no", "job/second", "deliver"],
        ["IRON_ORE", "25", "yes", "job/first", "deliver"],
    ]
    flat = " ".join(told.split())
    assert "accepts IRON_ORE, COPPER_ORE" in flat
    assert "observed no probe: as tasks report it" in flat
    assert "compensation" not in flat


def test_a_compensation_is_told(fleet):
    comp = {"batch": "s-c2", "attempt": 2, "failures": 1, "cause": "JobCancelled", "holdings": IRON,
            "startedAt": SINCE, "endedAt": SINCE, "retryAt": "2099-01-01T00:00:00Z"}  # fmt: skip
    fleet.ship("s", "HeldOrphaned", holder("s-c2", "JobBatch"), None, ORPHANED, compensation=comp, **iron())
    told = said("status", "asset/s")
    assert "holder batch/s-c2, for " in told
    assert "(its compensation)" in told
    assert "batch/s-c2, attempt 2, because of JobCancelled, of IRON_ORE 40, ended " in told
    assert "1 failure in a row, tried again in " in told
    assert told.endswith("mainstay status batch/s-c2")
    comp |= {"endedAt": None, "retryAt": None, "message": "h0 (IRON_ORE 40): no market buys it"}
    fleet.ship("s", "Held", holder("s-c2", "JobBatch"), None, ORPHANED, compensation=comp, **iron())
    told = said("status", "asset/s")
    assert ", of IRON_ORE 40, running for " in told
    assert "1 failure in a row h0 (IRON_ORE 40): no market buys it" in told
    why = condition("Ready", "False", "CompensationRetrying", f"is tried again: {comp['message']}")
    fleet.ship("s", "HeldOrphaned", holder("s-c2", "JobBatch"), None, why, compensation=comp, **iron())
    assert said("status", "asset/s").count("no market buys it") == 1
    comp |= {"endedAt": SINCE, "failures": 0}
    fleet.ship("s", "Free", None, None, compensation=comp)
    assert "no market buys it" not in said("status", "asset/s")


@pytest.mark.parametrize(
    ("status", "way"),
    [
        (
            {"phase": "ActionRequired", "actions": [{"name": "price", "title": "Which price?"}]},
            "mainstay input job/s-c2-h0 price -f values.yaml",
        ),
        ({"phase": "ActionRequired", "resumable": True}, "mainstay resume job/s-c2-h0"),
    ],
)
def test_a_compensation_that_waits_for_a_person_ends_with_the_command(fleet, status, way):
    comp = {"batch": "s-c2", "attempt": 2, "failures": 0, "holdings": IRON, "startedAt": SINCE}
    told = condition("Stalled", "True", "CompensationBlocked", "s-c2 empties it: h0 waits for a person")
    fleet.ship("s", "Held", holder("s-c2", "JobBatch"), None, told, SEEN, compensation=comp, **iron())
    fleet.job("s-c2-h0", status["phase"], claim("s"), **{k: v for k, v in status.items() if k != "phase"})
    job = fleet.objects[path(JOBS, "default", "s-c2-h0")]
    job["metadata"]["ownerReferences"] = [{"kind": "JobBatch", "name": "s-c2", "uid": "uid-s-c2"}]
    assert said("status", "asset/s").endswith(f"mainstay status batch/s-c2 {way}")


def test_one_that_is_declared_wrongly_says_so_and_nothing_of_the_probe(fleet):
    told = condition("Stalled", "True", "SpecInvalid", "spec.holdings.probe.path: 'bodi': undeclared")
    ready = condition("Ready", "False", "SpecInvalid", "spec.holdings.probe.path: 'bodi': undeclared")
    fleet.ship("s", "Unknown", None, None, ready, told)
    words = said("status", "asset/s")
    assert "SpecInvalid: spec.holdings.probe.path" in words
    assert "kubectl edit asset s # what is declared wrongly" in words
    assert "probe itself" not in words


def test_what_a_completed_job_left_without_a_compensation(fleet):
    fleet.ship("s", "HeldOrphaned", holder("done"), {"type": "Ship"}, STALLED, **iron())
    words = said("status", "asset/s")
    assert "# to have it emptied: add spec.compensation, then: kubectl delete pjob done" in words
    assert "# or a job with assets: [{name: ship, ref: s, mode: TakeOver}] gets it as it is" in words
    assert "it empties it" not in words


@pytest.mark.parametrize(
    ("state", "by", "spec", "told", "way"),
    [
        (
            "HeldOrphaned",
            None,
            {"type": "Ship"},
            (STALLED,),
            "kubectl edit asset s # add spec.compensation: it empties it",
        ),
        (
            "HeldOrphaned",
            None,
            COMPENSATED,
            (STALLED,),
            "kubectl edit asset s # spec.compensation.unclaimed: true",
        ),
        (
            "HeldOrphaned",
            "done",
            COMPENSATED,
            (STALLED,),
            "kubectl delete pjob done # its compensation empties it then",
        ),
        ("HeldOrphaned", None, COMPENSATED, (STALLED,), "assets: [{name: ship, ref: s, mode: TakeOver}]"),
        (
            "Unknown",
            None,
            COMPENSATED,
            (BLIND, UNSEEN),
            "kubectl edit asset s # what is wrong with the probe itself",
        ),
    ],
)
def test_ways_out(fleet, state, by, spec, told, way):
    fleet.ship("s", state, holder(by) if by else None, spec, *told, **iron())
    assert way in said("status", "asset/s")


@pytest.mark.parametrize(
    ("state", "told"), [("HeldOrphaned", (UNCLAIMED, STALLED)), ("Unknown", (BLIND, UNSEEN))]
)
def test_one_that_is_deleted_stays_until_it_is_empty(fleet, state, told):
    fleet.ship("s", state, None, None, *told, **iron())
    fleet.objects[path(ASSETS, "default", "s")]["metadata"]["deletionTimestamp"] = SINCE
    words = said("status", "asset/s")
    assert "asset/s Deleting Ship" in words
    assert "it goes once nobody has it and it is seen to be empty" in words
    assert (
        """kubectl patch asset s --type=merge -p '{"metadata":{"finalizers":null}}' # lets it go now"""
        in words
    )
    assert "TakeOver" not in words
    fleet.objects[path(ASSETS, "default", "s")]["spec"] = {"type": "Ship"}
    unseen = state == "Unknown"
    way = "empty it yourself, or set spec.compensation, with unclaimed: true, and it goes"
    assert (way in said("status", "asset/s")) is not unseen


def test_one_that_was_not_looked_at_yet_is_not_wrong(fleet):
    fleet.ship("s", "Unknown", None, None, NEW)
    told = said("status", "asset/s")
    assert "NotObservedYet: looking what is in it" in told
    assert "observed not yet (every 15 s)" in told
    assert "kubectl" not in told
    assert json.loads(say("assets", "s", "-o", "json"))["assets"][0]["problem"] == ""


def test_an_unexpected_delivery_is_told(fleet):
    odd = condition("UnexpectedInput", "True", "UnexpectedInput", "delivered, and not accepted: GOLD")
    fleet.objects[path(ASSETS, "default", "factory-1")]["status"]["conditions"].append(odd)
    told = said("status", "asset/factory-1")
    assert "deliveries UnexpectedInput: delivered, and not accepted: GOLD" in told
    assert told.count("UnexpectedInput") == 1
    assert "not accepted: GOLD" in said("assets")


def test_a_holder_that_stands_still_or_is_gone_is_named(fleet):
    fleet.objects[path(JOBS, "default", "mine")]["status"]["phase"] = "ActionRequired"
    told = said("status", "asset/ship-1")
    assert "it is ActionRequired" in told
    assert told.endswith("mainstay status job/mine # it is ActionRequired, and keeps the asset")
    fleet.objects[path(JOBS, "default", "mine")]["metadata"]["uid"] = "another"
    assert "this job is gone" in said("status", "asset/ship-1")


def test_a_batch_says_which_asset_it_empties(fleet):
    fleet.batch("s-c2", "InProgress")
    owner = {"kind": "Asset", "name": "s", "uid": "uid-s"}
    fleet.objects[path(BATCHES, "default", "s-c2")]["metadata"]["ownerReferences"] = [owner]
    assert "batch/s-c2 InProgress age" in said("status", "batch/s-c2")
    assert "compensation of asset/s" in said("status", "batch/s-c2")


# -- a job


def test_a_job_says_what_it_has_and_what_it_waits_for(fleet):
    held = condition("Ready", "False", "AssetHeld", "waits for ship-1, which job/mine has")
    fleet.objects[path(JOBS, "default", "late")]["status"]["conditions"] = [held]
    fleet.objects[path(ASSETS, "default", "ship-2")]["status"] |= {"state": "Held", "holder": holder("late")}
    told = say("status", "job/late")
    assert "AssetHeld: waits for ship-1, which job/mine has" in told
    lines = [line.split() for line in told.splitlines() if line.startswith("asset/")]
    assert lines[0] == ["asset/ship-1", "ship1", "Exclusive", "waits", "job/mine", "IRON_ORE", "40", "Held"]
    assert lines[1] == ["asset/ship-2", "ship2", "Exclusive", "has", "job/late", "Held"]
    assert "asset/ghost ghost Exclusive waits does not exist" in said("status", "job/early")
    assert "asset/ship-1 ship1 Shared looks job/mine" in said("status", "job/looks")
    fleet.job("viewer", "Pending", claim("phantom", mode="Shared"))
    assert "asset/phantom phantom Shared waits does not exist" in said("status", "job/viewer")
    assert "waits" not in said("status", "job/done").replace("waitsFor", "")


def test_a_job_that_gets_none_of_its_assets_does_not_claim_them(fleet):
    told = condition("Stalled", "True", "SpecInvalid", "spec.steps: fly: no such input")
    fleet.job("e1", "Pending", claim("ship-2"), told)
    words = say("status", "job/e1")
    head, row = [line.split() for line in words.splitlines() if line.lower().startswith("asset")]
    assert head == ["ASSET", "AS", "MODE", "CLAIM", "HOLDER", "HOLDINGS", "STATE"]
    assert row == ["asset/ship-2", "ship2", "Exclusive", "Free"]
    assert " ".join(words.split()).endswith(
        "kubectl edit pjob e1 # it goes on by itself when its spec is corrected"
    )
    (line,) = [line for line in say("status", "--kubeconfig", "x").splitlines() if " e1 " in line]
    assert "kubectl edit pjob e1" in line


# -- everything


def test_status_has_a_section_of_assets(fleet):
    told = say(*EVERYTHING)
    lines = told.splitlines()
    (head,) = [at for at, line in enumerate(lines) if line.startswith("ASSET")]
    assert lines[head - 1] == ""
    assert lines[head + 1].startswith("ship-1")
    found = json.loads(say(*EVERYTHING, "-o", "json"))
    assert [one["name"] for one in found["assets"]] == ["ship-1", "factory-1", "ship-2"]
    (late,) = [one for one in found["jobs"] if one["name"] == "late"]
    assert [one["ref"] for one in late["assets"]] == ["ship-1", "ship-2"]
    for number in range(30):
        fleet.ship(f"many-{number}", "Free")
    fleet.ship("zz", "HeldOrphaned", None, None, ORPHANED, **iron())
    told = say(*EVERYTHING)
    assert told.count("many-") == 17
    assert (
        "20 of 34 assets: 32 Free, 1 HeldOrphaned, 1 Held, 1 with a problem; all of them: mainstay assets"
        in told
    )
    (head,) = [at for at, line in enumerate(told.splitlines()) if line.startswith("ASSET")]
    assert told.splitlines()[head + 1].startswith("zz")


def test_nothing_is_said_of_assets_where_there_are_none(fleet):
    fleet.objects = {}
    assert "no runs, stacks, jobs, batches or assets yet" in said(*EVERYTHING)
    assert "ASSET" not in say(*EVERYTHING)


# -- verbs that are for what runs


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize(
    "verb", ["stop", "start", "pause", "resume", "restart", "cancel", "logs", "input", "release"]
)
def test_verbs_for_what_runs_name_a_way_out(verb):
    told = said(verb, "asset/ship-1", code=1)
    assert "asset/ship-1: nothing of an asset runs" in told
    assert "mainstay status asset/ship-1" in told
    assert "mainstay cancel job/HOLDER" in told


@pytest.mark.usefixtures("fleet")
def test_a_bare_name_of_an_asset_is_found():
    assert "There is an Asset of this name: asset/ship-1." in said("stop", "ship-1", code=1)


# -- cancel


def test_cancel_says_what_becomes_of_the_cargo(fleet):
    words = "ship-1 has IRON_ORE 40: its compensation will empty it; until then nobody else gets it"
    assert words in said("cancel", "job/mine", code=1)
    assert words in said("cancel", "job/mine", "-y")
    assert "IRON_ORE" not in said("cancel", "job/late", "-y")
    ship = fleet.objects[path(ASSETS, "default", "ship-1")]
    ship["spec"] = {"type": "Ship"}
    assert "ship-1 has IRON_ORE 40, and no compensation: it stays HeldOrphaned" in said(
        "cancel", "job/mine", "-y"
    )
    ship["metadata"]["deletionTimestamp"] = SINCE
    leaving = said("cancel", "job/mine", "-y")
    assert "no compensation: empty it yourself, or set spec.compensation, and it goes" in leaving
    assert "TakeOver" not in leaving
    del ship["metadata"]["deletionTimestamp"]
    ship["status"]["conditions"] = [BLIND]
    assert "ship-1: nobody knows what is in it, its probe fails" in said("cancel", "job/mine", "-y")
    ship["status"] |= {"conditions": [], "holdings": [], "summary": ""}
    assert "ship-1" not in said("cancel", "job/mine", "-y")


def test_cancel_of_a_batch_counts_the_assets_of_its_jobs(fleet):
    fleet.batch("night", "InProgress")
    job = fleet.objects[path(JOBS, "default", "mine")]
    job["metadata"] |= {"ownerReferences": [{"kind": "JobBatch", "name": "night", "uid": "uid-night"}]}
    assert "ship-1 has IRON_ORE 40" in said("cancel", "batch/night", "-y")
    fleet.objects[path(ASSETS, "default", "ship-1")]["status"]["holder"] = holder("night", "JobBatch")
    assert "batch/night is its compensation: another one follows" in said("cancel", "batch/night", "-y")
    assert path(BATCHES, "default", "night") in [at for at, _ in fleet.patches]
