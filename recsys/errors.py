"""The one error that a caller can act on: it names the value, the bound and the remedy."""


class UserError(ValueError):
    """Bad input from a person or a caller; its text is one line fit to print as it is."""
