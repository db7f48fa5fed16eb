"""A copy of StrategyRun in a group of its own, with a second runtime."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.api.client import NAMESPACE, Api

from mainstay.api.crd import crd
from mainstay.api.kinds import STRATEGY_RUN

PROJECT = Path(__file__).parents[3]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@contextmanager
def two_runtimes(api: Api) -> Iterator[str]:
    """The path of the copy's collection."""
    document = copy.deepcopy(crd(STRATEGY_RUN))
    document["metadata"]["name"] = "strategyruns.copy.mainstay.dev"
    document["spec"]["group"] = "copy.mainstay.dev"
    document["spec"]["names"].update(shortNames=["csrun"], categories=[])
    schema = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["runtime"]["enum"].append("Pod")
    api.request("POST", CRDS, document).ok()
    url = f"/apis/copy.mainstay.dev/v1alpha1/namespaces/{NAMESPACE}/strategyruns"
    try:
        until = time.monotonic() + 20
        while api.request("GET", url).code != 200:
            assert time.monotonic() < until
            time.sleep(0.1)
        yield url
    finally:
        api.request("DELETE", f"{CRDS}/strategyruns.copy.mainstay.dev")
