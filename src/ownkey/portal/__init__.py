"""The pages of a workspace's people: they show what the data plane's own functions return, and decide nothing."""
