"""Whose run it is decides who may touch it, whatever RBAC says: everybody here is in system:masters."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.api.client import Answer, Api, batch, job, path, run
from tests.support.plane import RealPlane

RUN = "StrategyRun"
MADE = {"run": run, "job": job, "batch": batch}
ALL = ("system:masters",)
OPERATORS = {
    "user": {"user": "mainstay-operator", "groups": ALL},
    "group": {"user": "any", "groups": (*ALL, "mainstay:operators")},
    "service account": {"user": "system:serviceaccount:mainstay-system:mainstay-operator", "groups": ALL},
    "garbage collector": {
        "user": "system:serviceaccount:kube-system:generic-garbage-collector",
        "groups": ALL,
    },
    "namespace controller": {
        "user": "system:serviceaccount:kube-system:namespace-controller",
        "groups": ALL,
    },
    "local admin": {},
}


def u7() -> dict[str, Any]:
    return run(owner={"userId": "u-7"})


def forbidden(answer: Answer, *words: str) -> None:
    assert answer.code == 403, answer.body
    for word in words:
        assert word in answer.message


def as_user(name: str, *groups: str) -> dict[str, Any]:
    return {"user": name, "groups": (*ALL, *groups)}


def everything(api: Api, **who: Any) -> list[Answer]:
    """Each way to touch the stored run."""
    return [
        api.patch(RUN, "r", {"spec": {"state": "Running"}}, **who),
        api.patch(RUN, "r", {"spec": {"restartNonce": 1}}, **who),
        api.patch(RUN, "r", {"metadata": {"labels": {"a": "b"}}}, **who),
        api.patch(RUN, "r", {"spec": {"owner": {"userId": "u-8"}}}, **who),
        api.patch(RUN, "r", {"status": {"phase": "Failed"}}, "status", **who),
        api.delete(RUN, "r", dryRun="All", **who),
    ]


@pytest.mark.parametrize("who", [as_user("u-7"), as_user("alice", "u-7")], ids=["user", "group"])
def test_the_owner_may(api: Api, who: dict[str, Any]) -> None:
    api.create(u7(), **who).ok()
    api.patch(RUN, "r", {"spec": {"state": "Stopped"}}, **who).ok()
    api.delete(RUN, "r", **who).ok()


@pytest.mark.parametrize(
    "who", [as_user("u-8"), as_user("u-77"), as_user("bob", "u-8")], ids=["user", "prefix", "group"]
)
def test_others_may_not(api: Api, who: dict[str, Any]) -> None:
    api.create(u7(), **as_user("u-7")).ok()
    before = api.request("GET", path(RUN, "r")).ok()
    for answer in everything(api, **who):
        if answer.code != 422:  # the rule that an owner never changes may come first
            forbidden(answer, "'u-7'", f"'{who['user']}'", "only this user")
    forbidden(api.request("DELETE", path(RUN), **who), "'u-7'")
    assert api.request("GET", path(RUN, "r")).ok() == before


def test_nobody_makes_a_run_for_somebody_else(api: Api) -> None:
    forbidden(api.create(u7(), **as_user("u-8")), "'u-7'", "'u-8'", "only oneself")
    api.create(run(), **as_user("u-8")).ok()
    forbidden(api.patch(RUN, "r", {"spec": {"owner": {"userId": "u-7"}}}, **as_user("u-8")), "only oneself")
    api.patch(RUN, "r", {"spec": {"owner": {"userId": "u-8"}}}, **as_user("u-8")).ok()


def test_an_owner_has_a_name(api: Api) -> None:
    api.create(run(owner={"userId": ""}), dry=True).refuses("spec.owner.userId", "at least 1 chars")


def test_an_ownerless_run_is_anybodys(api: Api) -> None:
    api.create(run(), **as_user("u-7")).ok()
    api.patch(RUN, "r", {"spec": {"state": "Stopped"}}, **as_user("u-8")).ok()
    api.delete(RUN, "r", **as_user("u-8")).ok()


@pytest.mark.parametrize("who", OPERATORS)
def test_exempt(api: Api, who: str) -> None:
    api.create(u7(), **as_user("u-7")).ok()
    api.patch(RUN, "r", {"metadata": {"finalizers": ["mainstay.dev/teardown"]}}, **OPERATORS[who]).ok()
    api.patch(RUN, "r", {"status": {"phase": "Stopped"}}, "status", **OPERATORS[who]).ok()
    api.delete(RUN, "r", **OPERATORS[who]).ok()
    api.patch(RUN, "r", {"metadata": {"finalizers": []}}, **OPERATORS[who]).ok()
    assert api.request("GET", path(RUN, "r")).code == 404


def test_kubectl_says_who_and_whose(api: Api, plane: RealPlane) -> None:
    api.create(u7(), **as_user("u-7")).ok()
    ask = ("delete", "srun", "r", "-n", "api-tests", "--as=u-8", "--as-group=system:masters")
    with pytest.raises(AssertionError, match=r"spec.owner.userId is 'u-7'.*'u-8' is neither"):
        plane.kubectl(*ask)
    plane.kubectl(*ask[:-2], "--as=carol", "--as-group=u-7", "--as-group=system:masters")


@pytest.mark.parametrize("word", MADE)
def test_every_kind_that_has_an_owner(api: Api, word: str) -> None:
    mine = MADE[word](owner={"userId": "u-7"})
    kind, name = mine["kind"], mine["metadata"]["name"]
    forbidden(api.create(mine, **as_user("u-8")), "only oneself")
    api.create(mine, **as_user("bob", "u-7")).ok()
    for answer in (
        api.patch(kind, name, {"spec": {"state": "Running"}}, **as_user("u-8")),
        api.patch(kind, name, {"metadata": {"labels": {"a": "b"}}}, **as_user("u-8")),
        api.patch(kind, name, {"status": {"phase": "Failed"}}, "status", **as_user("u-8")),
        api.delete(kind, name, **as_user("u-8")),
    ):
        forbidden(answer, "'u-7'", f"may change or delete the {word}; 'u-8' is neither")
    api.patch(kind, name, {"spec": {"state": "Running"}}, **as_user("u-7")).ok()
    api.patch(kind, name, {"status": {"phase": "Failed"}}, "status", **OPERATORS["user"]).ok()
    api.delete(kind, name, **as_user("u-7")).ok()


def test_others_can_not_resume(api: Api) -> None:
    api.create(job(owner={"userId": "u-7"}), **as_user("u-7")).ok()
    resume = {"spec": {"resumeNonce": 1}}
    forbidden(api.patch("PhasedJob", "j", resume, **as_user("u-8")), "'u-8' is neither")
    api.patch("PhasedJob", "j", resume, **as_user("carol", "u-7")).ok()


def test_the_operator_makes_the_jobs_of_anybodys_batch(api: Api) -> None:
    api.create(job(owner={"userId": "u-7"}), **OPERATORS["service account"]).ok()
