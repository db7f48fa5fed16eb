"""Deciding about the restart of a stack, step by step."""
