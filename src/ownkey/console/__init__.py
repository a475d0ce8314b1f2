"""The operators' pages: every workspace to look at, the deployment to run, and never a credential."""
