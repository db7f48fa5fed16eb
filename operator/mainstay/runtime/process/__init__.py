"""The Process runtime: one supervisord per scope, a fence per unit. See docs on runtimes."""

from mainstay.runtime.base import Runtime
from mainstay.runtime.process.runtime import ProcessRuntime

__all__ = ["ProcessRuntime"]

_implements: type[Runtime] = ProcessRuntime
