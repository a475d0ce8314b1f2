"""Ciphertext and back: the only room that sees credentials at rest in plaintext."""
