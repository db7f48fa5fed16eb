"""Deciding for Assets: whose they are, what is in them, and how they are emptied."""
