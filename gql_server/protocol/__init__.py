"""The plain data between the API process and its workers: tasks one way, events and results the other.

Everything is encoded with msgspec; nothing here needs torch. Paths are absolute strings, and API and workers
see the same file system. Floats may be NaN or infinite here; the API makes them null.
"""
