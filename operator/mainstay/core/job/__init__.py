"""Deciding for PhasedJobs: what a task came to, what may start, when a phase, a step and the job are done."""
