"""Frames for people: logs, results per user, evaluations and the live store as tables; never on the request path."""
