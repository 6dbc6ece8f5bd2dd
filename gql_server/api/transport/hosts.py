"""Which names and addresses lead to this machine alone."""

import ipaddress


def is_loopback(name: str) -> bool:
    """Return whether a host's name, or an address without brackets, is a loopback one."""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
