"""`mainstay crds`: the CustomResourceDefinitions, for clusters and GitOps."""

from __future__ import annotations

import typer

from mainstay.cli.home import data


def crds() -> None:
    """Print the CRDs as YAML, to be piped into `kubectl apply --server-side -f -`."""
    for file in sorted(data("crds").glob("*.yaml")):
        typer.echo("---")
        typer.echo(file.read_text(), nl=False)
