"""One file per revision, oldest first; a revision that was released never changes."""
