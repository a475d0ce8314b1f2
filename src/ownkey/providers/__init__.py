"""Upstreams: one folder a provider (data and pure codecs), and `upstream.py`, the only module that sends."""
