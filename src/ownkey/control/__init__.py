"""What people change: workspaces, credentials, caps, features, members, tokens, credits."""
