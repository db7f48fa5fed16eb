"""Our copy of stacks and restarts, and whose turn it is."""

from __future__ import annotations

from collections import defaultdict

from pydantic import ValidationError

from mainstay.api.servicestack import ServiceStack
from mainstay.api.stackrestart import OVER, StackRestart
from mainstay.core.inputs import config_maps_of
from mainstay.core.stack.spec import ports_of
from mainstay.shell.store import Key, Object, Parsed, key_of


class StackIndex:
    """Stacks, and which restart is of which stack."""

    def __init__(self) -> None:
        self.stacks: Parsed[ServiceStack] = Parsed(ServiceStack)
        self.restarts: Parsed[StackRestart] = Parsed(StackRestart)
        self._of: dict[Key, set[Key]] = defaultdict(set)  # stack → its restarts

    # -- restarts

    def put_restart(self, obj: Object) -> bool:
        """Take a restart in; False if a newer version is known."""
        key = key_of(obj)
        known = self.restarts.objects.get(key)
        if not self.restarts.put(obj):
            return False
        if known is not None:
            self._of[stack_of(known)].discard(key)
        self._of[stack_of(obj)].add(key)
        return True

    def drop_restart(self, obj: Object) -> bool:
        """A restart is gone."""
        if not self.restarts.drop(obj):
            return False
        self._of[stack_of(obj)].discard(key_of(obj))
        return True

    def restarts_of(self, stack: Key) -> list[Key]:
        """Every restart of a stack that we know."""
        return sorted(self._of.get(stack, ()))

    def turn(self, stack: ServiceStack) -> StackRestart | None:
        """The restart that is done now: the one the stack has claimed until it is over, then the oldest that waits."""
        waiting = []
        claim = stack.status.restart
        for key in self.restarts_of((stack.metadata.namespace, stack.metadata.name)):
            restart = self.restart(key)
            if restart is None or restart.status.phase in OVER or restart.metadata.deletion_timestamp:
                continue
            if claim is not None and claim.uid == restart.metadata.uid:
                return restart
            waiting.append(restart)
        return min(waiting, key=_age, default=None)

    def restart(self, key: Key) -> StackRestart | None:
        """A restart; None for one that is gone or does not parse."""
        try:
            return self.restarts.get(key)
        except ValidationError:
            return None

    # -- stacks

    def stack(self, key: Key) -> ServiceStack | None:
        """A stack; None for one that is gone or does not parse."""
        try:
            return self.stacks.get(key)
        except ValidationError:
            return None

    def with_port(self, port: int) -> list[Key]:
        """Stacks that have assigned this port to a service."""
        found = ((key, self.stack(key)) for key in self.stacks.objects)
        return [key for key, stack in found if stack is not None and port in ports_of(stack.spec)]

    def with_config_map(self, namespace: str, name: str) -> list[Key]:
        """Stacks with a service whose environment refers to this ConfigMap."""
        found = ((key, self.stack(key)) for key in self.stacks.objects if key[0] == namespace)
        return [
            key
            for key, stack in found
            if stack is not None
            and any(ref == name for one in stack.spec.services for ref, _ in config_maps_of(one.program))
        ]


def stack_of(restart: Object) -> Key:
    """The stack that a restart is of."""
    return restart["metadata"].get("namespace", ""), str((restart.get("spec") or {}).get("stack", ""))


def _age(restart: StackRestart) -> tuple[str, str]:
    meta = restart.metadata
    return (meta.creation_timestamp.isoformat() if meta.creation_timestamp else "", meta.name)
