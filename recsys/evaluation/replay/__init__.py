"""Replay of the served object: logged sessions in time order, each answer from the past alone, then the estimates."""
