"""SAEs as others publish them: found, described and checked by names and headers alone, without torch."""
