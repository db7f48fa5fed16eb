"""The rules of jobs and batches at their root: what is over stays over, whoever asks, by spec or by status."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.api.client import Api, action, batch, job, path, phases, program, step

JOB, BATCH = "PhasedJob", "JobBatch"
MADE = {JOB: job, BATCH: batch}
OWNER = {"userId": "u-7", "accountId": "a-1"}
ENDS = ("Completed", "Failed", "Cancelled")
OTHERS = ("Pending", "InProgress", "ActionRequired", "Suspended")


def to(api: Api, phase: str | None, **status: Any) -> Any:
    return api.patch(JOB, "j", {"status": {"phase": phase, **status}}, "status")


@pytest.mark.parametrize("end", ENDS)
def test_a_job_that_is_over_stays_so(api: Api, end: str) -> None:
    api.create(job()).ok()
    to(api, "InProgress").ok()
    to(api, end).ok()
    for phase in (*OTHERS, *(e for e in ENDS if e != end), None):
        to(api, phase).refuses("status.phase", "a job that was Completed, Failed or Cancelled stays so")
    to(api, end, progress="1/1").ok()
    stored = api.request("GET", path(JOB, "j")).ok()
    answer = api.request("PUT", path(JOB, "j", "status"), {**stored, "status": {"phase": "InProgress"}})
    answer.refuses("status.phase", "stays so")
    api.request("PUT", path(JOB, "j", "status"), {k: v for k, v in stored.items() if k != "status"}).refuses(
        "status.phase", "stays so"
    )


@pytest.mark.parametrize("phase", OTHERS)
def test_every_other_phase_may_follow(api: Api, phase: str) -> None:
    api.create(job()).ok()
    to(api, phase).ok()
    for following in (*OTHERS, "Completed"):
        to(api, following).ok()


@pytest.mark.parametrize("kind", MADE)
def test_cancelled_is_final(api: Api, kind: str) -> None:
    document = MADE[kind](state="Cancelled")
    name = document["metadata"]["name"]
    api.create(document).ok()
    for state in ("Running", "Suspended", None):
        api.patch(kind, name, {"spec": {"state": state}}).refuses(
            "spec.state", "stays cancelled; create another"
        )
    api.patch(kind, name, {"metadata": {"labels": {"a": "b"}}}).ok()


@pytest.mark.parametrize("kind", MADE)
def test_other_states_come_and_go(api: Api, kind: str) -> None:
    name = MADE[kind]()["metadata"]["name"]
    api.create(MADE[kind]()).ok()
    for state in ("Suspended", "Running", None, "Suspended", "Cancelled"):
        api.patch(kind, name, {"spec": {"state": state}}).ok()


@pytest.mark.parametrize("resumes", [1, 0, None])
def test_resumes_never_become_less(api: Api, resumes: int | None) -> None:
    api.create(job()).ok()
    to(api, "ActionRequired", resumes=2).ok()
    to(api, "ActionRequired", resumes=resumes).refuses("status.resumes", "can't become lower or be removed")
    to(api, "InProgress", resumes=3).ok()


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize(
    "owner",
    [{"userId": "u-8"}, {"accountId": "a-2"}, {"accountId": None}, {"configId": "c"}, None],
    ids=["another", "another account", "account removed", "config added", "removed"],
)
def test_an_owner_stays(api: Api, kind: str, owner: Any) -> None:
    document = MADE[kind](owner=OWNER)
    name = document["metadata"]["name"]
    api.create(document, user="u-7", groups=("system:masters",)).ok()
    answer = api.patch(kind, name, {"spec": {"owner": owner}})
    answer.refuses("spec.owner", "can't be changed or removed once it is set")


def test_the_nonce_may_go_anywhere(api: Api) -> None:
    """What was consumed stands in status; a GitOps tool may put an older manifest back."""
    api.create(job(resumeNonce=3)).ok()
    for nonce in (4, 1, None):
        api.patch(JOB, "j", {"spec": {"resumeNonce": nonce}}).ok()


STEPS: dict[str, tuple[dict[str, Any], str]] = {
    "a task and an action": (
        {**step("a"), "action": {"title": "t"}},
        "exactly one of task, action and phases",
    ),
    "nothing": ({"name": "a"}, "exactly one of task, action and phases"),
    "a task and phases": (
        {**step("a"), **phases("a", ("p", [{"name": "t", **program()}]))},
        "exactly one of",
    ),
}


@pytest.mark.parametrize("case", STEPS)
def test_a_step_is_one_thing(api: Api, case: str) -> None:
    wrong, text = STEPS[case]
    api.create(job(wrong), dry=True).refuses("spec.steps[0]", text)
    api.create(batch(step("b"), wrong), dry=True).refuses("spec.template.steps[1]", text)


def test_status_is_no_way_round_the_spec(api: Api) -> None:
    """A PUT of status changes nothing else, so no owner goes with it."""
    stored = api.create(job(owner=OWNER), user="u-7", groups=("system:masters",)).ok()
    spec = {k: v for k, v in stored["spec"].items() if k != "owner"}
    changed = {**stored, "spec": spec, "status": {"phase": "Pending"}}
    assert api.request("PUT", path(JOB, "j", "status"), changed).ok()["spec"]["owner"] == OWNER


def test_the_names_the_api_knows(api: Api) -> None:
    api.create(job(action("ask", title="t" * 253)), dry=True).ok()
    api.create(job(*(step(f"s{n}") for n in range(32))), dry=True).ok()


SHIP = {"name": "ship", "ref": "ship-1"}


@pytest.mark.parametrize(
    "changed",
    [[{**SHIP, "ref": "ship-2"}], [{**SHIP, "mode": "Shared"}], [SHIP, {"name": "b", "ref": "a"}], [], None],
    ids=["another", "shared", "one more", "none", "removed"],
)
def test_assets_of_a_job_stay(api: Api, changed: Any) -> None:
    api.create(job(assets=[SHIP])).ok()
    api.patch(JOB, "j", {"spec": {"assets": changed}}).refuses("spec.assets", "can't be changed")
    api.patch(JOB, "j", {"spec": {"state": "Suspended"}}).ok()


def test_assets_are_not_added_to_a_job(api: Api) -> None:
    api.create(job()).ok()
    api.patch(JOB, "j", {"spec": {"assets": [SHIP]}}).refuses("spec.assets", "can't be changed")
    api.patch(JOB, "j", {"spec": {"assets": []}}).ok()
