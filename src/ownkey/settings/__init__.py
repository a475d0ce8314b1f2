"""Every environment variable and the product configuration, read once."""
