"""Remembers: the only room that knows SQL."""
