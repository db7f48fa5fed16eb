"""What the operator and people may do, asked of the API server's own authorizer."""

from __future__ import annotations

import time

import pytest
import yaml
from tests.integration.api.client import NAMESPACE, Api
from tests.integration.api.copies import PROJECT
from tests.support.plane import RealPlane

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
OURS = "mainstay.dev"
OPERATOR_MAY = {
    (OURS, "strategyruns"): "get list watch patch",
    (OURS, "strategylibraries"): "get list watch",
    (OURS, "strategies"): "get list watch create patch delete",
    (OURS, "phasedjobs"): "get list watch create patch delete",
    (OURS, "jobbatches"): "get list watch create patch delete",
    (OURS, "servicestacks"): "get list watch patch",
    (OURS, "stackrestarts"): "get list watch delete",
    (OURS, "assets"): "get list watch patch",
    (OURS, "strategyruns/status"): "update",
    (OURS, "strategylibraries/status"): "update",
    (OURS, "strategies/status"): "update",
    (OURS, "phasedjobs/status"): "update",
    (OURS, "jobbatches/status"): "update",
    (OURS, "servicestacks/status"): "update",
    (OURS, "stackrestarts/status"): "update",
    (OURS, "assets/status"): "update",
    (OURS, "strategyruns/finalizers"): "",
    (OURS, "strategylibraries/finalizers"): "",
    (OURS, "strategies/finalizers"): "",
    (OURS, "phasedjobs/finalizers"): "",
    (OURS, "jobbatches/finalizers"): "update",
    (OURS, "servicestacks/finalizers"): "",
    (OURS, "stackrestarts/finalizers"): "",
    (OURS, "assets/finalizers"): "update",
    (OURS, "portpools"): "get list watch",
    (OURS, "portpools/status"): "update",
    (OURS, "portleases"): "get list watch create delete",
    ("", "configmaps"): "list watch create update delete",
    ("", "namespaces"): "",
    ("", "namespaces=kube-system"): "get",
    ("", "secrets"): "get",
    ("", "events"): "create",
    ("events.k8s.io", "events"): "",
    ("", "pods"): "",
    ("apps", "deployments"): "",
    ("rbac.authorization.k8s.io", "clusterroles"): "",
}
THEIRS = (
    "strategyruns",
    "strategylibraries",
    "strategies",
    "phasedjobs",
    "jobbatches",
    "servicestacks",
    "stackrestarts",
    "assets",
)
VIEW = {(OURS, kind): "get list watch" for kind in (*THEIRS, "portpools", "portleases")}
EDIT = VIEW | {(OURS, kind): "get list watch create update patch delete deletecollection" for kind in THEIRS}
NEVER = {(OURS, f"{kind}/status"): "" for kind in (*THEIRS, "portpools")} | {("", "secrets"): ""}
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")


def allowed(api: Api, user: str, group: str, resource: str) -> str:
    """Verbs; `resource` as kind, kind/subresource or kind=name."""
    kind, _, name = resource.partition("=")
    plural, _, sub = kind.partition("/")
    verbs = []
    for verb in VERBS:
        asked = {"group": group, "resource": plural, "subresource": sub, "name": name, "verb": verb}
        asked |= {} if plural == "namespaces" else {"namespace": NAMESPACE}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        body = review | {"spec": {"resourceAttributes": asked}}
        groups = ("system:authenticated",)
        if api.request("POST", REVIEWS, body, user=user, groups=groups).ok()["status"]["allowed"]:
            verbs.append(verb)
    return " ".join(sorted(verbs))


@pytest.mark.parametrize(
    "user", ["mainstay-operator", "system:serviceaccount:mainstay-system:mainstay-operator"]
)
def test_the_operator_may_this_and_nothing_else(api: Api, user: str) -> None:
    found = {key: allowed(api, user, *key) for key in OPERATOR_MAY}
    assert found == {key: " ".join(sorted(verbs.split())) for key, verbs in OPERATOR_MAY.items()}


def test_people(api: Api, plane: RealPlane) -> None:
    plane.kubectl("apply", "--server-side", "-f", str(PROJECT / "manifests/base/rbac-users.yaml"))
    for role, may in (("mainstay-view", VIEW | NEVER), ("mainstay-edit", EDIT | NEVER)):
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": f"test-{role}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": f"user-{role}"}],
        }
        plane.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump(binding))
        until = time.monotonic() + 10
        while time.monotonic() < until and not allowed(api, f"user-{role}", *next(iter(may))):
            time.sleep(0.05)  # the authorizer hears of the binding a moment later
        found = {key: allowed(api, f"user-{role}", *key) for key in may}
        assert found == {key: " ".join(sorted(verbs.split())) for key, verbs in may.items()}
