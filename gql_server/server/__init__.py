"""The server's process: the application, how it is run, and what operators see of it."""
