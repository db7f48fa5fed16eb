"""Stacks of services and their restarts, between the API server and the runtime."""
