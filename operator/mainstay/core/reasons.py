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
PORT_LOST: Final = "PortLost"
DELETING: Final = "Deleting"
HELD_LOCALLY: Final = "HeldLocally"
PREDECESSOR: Final = "PredecessorStopping"
SUPERSEDED: Final = "Superseded"

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

CLAIMS: Final = frozenset({COMPLETED, FAILED, PREDECESSOR})
"""Reasons of Ready that later passes go by: nothing else may overwrite them before they are acted on."""
