"""What every Mainstay object shares: the group, metadata and the base model."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "mainstay.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FINALIZER = f"{GROUP}/teardown"

NAME_MAX = 63
"""Longest name of an object of ours: it becomes a directory, a label value and a supervisord program."""

Text = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]
ShortText = Annotated[str, Field(max_length=253, pattern=r"^[^\x00]*$")]
ObjectName = Annotated[
    str, Field(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
]
"""Name of an object in the cluster (RFC 1123 subdomain)."""
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=0, le=2**53)]
"""A counter, bounded to what every JSON reader keeps exact."""
FreeForm = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]


class Model(BaseModel):
    """Frozen, camelCase on the wire.

    Unknown fields are ignored on reading back: an older Mainstay must be able to read what a newer one wrote;
    the API server refuses them from users.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    def wire(self) -> dict[str, Any]:
        """The JSON form: camelCase, without what was never set, times as RFC 3339."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class OwnerReference(Model):
    """Whose child an object is."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(Model):
    """The part of Kubernetes' metadata that decisions read."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    finalizers: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()


class Owner(Model):
    """Whose object this is. Only the owner may change it; it can never be changed or removed."""

    user_id: Annotated[ShortText, Field(min_length=1)] = Field(
        description="User name, or group, as Kubernetes authenticates them. Only this user, or a member of "
        "this group, may change or delete the object."
    )
    account_id: ShortText | None = Field(None, description="Account at the venue or in your system.")
    config_id: ShortText | None = Field(None, description="Configuration this run was made from.")
