"""Measures the goals of the money's contract on this machine, and writes them down."""
