"""Commands for the people who work on Ownkey: benchmarks and the replay of recorded traffic."""
