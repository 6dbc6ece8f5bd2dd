"""Sends thousands of generated operations to a real server, and looks at every answer."""
