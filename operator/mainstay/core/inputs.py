"""Which change of a run's declaration rolls its process, and what can be told wrong before it starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mainstay.api.program import Program, RestartPolicy, WithEnv
from mainstay.api.strategyrun import StrategyRunSpec
from mainstay.core import reasons
from mainstay.core.expand import referenced
from mainstay.core.render import ConfigInvalidError, render
from mainstay.core.snapshot import Inputs

ConfigMaps = Mapping[tuple[str, str], str | None]
"""(name, key) of every ConfigMap key that a run refers to → its text, None where it is missing."""

DEFAULT_UMASK = 0o077

_OURS_WITH_PORT = "CONTROL_API_PORT"
_OURS_WITH_STRATEGY = frozenset({"STRATEGY_NAME", "STRATEGY_PATH", "STRATEGY_HASH"})


def config_maps_of(program: WithEnv) -> tuple[tuple[str, str], ...]:
    """(name, key) of every ConfigMap key that an environment refers to."""
    sources = [e.value_from.config_map_key_ref for e in program.env if e.value_from]
    return tuple((ref.name, ref.key) for ref in sources if ref)


def secrets_of(program: WithEnv) -> tuple[tuple[str, str], ...]:
    """(name, key) of every Secret key that an environment refers to."""
    sources = [e.value_from.secret_key_ref for e in program.env if e.value_from]
    return tuple((ref.name, ref.key) for ref in sources if ref)


def config_map_refs(spec: StrategyRunSpec) -> tuple[tuple[str, str], ...]:
    """(name, key) of every ConfigMap key whose content is an input."""
    ref = spec.config_from and spec.config_from.config_map
    return (*config_maps_of(spec.program), *([(ref.name, ref.key)] if ref else []))


def inputs_of(spec: StrategyRunSpec, config_maps: ConfigMaps) -> Inputs:
    """The hash of everything declared that the process was started with, or what is wrong with it.

    Declared, not rendered: an upgrade of Mainstay that renders differently rolls nothing, and a default
    written out is the same as a default left out. Secret values are no part of it. What the process does
    not see (readiness, grace, pause, owner, state) is left out, so that changing it never restarts.
    """
    if problem := _problem(spec, config_maps):
        return Inputs(problem=problem)
    declared = {
        "program": declared_program(spec.program),
        "configFrom": _told(spec.config_from and spec.config_from.model_dump(exclude_none=True)),
        "rest": spec.model_dump(mode="json", exclude_defaults=True, include={"config", "control_api"}),
        "configMaps": [[name, key, config_maps.get((name, key))] for name, key in config_map_refs(spec)],
    }
    return Inputs(hash=declared_hash(declared, spec.restart_policy))


def declared_hash(declared: dict[str, Any], policy: RestartPolicy | None) -> str:
    """The hash of what was declared; a restart policy counts where it isn't the default."""
    policy = policy or RestartPolicy()
    if policy != RestartPolicy():
        declared = declared | {"restartPolicy": policy.model_dump(mode="json", exclude_defaults=True)}
    canonical = json.dumps(declared, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()


def declared_program(declared: Program) -> Any:
    """A program as its process sees it: what says the same as the default is left out."""
    program = declared.model_dump(
        mode="json", exclude_defaults=True, exclude={"readiness", "termination_grace_period_seconds"}
    )
    if program.get("limits") == {}:
        del program["limits"]
    if "umask" in program and int(program["umask"], 8) == DEFAULT_UMASK:
        del program["umask"]
    if program.get("nice") == 0:
        del program["nice"]
    return _told(program)


def _told(value: Any) -> Any:
    """Without `optional: false`, which says what leaving it out says."""
    if isinstance(value, dict):
        return {k: _told(v) for k, v in value.items() if (k, v) != ("optional", False)}
    return [_told(item) for item in value] if isinstance(value, list) else value


def _problem(spec: StrategyRunSpec, config_maps: ConfigMaps) -> tuple[str, str] | None:
    program = spec.program
    used = referenced((*program.command, *program.args))
    if problem := secret_in_args(program, "spec.program"):
        return problem
    if _OURS_WITH_PORT in used and spec.control_api is None:
        return (
            reasons.CONTROL_API_MISSING,
            "spec.program.args use $(CONTROL_API_PORT), but spec.controlApi is not set. "
            "Add `controlApi: {}` to lease a port.",
        )
    if spec.strategy is None and (named := sorted(used & _OURS_WITH_STRATEGY)):
        return (
            reasons.STRATEGY_MISSING,
            f"spec.program.args use $({named[0]}), but spec.strategy is not set. Add `strategy: {{name: ...}}`.",
        )
    for name, key in config_map_refs(spec):
        if config_maps.get((name, key)) is None and not _optional(spec, name, key):
            return (reasons.CONFIG_MAP_NOT_FOUND, f"ConfigMap {name} with key {key} does not exist.")
    if spec.config is not None:
        try:
            render(spec.config)
        except (ConfigInvalidError, TypeError, ValueError) as error:
            return (reasons.CONFIG_INVALID, str(error))
    return None


def secret_in_args(program: Program, where: str) -> tuple[str, str] | None:
    """Why a program can't be started whose arguments would show a Secret: (reason, message)."""
    secret = {e.name for e in program.env if e.value_from and e.value_from.secret_key_ref}
    named = sorted(referenced((*program.command, *program.args)) & secret)
    if not named:
        return None
    return (
        reasons.SECRET_IN_ARGS,
        f"{where}.args use $({named[0]}), which comes from a Secret; every user of the machine "
        f"can read arguments. Let the program read {named[0]} from its environment.",
    )


def _optional(spec: StrategyRunSpec, name: str, key: str) -> bool:
    refs = [e.value_from.config_map_key_ref for e in spec.program.env if e.value_from]
    if spec.config_from:
        refs.append(spec.config_from.config_map)
    return all(r.optional for r in refs if r and (r.name, r.key) == (name, key))
