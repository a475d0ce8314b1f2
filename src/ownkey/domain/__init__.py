"""Decides: every rule of money and routing, as pure functions on frozen values. No I/O, clock or randomness."""
