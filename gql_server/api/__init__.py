"""The GraphQL API: one file per noun. Resolvers translate, services decide."""
