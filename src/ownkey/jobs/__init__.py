"""The clock's door: what happens without anyone asking."""
