"""Kills real processes, at random and at named points, and compares what their books say with what was billed."""
