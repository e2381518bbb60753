"""The common options of several commands."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from cyclopts import Parameter

StoreURL: TypeAlias = Annotated[
    str | None,
    Parameter(name="--store", help="The URL of the store, such as sqlite:///chat.db; memory:// stores nothing."),
]

Namespace: TypeAlias = Annotated[
    str | None, Parameter(name="--namespace", help="The namespace; a nested one is written outer/inner.")
]

Everywhere: TypeAlias = Annotated[bool, Parameter(name="--all-namespaces", help="Include all namespaces.")]

AsJSON: TypeAlias = Annotated[bool, Parameter(name="--json", help="Print JSON for programs.")]
