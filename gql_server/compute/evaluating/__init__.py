"""Measuring SAEs in their layers' places."""
