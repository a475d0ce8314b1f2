"""A seeded simulator of Ownkey: the real use cases on virtual time, over a network and providers that misbehave."""
