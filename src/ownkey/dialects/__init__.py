"""What callers speak, decoded and encoded; pure."""
