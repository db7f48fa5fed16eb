"""Assets: our copy of them, what was observed, and what gathering and acting are for one of them."""
