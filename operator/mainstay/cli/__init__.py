"""The `mainstay` command; `kubectl-mainstay` is the same tree of verbs under another name."""
