"""What a call costs: calls per second and CPU per call, as ratios in one run."""
