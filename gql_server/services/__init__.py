"""Use cases: validated requests in, rows out. No GraphQL and no torch."""
