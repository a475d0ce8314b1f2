"""Tells people and the host: e-mail over SMTP, and signed events over HTTP."""
