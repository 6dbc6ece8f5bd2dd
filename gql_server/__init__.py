"""GraphQL server for studying language models through sparse autoencoders."""

__version__ = "0.1.0"
