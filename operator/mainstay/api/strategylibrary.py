"""StrategyLibrary: a directory, or ConfigMaps, of strategies that are offered to runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mainstay.api.conditions import Condition
from mainstay.api.meta import Count, Model, ObjectMeta
from mainstay.api.rules import Rule, exactly_one, guarded
from mainstay.api.strategy import REVISIONS_MAX, StrategyName

PROBLEMS_SHOWN = 20

Percent = Annotated[str, Field(max_length=4, pattern=r"^(100|[1-9]?[0-9])%$")]


class ConfigMapSelector(Model):
    """ConfigMaps of this namespace; every key that `include` fits is a strategy."""

    match_labels: dict[str, Annotated[str, Field(max_length=63)]] = Field(
        description="Labels a ConfigMap must have, all of them.", min_length=1, max_length=16
    )


class LibrarySource(
    Model,
    json_schema_extra=guarded(
        Rule(exactly_one("directory", "configMaps"), "set exactly one of directory and configMaps"),
        Rule(
            "!has(self.directory) || !self.directory.matches('(^|/)[.][.](/|$)')",
            "directory must not contain a `..` segment",
            ".directory",
        ),
    ),
):
    """Where the strategies are."""

    directory: Annotated[str, Field(min_length=1, max_length=3072, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = (
        Field(
            None,
            description="Directory on the operator's host: absolute, or relative to Mainstay's home. Its files are "
            "strategies; directories in it are not looked into, names that begin with . or _ are left alone.",
        )
    )
    config_maps: ConfigMapSelector | None = Field(None, description="ConfigMaps of this namespace.")


class Rollout(Model):
    """How users of a changed strategy are restarted."""

    max_unavailable: Annotated[int, Field(ge=1, le=2**31 - 1)] | Percent = Field(
        "100%",
        description="Users of one strategy that may be restarting or not ready at once, a number or a percentage "
        "(at least one); in order of their names. Default: 100%, all at once.",
    )


class StrategyLibrarySpec(Model):
    """Where strategies come from, and how changes reach their users."""

    source: LibrarySource = Field(description="Where the strategies are.")
    default: StrategyName | None = Field(
        None, description="Strategy that users of a deleted one fall back to. Default: none."
    )
    include: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^/\x00]*$")]],
        Field(min_length=1, max_length=16),
    ] = Field(["*.py"], description='Shell patterns of file names or keys. Default: ["*.py"].')
    debounce_milliseconds: Annotated[int, Field(ge=0, le=60000)] = Field(
        500, description="How long a directory must be still before it is read. Default: 500."
    )
    rescan_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(
        30, description="A directory is read this often though nothing told of a change. Default: 30."
    )
    max_file_bytes: Annotated[int, Field(ge=1, le=16 * 2**20)] = Field(
        262144, description="Larger files are refused. Default: 262144."
    )
    revision_history_limit: Annotated[int, Field(ge=1, le=REVISIONS_MAX)] = Field(
        10, description="Contents of each strategy that are kept for spec.strategy.revision. Default: 10."
    )
    rollout: Rollout = Field(
        Rollout(), description="How users of a changed strategy are restarted. Default: all at once."
    )


class LibraryProblem(Model):
    """Something in the source that can't be offered."""

    file: str = Field(description="File, or ConfigMap/key.", max_length=512)
    reason: str = Field(description="Why, in one CamelCase word.", max_length=64)
    message: str = Field(description="Why, in words, and what to do.", max_length=1024)


class StrategyLibraryStatus(Model):
    """What was found."""

    observed_generation: Count = Field(0, description="metadata.generation this status was computed from.")
    strategies: Count = Field(0, description="Strategies it offers or would offer, invalid ones included.")
    invalid: Count = Field(0, description="Those of them whose content can't be run.")
    problem_count: Count = Field(0, description="Files that can't be offered at all.")
    problems: tuple[LibraryProblem, ...] = Field(
        (), description=f"The first {PROBLEMS_SHOWN} of these.", max_length=PROBLEMS_SHOWN
    )
    conditions: tuple[Condition, ...] = Field(
        (),
        description="Ready, Reconciling, Stalled, Watching, DefaultAvailable.",
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class StrategyLibrary(Model):
    """A watched collection of strategies."""

    metadata: ObjectMeta
    spec: StrategyLibrarySpec = Field(description="Where strategies come from, and how changes reach users.")
    status: StrategyLibraryStatus = Field(
        StrategyLibraryStatus(), description="Written by the operator alone."
    )
