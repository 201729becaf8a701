"""The kind of error that a command tells in one sentence, without a traceback."""


class Failure(Exception):
    """Something outside this program is not as it should be; the message says what."""
