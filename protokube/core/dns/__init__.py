"""Names: their owners, their records, and the changes to them."""
