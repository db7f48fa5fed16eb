"""A lean client of the API server: it shares the machine with what is measured."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import aiohttp
from kubernetes.aio import client, config

GROUP = "/apis/mainstay.dev/v1alpha1"
RUNS = f"{GROUP}/namespaces/default/strategyruns"
JOBS = f"{GROUP}/namespaces/default/phasedjobs"
LIBRARIES = f"{GROUP}/namespaces/default/strategylibraries"
KINDS = (
    *("strategyruns", "phasedjobs", "strategylibraries", "strategies", "portleases", "portpools"),
    *("servicestacks", "stackrestarts"),
)

Object = dict[str, Any]
Test = Callable[[Object | None], bool]


class Api:
    """Requests with a kubeconfig. Answers of 400 and more raise."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    @classmethod
    async def connect(cls, kubeconfig: Path) -> Self:
        settings = client.Configuration()
        await config.load_kube_config(config_file=str(kubeconfig), client_configuration=settings)
        context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
        context.load_cert_chain(settings.cert_file, settings.key_file)
        connector = aiohttp.TCPConnector(ssl=context, limit=64)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        return cls(aiohttp.ClientSession(settings.host, connector=connector, timeout=timeout))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def request(self, method: str, url: str, body: Any = None, content: str = "json") -> Object:
        headers = {"Content-Type": f"application/{content}"}
        data = None if body is None else json.dumps(body)
        async with self.session.request(method, url, data=data, headers=headers) as response:
            answer = await response.json(content_type=None)
            if response.status >= 400:
                raise RuntimeError(f"{method} {url}: {response.status} {answer.get('message')}")
            return answer

    async def create(self, obj: Object, url: str = RUNS) -> Object:
        return await self.request("POST", url, obj)

    async def state(self, name: str, state: str) -> Object:
        body = {"spec": {"state": state}}
        return await self.request("PATCH", f"{RUNS}/{name}", body, "merge-patch+json")

    async def delete(self, name: str, url: str = RUNS) -> Object:
        return await self.request("DELETE", f"{url}/{name}")

    async def version(self, plural: str) -> str:
        return (await self.request("GET", f"{GROUP}/{plural}?limit=1"))["metadata"]["resourceVersion"]


async def many(work: Callable[[str], Any], names: Iterable[str], workers: int = 16) -> None:
    """Do `work` for every name, so many at once."""
    rest: Iterator[str] = iter(names)

    async def worker() -> None:
        for name in rest:
            await work(name)

    await asyncio.gather(*(worker() for _ in range(workers)))


class Watch:
    """Objects of one kind as they change. Use as a context; it begins with what there is."""

    def __init__(self, api: Api, plural: str = "strategyruns") -> None:
        self._api = api
        self._plural = plural
        self.objects: dict[str, Object] = {}
        self.events = 0
        self._waits: list[tuple[set[str], Test, dict[str, float], asyncio.Event]] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        page = await self._api.request("GET", f"{GROUP}/{self._plural}")
        for item in page["items"]:
            self.objects[item["metadata"]["name"]] = item
        self._task = asyncio.create_task(self._follow(page["metadata"]["resourceVersion"]))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self, version: str) -> None:
        """The API server ends a watch that is slow to read, so it is taken up again where it ended."""
        while True:
            url = f"{GROUP}/{self._plural}?watch=1&resourceVersion={version}&timeoutSeconds=86400"
            async with self._api.session.get(url) as response:
                async for line in response.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise RuntimeError(f"watch: {event['object']}")
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._take(event["type"] == "DELETED", event["object"])
            await asyncio.sleep(0.01)

    def _take(self, deleted: bool, obj: Object) -> None:
        now = time.perf_counter()
        self.events += 1
        name = obj["metadata"]["name"]
        if deleted:
            self.objects.pop(name, None)
        else:
            self.objects[name] = obj
        for rest, test, times, done in self._waits:
            if name in rest and test(None if deleted else obj):
                rest.discard(name)
                times[name] = now
                if not rest:
                    done.set()

    async def until(self, names: Iterable[str], test: Test, timeout: float = 60) -> dict[str, float]:
        """Wait until `test` held once for each; when that was, by time.perf_counter."""
        rest, done = set(names), asyncio.Event()
        now = time.perf_counter()
        times = {name: now for name in rest if test(self.objects.get(name))}
        rest -= times.keys()
        wait = (rest, test, times, done)
        self._waits.append(wait)
        try:
            if rest:
                async with asyncio.timeout(timeout):
                    await done.wait()
        except TimeoutError:
            first = min(rest)
            raise RuntimeError(f"{len(rest)} not there yet, e.g. {self.objects.get(first)}") from None
        finally:
            self._waits.remove(wait)
        return times


def condition(obj: Object, name: str) -> str:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((c["status"] for c in conditions if c["type"] == name), "")


def ready(obj: Object | None) -> bool:
    """Ready for what its spec asks now."""
    return (
        obj is not None
        and condition(obj, "Ready") == "True"
        and obj["status"].get("observedGeneration") == obj["metadata"]["generation"]
    )


def running(obj: Object | None) -> bool:
    return ready(obj) and obj is not None and obj["status"].get("phase") == "Running"


def stopped(obj: Object | None) -> bool:
    return ready(obj) and obj is not None and obj["status"].get("phase") == "Stopped"


def gone(obj: Object | None) -> bool:
    return obj is None


def run(name: str, command: list[str], *, port: bool, strategy: str | None = None, **program: Any) -> Object:
    """A StrategyRun."""
    spec: Object = {"program": {"command": command, **program}}
    if strategy:
        spec["strategy"] = {"name": strategy}
    if port:
        spec["controlApi"] = {"pool": "default"}
    return {
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "StrategyRun",
        "metadata": {"name": name},
        "spec": spec,
    }
