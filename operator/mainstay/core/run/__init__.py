"""What to do next for one StrategyRun, one small file per part of its life."""
