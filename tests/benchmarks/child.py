"""Run one command or function in a process of its own and report its peak memory: `child cli vote ...`."""

import importlib
import json
import os
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_bytes() -> int:
    """This process's largest resident set. Linux's VmHWM starts anew with the program; ru_maxrss keeps the parent's."""
    if STATUS.exists():
        return resident_bytes("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident_bytes(field: str = "VmRSS") -> int:
    """This process's resident set now, or at its largest, as Linux has it."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


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
