"""Lists every text of the portal that a host can put its own in place of; `python -m tools.words`."""
