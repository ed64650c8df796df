"""What can be known of the image without building it."""

import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCKERFILE, IGNORED = (ROOT / name for name in ("Dockerfile", ".dockerignore"))


def sent(path):
    """Whether a path at the top goes into the image: the last rule that fits decides, as Docker has it."""
    decision = True
    for rule in IGNORED.read_text().splitlines():
        if rule and not rule.startswith("#") and fnmatch(path, rule.removeprefix("!")):
            decision = rule.startswith("!")
    return decision


def test_everything_that_is_tracked_and_needed_is_sent_and_nothing_else():
    for path in ("data", "runs", ".venv", ".git", "wandb", "shared", ".ruff_cache", "secret.env"):
        assert not sent(path)
    assert sent("bonepipe") and not sent("bonepipe/__pycache__")
    for rule in re.findall(r"^!(.+)$", IGNORED.read_text(), re.MULTILINE):
        assert (ROOT / rule).exists(), rule
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        tracked = {Path(line).parts[0] for line in listed.splitlines()}
        left_out = {path for path in tracked if not sent(path)}
        assert left_out <= {".ci", ".dockerignore", "Dockerfile"}


def test_its_words_are_targets_of_make_and_the_base_is_an_argument():
    text, makefile = DOCKERFILE.read_text(), (ROOT / "Makefile").read_text()
    assert re.search(r"^ARG BASE=\S+\nFROM \$\{BASE\}$", text, re.MULTILINE)
    for target in [
        *re.findall(r"^RUN make (\S+)", text, re.MULTILINE),
        *re.findall(r'^CMD \["(\w+)"', text, re.MULTILINE),
    ]:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert 'ENTRYPOINT ["make"]' in text
    folder = re.search(r"^WORKDIR (\S+)", text, re.MULTILINE)[1]
    assert all(f'"{folder}/{name}"' in text for name in ("data", "runs"))
