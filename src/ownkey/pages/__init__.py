"""What the portal and the console share: templates, forms, looks and figures. No rule lives here."""
