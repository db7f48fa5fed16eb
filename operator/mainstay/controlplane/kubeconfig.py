"""Kubeconfig files of one home: the person's (`kubeconfig`) and the operator's (`operator.kubeconfig`).

Certificates are embedded, so each file works alone; both hold a private key and are 0600.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml

from mainstay.controlplane import files
from mainstay.controlplane.pki import Pki, pki_of

ADMIN_FILE = "kubeconfig"
OPERATOR_FILE = "operator.kubeconfig"
CONTEXT = "mainstay"


def write_kubeconfigs(home: Path, port: int) -> frozenset[str]:
    """Write both files for the API server at `port` of the loopback; return the names of those that changed.

    Call it after `pki.ensure`, whenever the port or a certificate may have changed.
    """
    pki = pki_of(home)
    contents = {
        ADMIN_FILE: _kubeconfig(pki, "admin", port),
        OPERATOR_FILE: _kubeconfig(pki, "operator", port),
    }
    return frozenset(
        name
        for name, content in contents.items()
        if files.write_if_changed(home / name, yaml.safe_dump(content, sort_keys=False).encode())
    )


def _kubeconfig(pki: Pki, user: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": CONTEXT,
                "cluster": {
                    "server": f"https://127.0.0.1:{port}",
                    "certificate-authority-data": _embedded(pki.certificate("ca")),
                },
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _embedded(pki.certificate(user)),
                    "client-key-data": _embedded(pki.key(user)),
                },
            }
        ],
        "contexts": [
            {"name": CONTEXT, "context": {"cluster": CONTEXT, "user": user, "namespace": "default"}}
        ],
        "current-context": CONTEXT,
    }


def _embedded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
