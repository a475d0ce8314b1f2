"""The steps, applied in order. SQL is written out: a schema that guards money is read, not generated."""
