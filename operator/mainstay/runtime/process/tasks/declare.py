"""From a declared task to the files its shim reads.

Nothing is synced: only a claim makes an attempt count, and after a crash of the machine an attempt that was
not claimed is declared again before it is asked for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from mainstay.runtime.base import UnitSpec
from mainstay.runtime.process import declare, records
from mainstay.runtime.process.scope import Scope
from mainstay.runtime.process.tasks.files import attempt_path
from mainstay.runtime.process.unitdir import UnitDir


def write_task(scope: Scope, unit: UnitDir, spec: UnitSpec, extra: Mapping[str, str]) -> None:
    """Write the unit's files, the spec last. Raises UnitRefusedError before anything is written, or OSError."""
    content, who = _compose(scope, unit, spec, extra)
    for path in (unit.path, unit.data):
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
    if spec.config is not None:
        records.write(unit.file(spec.config_name), spec.config, sync=False)
    if declare.other_user(spec, who):
        declare.let_user_in(unit, spec, who)
    if spec.inputs is not None:
        records.write(unit.file(f"inputs-{spec.attempt}"), spec.inputs, sync=False)
    records.write(unit.file("spec"), content, sync=False)


def _compose(
    scope: Scope, unit: UnitDir, spec: UnitSpec, extra: Mapping[str, str]
) -> tuple[bytes, declare.Account]:
    directory = attempt_path(unit, spec.attempt)
    if declare.other_user(spec, declare.account(spec.user)):
        directory += "/user"  # the attempt's own directory stays out of that user's reach
    ours = {"OUTPUTS_PATH": f"{directory}/outputs.json"}
    more = []
    if spec.inputs is not None:
        ours["INPUTS_PATH"] = f"{directory}/inputs.json"
        more.append(("given", "1"))
    if spec.timeout_seconds is not None:
        more.append(("timeout", f"{spec.timeout_seconds:.3f}"))
    if spec.assets:
        more.append(("assets", " ".join(spec.assets)))
    return declare.compose(scope, unit, spec, extra=extra, ours=ours, more=more)
