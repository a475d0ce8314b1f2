"""One AI call from admission to receipt."""
