"""The batch that empties an asset: made of its claim alone, the same bytes whoever makes it, and when."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.shell.assets.houses import NOW, STEPS

from mainstay.api.asset import Asset
from mainstay.api.jobbatch import JobBatch
from mainstay.api.meta import NAME_MAX
from mainstay.core.names import compensation_name
from mainstay.shell.assets.assets import compensation_of
from mainstay.shell.jobs.batches import job_of

UID = "u1"
HOLDINGS = [{"symbol": "FUEL", "units": 3}, {"symbol": "Iron Ore/№1", "units": 40}]


def an_asset(
    template: dict[str, Any] | None = None,
    *,
    deleting: bool = False,
    name: str = "ship-1",
    version: int = 7,
    **spec: Any,
) -> Asset:
    compensation = {"template": {"steps": STEPS, **(template or {})}, **spec.pop("compensation", {})}
    claim = {"batch": compensation_name(name, UID, 2), "attempt": 2, "startedAt": NOW, "holdings": HOLDINGS}
    going = {"deletionTimestamp": NOW} if deleting else {}
    return Asset.model_validate(
        {
            "metadata": going
            | {
                "name": name,
                "namespace": "d",
                "uid": UID,
                "resourceVersion": str(version),
                "generation": version,
            },
            "spec": {"compensation": compensation, **spec},
            "status": {"compensation": claim, "holdings": [{"symbol": "LATER", "units": version}]},
        }
    )


def as_jobs(made: dict[str, Any]) -> list[dict[str, Any]]:
    """What the batch makes of it."""
    made["metadata"]["uid"] = "b1"
    batch = JobBatch.model_validate(made)
    return [job_of(batch, f"{batch.metadata.name}-{entry.name}", entry.name) for entry in batch.spec.jobs]


def test_the_same_bytes_for_the_same_claim() -> None:
    """Whatever else was seen in it since, under any version of the object."""
    made = {json.dumps(compensation_of(an_asset(version=n))) for n in range(1, 4)}
    assert len(made) == 1


def test_whose_it_is() -> None:
    meta = compensation_of(an_asset())["metadata"]
    assert (meta["name"], meta["namespace"]) == (compensation_name("ship-1", UID, 2), "d")
    assert meta["labels"] == {"mainstay.dev/asset-uid": UID}
    (owner,) = meta["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("Asset", "ship-1", UID, True)


def test_of_an_asset_that_is_being_deleted_it_is_nobodys_child() -> None:
    """The cluster's garbage collector would delete what the asset's own end waits for."""
    made, before = compensation_of(an_asset(deleting=True)), compensation_of(an_asset())
    assert "ownerReferences" not in made["metadata"]
    del before["metadata"]["ownerReferences"]
    assert made == before


def test_a_job_for_each_holding_that_was_claimed() -> None:
    made = compensation_of(
        an_asset({"inputs": {"market": "m-1", "symbol": "mine"}}, compensation={"parallelism": 3})
    )
    assert made["spec"]["parallelism"] == 3
    jobs = as_jobs(made)
    assert [job["spec"]["inputs"] for job in jobs] == [
        {"market": "m-1", "asset": "ship-1", "symbol": "FUEL", "units": 3},
        {"market": "m-1", "asset": "ship-1", "symbol": "Iron Ore/№1", "units": 40},
    ]
    assert [job["metadata"]["name"].removeprefix(made["metadata"]["name"]) for job in jobs] == ["-h0", "-h1"]


def test_every_job_claims_the_asset_first() -> None:
    market = {"name": "market", "ref": "market-1", "mode": "Shared"}
    for job in as_jobs(compensation_of(an_asset({"assets": [market]}))):
        assert job["spec"]["assets"] == [{"name": "asset", "ref": "ship-1"}, market]


@pytest.mark.parametrize(
    ("template", "failure"),
    [({}, "Fail"), ({"onFailure": "Fail"}, "Fail"), ({"onFailure": "ActionRequired"}, "ActionRequired")],
)
def test_what_a_failure_means_is_told_for_its_default_is_not_that_of_a_job(
    template: dict[str, Any], failure: str
) -> None:
    made = compensation_of(an_asset(template))
    assert made["spec"]["template"]["onFailure"] == failure
    assert {job["spec"]["onFailure"] for job in as_jobs(made)} == {failure}


def test_nothing_is_told_that_was_not_declared() -> None:
    assert set(compensation_of(an_asset())["spec"]) == {"parallelism", "template", "jobs"}
    assert set(compensation_of(an_asset())["spec"]["template"]) == {"steps", "onFailure", "assets"}


def test_its_owner_is_the_owner_of_the_asset() -> None:
    owner = {"userId": "ada", "accountId": "a-1"}
    made = compensation_of(an_asset(owner=owner))
    assert made["spec"]["owner"] == owner
    assert {json.dumps(job["spec"]["owner"], sort_keys=True) for job in as_jobs(made)} == {
        json.dumps(owner, sort_keys=True)
    }
    assert "owner" not in compensation_of(an_asset())["spec"]


def test_its_secrets_are_references() -> None:
    ref = {"secretKeyRef": {"name": "venue", "key": "token"}}
    made = compensation_of(an_asset({"inputs": {"token": ref}}))
    assert made["spec"]["template"]["inputs"] == {"token": ref}


def test_names_fit_whatever_the_asset_is_called() -> None:
    longest = ".".join(["a" * 63] * 4)[:253]
    made = compensation_of(an_asset(name=longest))
    for job in as_jobs(made):
        assert len(job["metadata"]["name"]) <= NAME_MAX
        assert job["spec"]["inputs"]["asset"] == longest
