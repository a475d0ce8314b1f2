"""Payments by card: the only room that talks to Stripe, through Stripe's own library."""
