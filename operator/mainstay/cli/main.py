"""Where the command begins: nothing is imported before Ctrl-C is handled."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

INTERRUPTED = 130
USAGE = 2
_VALUED = ("-n", "--namespace", "--home", "--kubeconfig", "--context")


def main() -> None:
    """Run the command; Ctrl-C ends it without a traceback."""
    try:
        from mainstay.cli import called

        # As kubectl has it. The server's own dry run is kubectl's to ask for.
        sys.argv = [("--dry-run" if a == "--dry-run=client" else a) for a in sys.argv]
        first = sys.argv[1] if len(sys.argv) > 1 else ""
        if first.partition("=")[0] in _VALUED:
            option = sys.argv[1:2] if "=" in first else sys.argv[1:3]
            verb = sys.argv[1 + len(option) :] or ["VERB"]
            _misused(f"options go after the verb: {called.me()} {' '.join([*verb, *option])}")
        if called.plugin() and first in called.MACHINE:
            _misused(called.elsewhere(first))
        if first in called.UNKNOWN:
            _misused(f"no command {first}: {called.spoken(called.UNKNOWN[first])}")
        command()(prog_name=called.me())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def command() -> Any:
    """The tree of verbs, in the words of who called us."""
    import typer

    from mainstay.cli import called
    from mainstay.cli.app import app

    tree: Any = typer.main.get_command(app)
    tree.epilog = called.EPILOG
    if not called.plugin():
        return tree
    tree.epilog = f"{called.EPILOG}\n\n{called.COMPLETION}"
    tree.help = (
        f"{tree.help}\n\nCluster and namespace are those of kubectl's current context; --context, --kubeconfig and -n "
        f"go after the verb. Of this machine, and said as `mainstay VERB`: {', '.join(called.MACHINE)}."
    )
    tree.params = [one for one in tree.params if "completion" not in one.name]  # kubectl completes
    for verb in called.MACHINE:
        tree.commands.pop(verb, None)
    for one in tree.commands.values():
        one.help = called.spoken(one.help or "")
        for parameter in one.params:
            _told_anew(parameter)
    return tree


def _told_anew(parameter: Any) -> None:
    """Say of an option of a verb what it is to kubectl's plugin."""
    from mainstay.cli import called

    match parameter.name:
        case "namespace":
            parameter.help, parameter.show_default = f"{parameter.help} Default: that of the context.", False
        case "kubeconfig":
            parameter.help = "Kubeconfig. Default: kubectl's, $KUBECONFIG or ~/.kube/config."
        case _ if getattr(parameter, "help", None):
            parameter.help = called.spoken(parameter.help)


def _misused(message: str) -> NoReturn:
    sys.stderr.write(f"error: {message}\n")
    sys.exit(USAGE)


if __name__ == "__main__":
    main()
