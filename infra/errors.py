"""The one error of this package: raised by settings.py and nodejs.py, printed as one line by app.py."""


class SynthesisFault(Exception):
    """What stands in the way of a synthesis: what was got, what was expected, and the next step."""
