"""Replays recorded provider traffic through a real Ownkey process and compares what comes out with the recording."""
