"""A run's declaration, resolved into what the runtime starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mainstay.api.program import RestartPolicy, WithEnv
from mainstay.api.strategyrun import StrategyRun
from mainstay.core import reasons
from mainstay.core.expand import expand
from mainstay.core.inputs import ConfigMaps, secrets_of
from mainstay.core.names import unit_name
from mainstay.core.plan import DefineUnit, StartUnit
from mainstay.core.render import SUFFIXES, render
from mainstay.core.unit import UnitSpec


@dataclass(frozen=True, slots=True)
class Sources:
    """The bytes behind every reference. Secret values: never logged."""

    config_maps: ConfigMaps = field(default_factory=dict)
    secrets: Mapping[tuple[str, str], bytes | None] = field(default_factory=dict, repr=False)
    strategy_path: str = ""  # where the snapshot of the claimed strategy is


class SourceNotFoundError(LookupError):
    """A Secret or ConfigMap, or a key of it, that a start needs does not exist (yet)."""

    def __init__(self, kind: str, name: str, key: str) -> None:
        super().__init__(f"{kind} {name} with key {key} does not exist.")
        self.reason = reasons.SECRET_NOT_FOUND if kind == "Secret" else reasons.CONFIG_MAP_NOT_FOUND


def secret_refs(run: StrategyRun) -> tuple[tuple[str, str], ...]:
    """(name, key) of every Secret key that a start needs."""
    ref = run.spec.config_from and run.spec.config_from.secret
    return (*secrets_of(run.spec.program), *([(ref.name, ref.key)] if ref else []))


def unit_spec(run: StrategyRun, action: StartUnit | DefineUnit, sources: Sources) -> UnitSpec:
    """Everything the runtime needs for this attempt.

    Raises SourceNotFoundError for a Secret that is missing and not optional.
    """
    spec, program, meta = run.spec, run.spec.program, run.metadata
    strategy = _strategy(run, sources)
    suffix, config = _config(run, sources, strategy)
    env = {**environment(program, sources), **strategy}
    env["RUN_ID"] = run.status.run_id or spec.run_id or meta.uid
    return UnitSpec(
        name=unit_name(meta.namespace, meta.name),
        owner_uid=meta.uid,
        attempt=action.attempt,
        argv=(*program.command, *program.args),
        inputs_hash=action.inputs_hash,
        env=env,
        port=action.port,
        working_dir=program.working_dir,
        user=program.user,
        umask=int(program.umask or "077", 8),
        nice=program.nice,
        limits=program.limits,
        config_name="config" + suffix,
        config=config,
        restart=spec.restart_policy or RestartPolicy(),
        grace_seconds=float(program.termination_grace_period_seconds),
        paused=isinstance(action, StartUnit) and action.paused,
    )


def environment(program: WithEnv, sources: Sources) -> dict[str, str]:
    """What an `env` comes to. Raises SourceNotFoundError."""
    env: dict[str, str] = {}
    for var in program.env:
        if var.value_from is None:
            env[var.name] = var.value or ""
            continue
        if ref := var.value_from.config_map_key_ref:
            text = sources.config_maps.get((ref.name, ref.key))
            if text is not None:
                env[var.name] = text
        elif ref := var.value_from.secret_key_ref:
            secret = secret_value(sources, ref.name, ref.key, optional=bool(ref.optional))
            if secret is not None:
                env[var.name] = secret.decode(errors="surrogateescape")
    return env


def _strategy(run: StrategyRun, sources: Sources) -> dict[str, str]:
    """What a program is told of the strategy that was claimed for it."""
    use = run.status.strategy
    if use is None:
        return {}
    return {
        "STRATEGY_NAME": use.name,
        "STRATEGY_PATH": sources.strategy_path,
        "STRATEGY_HASH": use.hash,
    }


def _config(run: StrategyRun, sources: Sources, strategy: Mapping[str, str]) -> tuple[str, bytes | None]:
    """(suffix of the file, its bytes or None for no file)."""
    spec = run.spec
    if spec.config is not None:
        values = _expanded(spec.config.values, strategy) if strategy else spec.config.values
        return SUFFIXES[spec.config.format], render(spec.config.model_copy(update={"values": values}))
    if spec.config_from is None:
        return "", None
    if ref := spec.config_from.config_map:
        text = sources.config_maps.get((ref.name, ref.key))
        return _suffix(ref.key), None if text is None else text.encode()
    if ref := spec.config_from.secret:
        secret = secret_value(sources, ref.name, ref.key, optional=bool(ref.optional))
        return _suffix(ref.key), secret
    return "", None


def _expanded(value: Any, names: Mapping[str, str]) -> Any:
    """The values with $(STRATEGY_NAME) and so on in their texts replaced; keys stay as they are."""
    if isinstance(value, str):
        return expand(value, names)
    if isinstance(value, Mapping):
        return {key: _expanded(item, names) for key, item in value.items()}
    return [_expanded(item, names) for item in value] if isinstance(value, list) else value


def _suffix(key: str) -> str:
    """The key's own suffix: programs tell formats by it."""
    stem, dot, suffix = key.rpartition(".")
    return dot + suffix if stem and suffix.isalnum() else ""


def secret_value(sources: Sources, name: str, key: str, *, optional: bool = False) -> bytes | None:
    """The bytes of a Secret's key. Raises SourceNotFoundError."""
    value = sources.secrets.get((name, key))
    if value is None and not optional:
        raise SourceNotFoundError("Secret", name, key)
    return value
