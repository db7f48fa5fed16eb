"""Strategies, pure: what is seen of a library, which objects it should have, and which bytes a run is to run."""
