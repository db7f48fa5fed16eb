"""Talking to the API server from a command: which one, and plain errors."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

from mainstay.cli import called
from mainstay.cli.console import fail
from mainstay.cli.home import Home
from mainstay.cli.names import Kind, Ref
from mainstay.shell.kube import ApiError, ApiUnavailableError, Kube, Object, path

T = TypeVar("T")


class NoClusterError(Exception):
    """No kubeconfig names a cluster; the message says which was looked at."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which cluster and namespace a command is about."""

    home: Home
    namespace: str = "default"
    kubeconfig: str | None = None
    context: str | None = None

    @property
    def here(self) -> bool:
        """It is about this home's own installation, not about another cluster that was named, or is kubectl's."""
        if not self.home.exists:
            return False
        return not self.named or called.kubectls_own(self.home, self.kubeconfig, self.context)

    @property
    def named(self) -> bool:
        """A cluster was named, by options or by being kubectl's plugin."""
        return self.kubeconfig is not None or self.context is not None or called.plugin()

    @property
    def embedded(self) -> bool:
        """The cluster is this home's own control plane."""
        return self.here and (self.home.root / "etcd").is_dir()

    def say(self, command: str) -> str:
        """A command to tell the user, with the namespace where it needs one."""
        return f"{called.me()} {command}" + (f" -n {self.namespace}" if self.namespace != "default" else "")

    @property
    def config_file(self) -> str | None:
        """The named kubeconfig; otherwise the home's own where there is one; otherwise, and for kubectl, the usual ones."""
        if self.named:
            return self.kubeconfig
        return str(self.home.kubeconfig) if self.home.kubeconfig.exists() else None


@asynccontextmanager
async def connection(target: Target) -> AsyncIterator[Kube]:
    """Yield a connection, closed at the end. Raises NoClusterError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of being outside a Pod
        try:
            kube = await Kube.connect(target.config_file, target.context)
        except Exception as error:
            if type(error).__name__ != "ConfigException":
                raise
            raise NoClusterError(_no_cluster(target, str(error))) from None
    try:
        yield kube
    finally:
        await kube.close()


def call(target: Target, work: Callable[[Kube], Coroutine[Any, Any, T]]) -> T:
    """Run `work` with a connection; errors end the command with a sentence."""

    async def main() -> T:
        async with connection(target) as kube:
            return await work(kube)

    try:
        return asyncio.run(main())
    except ApiUnavailableError as error:
        fail(
            f"the API server does not answer ({error.message}).\n"
            "  mainstay status           what runs here\n"
            "  mainstay up               starts it\n"
            "  mainstay stop --offline   works without it"
        )
    except ApiError as error:
        fail(error.message or str(error))
    except NoClusterError as error:
        fail(str(error))


def _no_cluster(target: Target, why: str) -> str:
    files = target.config_file or os.environ.get("KUBECONFIG") or "~/.kube/config"
    told = (
        f"{files}: {why.strip().rstrip('.')}"
        if called.server(target.config_file, None)
        else f"{files} names none"
    )
    return f"no cluster to talk to ({told}). `mainstay up` makes one, or name one with --kubeconfig"


def this_machine(target: Target, what: str) -> None:
    """Refuse to take programs of this machine for those of another cluster that was named."""
    if target.named and target.home.kubeconfig.exists() and not target.here:
        fail(
            f"{what} on the machine that the programs run on. {target.home.root} on this one belongs to "
            f"{called.server(str(target.home.kubeconfig), None)}, and you named another cluster"
        )


async def get(kube: Kube, target: Target, wanted: Ref) -> Object:
    """Return the object, or end the command."""
    obj = await kube.get(path(wanted.kind.plural, target.namespace, wanted.name))
    if obj is None:
        fail(await missing(kube, target, wanted))
    return obj


async def missing(kube: Kube, target: Target, wanted: Ref) -> str:
    """That there is no such object, and where to look."""
    words = (
        f'no {wanted.kind.told} "{wanted.name}" in namespace {target.namespace}. '
        "`mainstay status` lists what there is; -n names another namespace."
    )
    for kind in Kind:
        if kind is not wanted.kind and await kube.get(path(kind.plural, target.namespace, wanted.name)):
            words += f" There is {kind.article} {kind.told} of this name: {kind.word}/{wanted.name}."
    return words


async def get_run(kube: Kube, target: Target, name: str) -> Object:
    """Return the run, or end the command."""
    return await get(kube, target, Ref(Kind.RUN, name))


async def everything(kube: Kube, plural: str, namespace: str = "") -> list[Object]:
    """Every object of a kind, or of that namespace; none where the cluster doesn't know the kind yet."""
    try:
        return [obj async for page in kube.pages(path(plural, namespace)) for obj in page["items"]]
    except ApiError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise
        return []
