"""Run one command or function in a process of its own and report its peak memory: `child cli vote ...`."""

import importlib
import json
import os
import resource
import sys
from pathlib import Path


def peak_bytes() -> int:
    """This process's largest resident set. Linux's VmHWM starts anew with the program; ru_maxrss keeps the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def imports() -> None:
    """Import what `submit` imports, and do nothing."""
    from bonepipe import config

    import segmentation_models_pytorch  # isort: skip # noqa: F401

    config.compose(["experiment=demo", "tracking=none"])


def main(words: list[str]) -> int:
    """Run `cli ARGUMENTS` or `MODULE:FUNCTION ARGUMENTS`; the report goes to the file that BENCH_REPORT names."""
    what, *arguments = words
    module, name = ("bonepipe.cli", "main") if what == "cli" else what.split(":")
    function = getattr(importlib.import_module(module), name)
    result = function(arguments) if what == "cli" else function(*arguments)
    Path(os.environ["BENCH_REPORT"]).write_text(json.dumps({"peak": peak_bytes(), "result": result}))
    return int(result or 0) if what == "cli" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
