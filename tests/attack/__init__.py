"""Attacks on a real server: what one client or one file does to everybody else, measured."""
