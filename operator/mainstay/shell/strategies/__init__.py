"""StrategyLibraries and Strategies: our copies, who uses what, and their reconcilers."""
