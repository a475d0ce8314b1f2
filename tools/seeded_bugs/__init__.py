"""Mistakes that somebody could make, planted one by one into a copy of the source, each to be caught by a test."""
