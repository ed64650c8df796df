"""The machine that runs this."""

import os


def cores() -> int:
    """Processor cores that this process may use; in a container these can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
