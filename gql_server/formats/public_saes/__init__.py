"""The public SAEs of the Hub: which there are, where they belong, and which of them can be taken over."""
