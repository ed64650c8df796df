"""The two errors that a user may cause; everything else is a bug and shows its traceback."""


class BonepipeError(Exception):
    """Bad data, a bad file or an impossible request. The message names the file, the field and the way out."""


class UsageError(BonepipeError):
    """A command line that cannot be understood: an unknown flag, a misspelt or ill-typed override."""
