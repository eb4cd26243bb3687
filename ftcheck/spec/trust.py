"""`trust_remote_code`: the one place where a suite names Python code of others that may run."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

COMMIT: Final = re.compile(r"[0-9a-f]{40}")
FORM: Final = "{revision: COMMIT}, the 40 hexadecimal digits of the commit whose code was read"

ELSEWHERE: Final = f"stands with the checkpoint: {{path: ..., trust_remote_code: {FORM}}}; no other code is run"


def _commit(value: Any) -> Any:
    if isinstance(value, str) and COMMIT.fullmatch(value):
        return value
    raise PydanticCustomError("own", "expected a commit (40 hexadecimal digits), which no branch or tag stands for")


def _repository(value: Any) -> Any:
    from ftcheck.spec.places import is_hub_id

    if value is None or (isinstance(value, str) and is_hub_id(value)):
        return value
    raise PydanticCustomError("own", "expected a Hub id (org/name)")


def _pinned(value: Any) -> Any:
    """true and a bare commit are what people know; neither says whose code, or which."""
    if value is None or isinstance(value, dict):
        return value
    raise PydanticCustomError("own", "expected {form}", {"form": FORM})


class RemoteCodeFields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    revision: Annotated[
        str,
        BeforeValidator(_commit, json_schema_input_type=Annotated[str, Field(pattern=f"^{COMMIT.pattern}$")]),
        Field(description="The commit of the code; of a local folder, the hash that ftcheck names."),
    ]
    repository: Annotated[
        str | None,
        BeforeValidator(_repository),
        Field(description="The Hub id where the code is, if not with the checkpoint."),
    ] = None


TrustedCode = Annotated[
    RemoteCodeFields | None,
    BeforeValidator(_pinned, json_schema_input_type=RemoteCodeFields | None),
    Field(
        description="Run the checkpoint's own Python code of this commit, and no other: {revision: COMMIT}; "
        "needs --ft-allow-remote-code too."
    ),
]
