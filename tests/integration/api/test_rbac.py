"""What the operator and people may do, asked of the API server's own authorizer."""

from __future__ import annotations

import pytest
import yaml
from tests.integration.api.client import NAMESPACE, Api
from tests.integration.api.copies import PROJECT
from tests.support.plane import RealPlane

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
OURS = "mainstay.dev"
OPERATOR_MAY = {
    (OURS, "strategyruns"): "get list watch patch update",
    (OURS, "strategyruns/status"): "update",
    (OURS, "strategyruns/finalizers"): "update",
    (OURS, "portpools"): "get list watch",
    (OURS, "portpools/status"): "update",
    (OURS, "portleases"): "get list watch create delete",
    ("", "configmaps"): "get list watch",
    ("", "namespaces"): "get list watch",
    ("", "secrets"): "get",
    ("", "events"): "create patch",
    ("events.k8s.io", "events"): "create patch",
    ("", "pods"): "",
    ("apps", "deployments"): "",
    ("rbac.authorization.k8s.io", "clusterroles"): "",
}
VIEW = dict.fromkeys([(OURS, "strategyruns"), (OURS, "portpools"), (OURS, "portleases")], "get list watch")
EDIT = {**VIEW, (OURS, "strategyruns"): "get list watch create update patch delete deletecollection"}
NEVER = {(OURS, "strategyruns/status"): "", (OURS, "portpools/status"): "", ("", "secrets"): ""}
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")


def allowed(api: Api, user: str, group: str, resource: str) -> str:
    name, _, sub = resource.partition("/")
    verbs = []
    for verb in VERBS:
        asked = {"group": group, "resource": name, "subresource": sub, "verb": verb, "namespace": NAMESPACE}
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
        found = {key: allowed(api, f"user-{role}", *key) for key in may}
        assert found == {key: " ".join(sorted(verbs.split())) for key, verbs in may.items()}
