"""Text is UTF-8 under every locale: in files, in their names, and in what is printed."""

import codecs
import io
import locale
import os
import sys

SWITCH = "PYTHONUTF8"


def ensure_utf8() -> None:
    """Start this process anew in Python's UTF-8 mode (PEP 540) where the locale has another encoding.

    Names of files could not be read as what they are otherwise, and libraries would write text that no other machine
    reads. Processes that are started from here inherit the mode.
    """
    known = sys.flags.utf8_mode or codecs.lookup(locale.getencoding()).name == "utf-8"
    if not known and os.environ.get(SWITCH) != "1":
        os.environ[SWITCH] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that cannot be printed stops nothing
