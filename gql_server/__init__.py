"""GraphQL server for studying language models through sparse autoencoders."""

__version__ = "0.2.0.dev0"
