"""The one error of the build: a sentence for the person who ran the command."""


class BuildError(Exception):
    """Something on this machine stands in the way. The message is one sentence that names it and says what to do."""
