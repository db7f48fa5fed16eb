"""Deciding about stacks of services, and about their restarts."""
