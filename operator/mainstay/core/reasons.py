"""Every reason that conditions and events use, in one place. CamelCase words, stable for machines."""

from __future__ import annotations

from typing import Final

# where a run is
STARTING: Final = "Starting"
NOT_READY: Final = "NotReady"
RUNNING: Final = "Running"
PAUSING: Final = "Pausing"
PAUSED: Final = "Paused"
RESUMING: Final = "Resuming"
STOPPED: Final = "Stopped"
COMPLETED: Final = "Completed"
FAILED: Final = "ProcessFailed"
CRASH_LOOP: Final = "CrashLoopBackOff"

# why it is being stopped
STOP_REQUESTED: Final = "StopRequested"
RESTART_REQUESTED: Final = "RestartRequested"
INPUTS_CHANGED: Final = "InputsChanged"
STRATEGY_CHANGED: Final = "StrategyChanged"
STRATEGY_DELETED: Final = "StrategyDeleted"
PORT_LOST: Final = "PortLost"
DELETING: Final = "Deleting"
HELD_LOCALLY: Final = "HeldLocally"
PREDECESSOR: Final = "PredecessorStopping"
SUPERSEDED: Final = "Superseded"

ROLLS: Final = (RESTART_REQUESTED, INPUTS_CHANGED, STRATEGY_CHANGED)
"""Why a process is replaced by another."""

# ports
LEASED: Final = "Leased"
RELEASED: Final = "Released"
POOL_EXHAUSTED: Final = "PoolExhausted"
POOL_NOT_FOUND: Final = "PoolNotFound"
PORT_TAKEN: Final = "PortTaken"
PORT_NOT_IN_POOL: Final = "PortNotInPool"

# what the user must change
SECRET_IN_ARGS: Final = "SecretInArgs"
CONTROL_API_MISSING: Final = "ControlApiMissing"
CONFIG_MAP_NOT_FOUND: Final = "ConfigMapNotFound"
SECRET_NOT_FOUND: Final = "SecretNotFound"
CONFIG_INVALID: Final = "ConfigInvalid"
STATUS_INVALID: Final = "StatusInvalid"
RUNTIME_UNAVAILABLE: Final = "RuntimeUnavailable"

# jobs and batches
PENDING: Final = "Pending"
IN_PROGRESS: Final = "InProgress"
ACTION_REQUIRED: Final = "ActionRequired"
SUSPENDED: Final = "Suspended"
SUSPENDING: Final = "Suspending"
CANCELLED: Final = "Cancelled"
CANCELLING: Final = "Cancelling"
JOB_FAILED: Final = "JobFailed"
TASK_FAILED: Final = "TaskFailed"
PARTIALLY_COMPLETED: Final = "PartiallyCompleted"
WAITING_FOR_SLOT: Final = "WaitingForSlot"
SPEC_INVALID: Final = "SpecInvalid"
INPUT_MISSING: Final = "InputMissing"
INPUT_INVALID: Final = "InputInvalid"
INPUTS_FIT: Final = "InputsFit"

# tasks
TIMED_OUT: Final = "TimedOut"
LOST: Final = "Lost"
INTERRUPTED: Final = "Interrupted"
NEVER_STARTED: Final = "NeverStarted"
RECOVERIES: Final = (LOST, INTERRUPTED, NEVER_STARTED)
"""Why a task is run again though it did not fail."""
OUTPUTS_INVALID: Final = "OutputsInvalid"
OUTPUTS_TOO_LARGE: Final = "OutputsTooLarge"
EXPRESSION_FAILED: Final = "ExpressionFailed"
CONDITION_FALSE: Final = "ConditionFalse"
DEPENDENCY_FAILED: Final = "DependencyFailed"
DEPENDENCY_SKIPPED: Final = "DependencySkipped"
STEP_SKIPPED: Final = "StepSkipped"
ALREADY_DONE: Final = "AlreadyDone"

CLAIMS: Final = frozenset({COMPLETED, FAILED, PREDECESSOR})
"""Reasons of Ready that later passes go by: nothing else may overwrite them before they are acted on."""

# strategies
STRATEGY_NOT_FOUND: Final = "StrategyNotFound"
STRATEGY_INVALID: Final = "StrategyInvalid"
STRATEGY_PENDING: Final = "StrategyPending"
STRATEGY_MISSING: Final = "StrategyMissing"
STRATEGY_RESTORED: Final = "StrategyRestored"
STRATEGY_IN_USE: Final = "InUse"
FALLBACK_IN_USE: Final = "FallbackInUse"
LAST_GOOD_IN_USE: Final = "LastGoodInUse"
UPDATE_IGNORED: Final = "UpdateIgnored"
UPDATE_WAITING: Final = "UpdateWaiting"
REVISION_NOT_FOUND: Final = "RevisionNotFound"
SNAPSHOT_LOST: Final = "SnapshotLost"
SNAPSHOT_NOT_KEPT: Final = "SnapshotNotKept"
OFFERED: Final = "Offered"
SOURCE_MISSING: Final = "SourceMissing"
NAME_INVALID: Final = "NameInvalid"
NAME_COLLISION: Final = "NameCollision"
SYMLINK_ESCAPES: Final = "SymlinkEscapes"
FILE_UNREADABLE: Final = "FileUnreadable"
FILE_TOO_LARGE: Final = "FileTooLarge"
NOT_A_FILE: Final = "NotAFile"
TOO_MANY_FILES: Final = "TooManyFiles"
DIRECTORY_NOT_FOUND: Final = "DirectoryNotFound"
DIRECTORY_UNREADABLE: Final = "DirectoryUnreadable"
WATCHING: Final = "Watching"
WATCH_UNAVAILABLE: Final = "WatchUnavailable"
SCANNING: Final = "Scanning"
DEFAULT_OFFERED: Final = "DefaultOffered"
DEFAULT_NOT_FOUND: Final = "DefaultNotFound"
NO_DEFAULT: Final = "NoDefault"
