"""Where the command begins: nothing is imported before Ctrl-C is handled."""

from __future__ import annotations

import sys

INTERRUPTED = 130
_VALUED = ("-n", "--namespace", "--home", "--kubeconfig", "--context")


def main() -> None:
    """Run the command; Ctrl-C ends it without a traceback."""
    try:
        # As kubectl has it. The server's own dry run is kubectl's to ask for.
        sys.argv = [("--dry-run" if a == "--dry-run=client" else a) for a in sys.argv]
        if len(sys.argv) > 1 and sys.argv[1].partition("=")[0] in _VALUED:
            option = sys.argv[1:2] if "=" in sys.argv[1] else sys.argv[1:3]
            verb = sys.argv[1 + len(option) :] or ["VERB"]
            sys.stderr.write(f"error: options go after the verb: mainstay {' '.join([*verb, *option])}\n")
            sys.exit(2)
        from mainstay.cli.app import app

        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
