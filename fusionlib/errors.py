"""The one exception that the suite raises for bad input."""


class FusionError(ValueError):
    """Bad input, told in one sentence: the file, what was expected, what was found and how to mend it."""
