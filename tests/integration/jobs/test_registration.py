"""The registration sample as it is shipped: a user answers twice, phase 2 fails, the operator dies, a resume ends it.

Whether each task ran once, and with the outputs of this job, is told by the stub that the tasks call.
"""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from tests.support.exchange import SAMPLES
from tests.support.plane import RealPlane
from tests.support.stage import Object, Stage, eventually, ready, staged

from mainstay.shell.kube import BATCHES, JOBS, RUNS, path

SAMPLE = SAMPLES / "registration"
JOB = "registration-a"
PASSWORD = "correct-horse-battery"
ONCE_FAILED = {"uploadImages", "restaurantRegistration"}

pytestmark = pytest.mark.xdist_group("jobs")


class Registration:
    """The sample on a stage: its programs in the home, its port one of the stage's."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.port = stage.ports[0]
        shutil.copytree(SAMPLE, stage.home / "samples" / "registration")

    def apply(self) -> None:
        """Apply stub, Secret, and the batch with one restaurant only."""
        stub, secret, batch = (
            yaml.safe_load((SAMPLE / f"{name}.yaml").read_text()) for name in ("stub", "secrets", "batch")
        )
        stub["spec"]["controlApi"] = {"pool": "stage", "port": self.port}
        stub["spec"]["config"]["values"]["delaySeconds"] = 0
        secret["stringData"]["password"] = PASSWORD
        batch["spec"]["jobs"] = [job for job in batch["spec"]["jobs"] if job["name"] == "a"]
        batch["spec"]["template"]["inputs"]["service"] = self.url
        namespace = self.stage.namespace
        self.stage.client.ok("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
        self.stage.client.ok("POST", path(RUNS, namespace), stub)
        self.stage.until("registration-stub", ready("Running"))
        self.stage.client.ok("POST", path(BATCHES, namespace), batch)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, where: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(self.url + where, data, timeout=5) as answer:
            return json.load(answer)

    def job(self) -> Object:
        return self.stage.client.get(path(JOBS, self.stage.namespace, JOB)) or {"status": {}}

    def until(self, is_so: Callable[[Object], Any]) -> Object:
        """The job's status, once it is so."""
        found: list[Object] = []

        def look() -> bool:
            found[:] = [self.job().get("status") or {}]
            return bool(is_so(found[0]))

        eventually(look, f"{JOB}: {found}")
        return found[0]

    def change(self, **spec: Any) -> None:
        self.stage.client.merge(path(JOBS, self.stage.namespace, JOB), {"spec": spec})

    def answer(self, step: str) -> None:
        """Answer with the sample's own values."""
        values = yaml.safe_load((SAMPLE / "answers" / f"{step}.yaml").read_text())
        self.change(inputs={step: values})


@pytest.fixture
def sample(plane: RealPlane) -> Iterator[Registration]:
    with staged(plane) as stage:
        one = Registration(stage)
        one.apply()
        yield one


def asks(step: str) -> Callable[[Object], bool]:
    """The job waits for the answer to this step."""
    return lambda s: s.get("phase") == "ActionRequired" and [a["name"] for a in s["actions"]] == [step]


def phase(name: str) -> Callable[[Object], bool]:
    return lambda s: s.get("phase") == name


def tasks(status: Object) -> dict[str, Object]:
    return {t["name"]: t for step in status["steps"] for p in step.get("phases", ()) for t in p["tasks"]}


def in_state(status: Object, *states: str) -> set[str]:
    return {name for name, task in tasks(status).items() if task["state"] in states}


def test_from_apply_over_a_failure_to_completed(sample: Registration):
    status = sample.until(asks("companySelection"))
    assert in_state(status, "Completed") == {"extraction", "contactSearch"}
    sample.answer("companySelection")
    status = sample.until(asks("configuration"))
    assert (status["currentStep"], status["progress"]) == ("configuration", "3/15")

    sample.ask("/faults", {"task": "uploadImages"})  # has retries: nobody needs to act
    sample.ask("/faults", {"task": "restaurantRegistration"})
    sample.ask("/faults", {"task": "menuImport", "delaySeconds": 0.7})  # is under way while the other fails
    sample.answer("configuration")
    status = sample.until(lambda s: s.get("resumable"))
    assert status["phase"] == "ActionRequired"
    assert (status["currentStep"], status["currentPhase"]) == ("accountSetup", "phase2")
    assert status["lastCompletedPhase"] == "phase1"
    failure = status["lastFailure"]
    assert (failure["step"], failure["phase"], failure["task"]) == (
        "accountSetup",
        "phase2",
        "restaurantRegistration",
    )
    assert "answered 503: restaurantRegistration is told to fail" in failure["message"]
    plan = ["restaurantRegistration", "servicesConfig", "paymentConfig", "optionSets", "itemTags"]
    assert status["resumePlan"] == plan
    assert set(tasks(status)) - in_state(status, "Completed") == set(plan)
    kept = status["context"]
    assert kept["menuImport"]["menuImported"] is True
    steps = {step["name"]: step["state"] for step in status["steps"]}
    assert steps == {
        **dict.fromkeys(
            ("extraction", "contactSearch", "companySelection", "detailsExtraction", "configuration"),
            "Completed",
        ),
        "accountSetup": "Failed",
    }

    sample.stage.crash()
    sample.stage.restart()
    calls = len(sample.ask("/ledger"))
    assert sample.job()["status"]["context"] == kept
    sample.change(resumeNonce=1)
    status = sample.until(phase("Completed"))

    assert len(sample.ask("/ledger")) == calls + len(plan)
    assert (status["resumes"], status["resumable"], status["progress"]) == (1, False, "15/15")
    assert in_state(status, "Completed") == set(tasks(status))
    assert status["context"].items() >= kept.items()
    every_task_ran_once(sample, status)
    batch = path(BATCHES, sample.stage.namespace, "registration")
    eventually(lambda: (sample.stage.client.get(batch) or {})["status"]["phase"] == "Completed", "the batch")
    nobody_tells_the_password(sample)


def every_task_ran_once(sample: Registration, status: Object) -> None:
    """Told by those whom the tasks called."""
    uid = sample.job()["metadata"]["uid"]
    summary = sample.ask("/ledger/summary")
    assert set(summary) == {uid}
    assert summary[uid]["tasks"] == {
        name: {
            "completed": 1,
            "repeated": 0,
            "failed": int(name in ONCE_FAILED),
            "refused": 0,
            "attempts": [1, 2] if name in ONCE_FAILED else [1],
        }
        for name in tasks(status)
    }
    assert {n: t["attempt"] for n, t in tasks(status).items()} == {
        name: max(task["attempts"]) for name, task in summary[uid]["tasks"].items()
    }
    for call in sample.ask("/ledger"):
        for used, receipt in call["uses"].items():
            assert receipt == status["context"][used]["receipt"], call


def nobody_tells_the_password(sample: Registration) -> None:
    """Nor anything that is written by us, but for files that are its user's alone."""
    stage = sample.stage
    events = stage.client.ok("GET", f"/api/v1/namespaces/{stage.namespace}/events")
    told = [sample.job(), sample.ask("/ledger"), events, *stage.client.items(BATCHES)]
    assert PASSWORD not in json.dumps(told)
    holders = [p for p in stage.home.rglob("*") if p.is_file() and PASSWORD.encode() in p.read_bytes()]
    assert {holder.name for holder in holders} <= {"inputs.json"}
    assert {holder.stat().st_mode & 0o077 for holder in holders} <= {0}
