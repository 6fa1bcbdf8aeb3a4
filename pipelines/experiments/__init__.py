"""Experiments that docs/ records: pages that compare, each with its own command."""
