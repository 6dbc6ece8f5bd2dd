"""Where what is computed here comes from."""
