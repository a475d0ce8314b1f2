"""Every way a provider is known to fail, through a running gateway, judged by rules of its own."""
