"""What the server tells those who run it: metrics and traces, handed on as one object."""
