"""The Process runtime: one supervisord per scope, a fence per unit. See docs on runtimes."""

from mainstay.runtime.process.runtime import ProcessRuntime

__all__ = ["ProcessRuntime"]
