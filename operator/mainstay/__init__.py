"""Mainstay: declare what should run; a restart or a resume is just re-reconciliation."""

__version__ = "0.1.0"
