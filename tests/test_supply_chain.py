"""The lock as continuous integration looks at it before anything is installed: `.ci/audit.py`."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "audit.py"
HASH = f"--hash=sha256:{'0a' * 32}"


@pytest.fixture(scope="module")
def audit():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def look(*words):
    command = [sys.executable, "-S", str(SCRIPT), *map(str, words)]  # -S: no package is needed
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_lock_passes_and_says_in_one_line_what_is_not_known():
    done = look()
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert "No database of advisories was asked" in line
    names = re.findall(r"^[\w.-]+(?:\[\w+\])?==", Path("requirements.lock").read_text(), re.MULTILINE)
    assert f"{len(names)} packages, all pinned with hashes" in line


@pytest.mark.parametrize(
    ("lock", "told"),
    [
        (f"pytorch_lightning==2.6.3 {HASH}", "pytorch-lightning 2.6.3: GHSA-w37p-236h-pfx3"),
        (f"Torch==2.9.1 \\\n    {HASH}\n    # via x", "torch 2.9.1: CVE-2026-24747"),
        (f"hydra-core==1.3.6 ; python_version < '4' {HASH}", "hydra-core 1.3.6: CVE-2026-106439"),
        ("numpy==2.4.6", "numpy==2.4.6: lacks a SHA-256"),
        (f"numpy==2.4.6 {HASH} --hash=md5:00", "numpy==2.4.6: lacks a SHA-256"),
        (f"numpy>=2 {HASH}", "is not pinned to one version"),
        (f"numpy==2.* {HASH}", "is not pinned to one version"),
        (f"numpy @ https://example.org/numpy.whl {HASH}", "from an address or a repository"),
        ("git+https://example.org/numpy.git", "from an address or a repository"),
        ("--extra-index-url https://example.org", "an option"),
        ("-e .", "an option"),
        (f"torch==two {HASH}", "version 'two' cannot be compared"),
        ("# nothing", "names no package"),
    ],
)
def test_what_a_lock_must_not_hold_is_refused(tmp_path, lock, told):
    (tmp_path / "x.lock").write_text(f"{lock}\n")
    done = look(tmp_path / "x.lock")
    assert done.returncode == 1
    assert told in done.stderr
    assert all(line.startswith("audit: x.lock: ") for line in done.stderr.splitlines())


def test_a_lock_that_is_not_there_is_named(tmp_path):
    done = look(tmp_path / "none.lock")
    assert done.returncode == 1 and "none.lock" in done.stderr and "Traceback" not in done.stderr


def test_versions_are_ordered_as_pep_440_has_them(audit):
    from packaging.version import Version

    versions = ["0.0.1b1", "0.66b2", "0.66", "1.3", "1.3.0", "1.3.4rc1", "1.3.4", "1.10", "2.13.0+cpu", "2026.9.21.13"]
    for first in versions:
        for second in versions:
            if "+" not in first + second:
                assert (audit.key(first) < audit.key(second)) == (Version(first) < Version(second)), (first, second)
    assert audit.key("2.13.0+cpu") == audit.key("2.13.0")


def test_each_advisory_names_its_source_and_can_be_applied(audit):
    for advisory in audit.read_list(audit.LIST):
        assert advisory.verdict in ("malicious", "vulnerable", "known")
        assert advisory.source.startswith("https://") and advisory.id and advisory.what
        versions = [condition.lstrip("<>=") for condition in advisory.affected.split(",")]
        met = [audit.is_affected(version, advisory.affected) for version in (*versions, "0.0.1")]
        assert any(met), advisory


def test_continuous_integration_looks_before_it_installs():
    lines = (SCRIPT.parent / "run").read_text().splitlines()
    assert lines.index("python3 .ci/audit.py") < lines.index("make test")
