"""Strategy: one strategy, its content by hash, and who uses it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from mainstay.api.conditions import Condition
from mainstay.api.meta import Count, Model, ObjectMeta, ObjectName, ShortText, Text
from mainstay.api.program import KeyRef
from mainstay.api.rules import Rule, exactly_one, guarded

DEFAULT_LIBRARY = "main"
INLINE_MAX = 262144
"""Characters of an inline strategy; an object of the API server holds about 1.5 MB in all."""
USERS_SHOWN = 20
REVISIONS_MAX = 50

StrategyName = Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
"""As people write it: EmaRsiStrategy. Also the stem of a file name."""
Hash = Annotated[str, Field(max_length=71, pattern=r"^sha256:[0-9a-f]{64}$")]


class FileSource(Model):
    """A file of the library's directory."""

    path: Annotated[str, Field(max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(
        description="File name within the library's directory."
    )


class StrategySource(
    Model,
    json_schema_extra=guarded(
        Rule(exactly_one("file", "configMap", "inline"), "set exactly one of file, configMap and inline")
    ),
):
    """Where the code is."""

    file: FileSource | None = Field(None, description="Set by the library that found it.")
    config_map: KeyRef | None = Field(None, description="A key of a ConfigMap of this namespace.")
    inline: Annotated[str, Field(max_length=INLINE_MAX)] | None = Field(
        None, description=f"The code itself, at most {INLINE_MAX} characters."
    )


class StrategyUser(Model):
    """A program that Mainstay does not run, and that uses this strategy."""

    name: Annotated[ShortText, Field(min_length=1)] = Field(
        description="What it is called; once per strategy."
    )
    endpoint: Text | None = Field(None, description="Where it can be reached, for people.")


class StrategySpec(
    Model,
    json_schema_extra=guarded(
        Rule(
            "!has(self.suffix) || has(self.source.inline)",
            "suffix is for inline sources; others have the suffix of their file or key",
            ".suffix",
        )
    ),
):
    """Which strategy, from where."""

    library: ObjectName = Field(
        DEFAULT_LIBRARY, description="Library it belongs to. Immutable. Default: main."
    )
    name: StrategyName | None = Field(
        None, description="Name as runs write it, EmaRsiStrategy. Immutable. Default: metadata.name."
    )
    source: StrategySource = Field(description="Where the code is.")
    suffix: Annotated[str, Field(max_length=16, pattern=r"^\.[A-Za-z0-9]+$")] | None = Field(
        None,
        description="Suffix of the file an inline strategy becomes; .py is checked to compile. Default: .py.",
    )
    users: Annotated[list[StrategyUser], Field(max_length=256)] = Field(
        [],
        description="Programs run by others that use it, each entry owned by who applied it (server-side). "
        "Default: none.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class Revision(Model):
    """A content that was good, by its hash."""

    hash: Hash = Field(description="sha256 of the bytes; what spec.strategy.revision of a run takes.")
    file: str = Field(description="File name it had.", max_length=255)
    size: Count = Field(description="Bytes.")
    seen_at: datetime = Field(description="When it was offered first, or again.")


class UsedBy(Model):
    """Who uses it: complete counts, first names."""

    count: Count = Field(0, description="Runs and registered users together.")
    runs: tuple[Annotated[str, Field(max_length=253)], ...] = Field(
        (),
        description=f"First {USERS_SHOWN} runs that name it, or run it as their fallback.",
        max_length=USERS_SHOWN,
    )
    external: tuple[Annotated[str, Field(max_length=253)], ...] = Field(
        (), description=f"First {USERS_SHOWN} of spec.users.", max_length=USERS_SHOWN
    )


class StrategyStatus(Model):
    """What its source has now, and what runs get."""

    observed_generation: Count = Field(0, description="metadata.generation this status was computed from.")
    name: Annotated[str, Field(max_length=100)] | None = Field(None, description="Name as runs write it.")
    hash: Hash | None = Field(
        None, description="sha256 of what the source had when it was last read, good or not."
    )
    md5: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="md5 of the same, for those who compare with it. Nothing goes by it."
    )
    size: Count | None = Field(None, description="Bytes of the same.")
    modified_at: datetime | None = Field(
        None, description="When the file was modified; of other sources, when the content was first seen."
    )
    valid: bool | None = Field(None, description="Whether that can be run; of Python, whether it compiles.")
    revision: Hash | None = Field(None, description="What runs get: the newest content that was valid.")
    file: Annotated[str, Field(max_length=255)] | None = Field(None, description="File name that runs see.")
    revisions: tuple[Revision, ...] = Field(
        (), description="Contents that were valid, newest first.", max_length=REVISIONS_MAX
    )
    used_by: UsedBy = Field(UsedBy(), description="Who uses it.")
    conditions: tuple[Condition, ...] = Field(
        (),
        description="Ready: its source is there and valid; Stalled: a person must correct it.",
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class Strategy(Model):
    """One strategy."""

    metadata: ObjectMeta
    spec: StrategySpec = Field(description="Which strategy, from where.")
    status: StrategyStatus = Field(StrategyStatus(), description="Written by the operator alone.")

    @property
    def called(self) -> str:
        """Its name as runs write it."""
        return self.spec.name or self.metadata.name

    @property
    def gone(self) -> bool:
        """Its source has it no more; it stays for its registered users and is not offered."""
        return self.status.hash is None
