"""Deciding for JobBatches: which jobs to make, and what they came to."""
