"""What a command raises when something stands in its way; command.py turns it into one line and exit code 1."""


class Fault(Exception):
    """What stands in the way, and the next step: for the person at the terminal, not a fault of the program."""
