"""How fast the portal's figures are with a million receipts in one workspace."""
