"""Programs that measure: times of this server, and its SAEs beside those of other packages."""
