"""mi_crow as it is, without this server."""
