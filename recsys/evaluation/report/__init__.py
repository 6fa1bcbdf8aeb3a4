"""Reports of a replay: one HTML page without a network, JSON for machines, tables for the terminal."""
