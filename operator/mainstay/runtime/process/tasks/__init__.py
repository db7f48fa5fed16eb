"""The Process runtime of tasks: a fork server per scope, a shim per attempt. See `shim` for how an attempt runs."""

from mainstay.runtime.base import TaskRuntime
from mainstay.runtime.process.tasks.runtime import ProcessTaskRuntime

__all__ = ["ProcessTaskRuntime"]

_implements: type[TaskRuntime] = ProcessTaskRuntime
