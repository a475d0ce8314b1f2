"""Rotates the master key of a real deployment under calls, and again through kill -9."""
