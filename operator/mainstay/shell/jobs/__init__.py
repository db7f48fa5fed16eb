"""PhasedJobs and JobBatches: our copy of them, and what gathering and acting are for one of them."""
