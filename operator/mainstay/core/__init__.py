"""Deciding: pure functions from a frozen snapshot to a plan. No I/O, no clock, no randomness."""
