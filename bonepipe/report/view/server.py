"""The viewer's server: uvicorn on this machine's own address, which no other machine can reach."""

import contextlib
import logging
import socket
import threading
import webbrowser

import uvicorn

from bonepipe.errors import UsageError
from bonepipe.report.view.app import Viewer, application

HOST, PORT = "127.0.0.1", 8321


def listen(port: int | None) -> socket.socket:
    """A socket on this machine alone, at a port; at PORT, or any that is free, where none is asked for.

    Raises:
        UsageError: the port is taken, or may not be used.
    """
    try:
        return _bound(PORT if port is None else port)
    except (OSError, OverflowError) as error:
        if port is None:
            return _bound(0)
        reason = error.strerror if isinstance(error, OSError) else "from 0 to 65535"
        raise UsageError(f"--port {port}: {reason}; --port 0 takes any that is free") from error


def _bound(port: int) -> socket.socket:
    listening = socket.socket()
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen()  # whoever comes from now on waits until the server is there
    except (OSError, OverflowError):
        listening.close()
        raise
    return listening


def address(listening: socket.socket) -> str:
    """What to open in a browser."""
    return f"http://{HOST}:{listening.getsockname()[1]}/"


def serve(viewer: Viewer, listening: socket.socket, *, browser: bool) -> None:
    """Answer until somebody stops it; with `browser` a window is opened first."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(application(viewer), access_log=False, log_config=None, timeout_graceful_shutdown=1)
    threading.Thread(target=viewer.score, daemon=True).start()
    if browser:
        threading.Thread(target=webbrowser.open, args=(address(listening),), daemon=True).start()
    with listening, contextlib.suppress(KeyboardInterrupt):  # which ends it as it should
        uvicorn.Server(config).run(sockets=[listening])
