"""The Process runtime: one supervisord per scope, a fence per unit. See docs on runtimes."""

from mainstay.runtime.base import Runtime, StackRuntime, Stacks
from mainstay.runtime.process.runtime import ProcessRuntime
from mainstay.runtime.process.stacks import ProcessStacks
from mainstay.runtime.process.stackscope import StackScope, known_scopes

__all__ = ["ProcessRuntime", "ProcessStacks", "StackScope", "known_scopes"]

_implements: tuple[type[Runtime], type[StackRuntime], type[Stacks]] = (
    ProcessRuntime,
    StackScope,
    ProcessStacks,
)
