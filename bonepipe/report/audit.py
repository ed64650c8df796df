"""What an audit has found, as text."""

from collections import defaultdict
from collections.abc import Sequence

from bonepipe.data.audit import Finding

SHOWN = 20  # findings of a topic, unless all are asked for


def text(root: str, findings: Sequence[Finding], *, everything: bool = False) -> str:
    """The findings by severity and topic with counts, the first of each or everything; the last line is the verdict."""
    topics: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        topics[finding.severity, finding.topic].append(finding)
    blocks = []
    for (severity, topic), group in topics.items():
        shown = group if everything else group[:SHOWN]
        blocks += [f"{severity}: {topic} ({len(group)})", *(f"  {finding}" for finding in shown)]
        blocks += [*[f"  ... and {len(group) - SHOWN} more, which --all lists"][: len(group) > len(shown)], ""]
    return "\n".join([*blocks, verdict(root, findings)])


def verdict(root: str, findings: Sequence[Finding]) -> str:
    """One line on whether the dataset can be used."""
    errors = sum(finding.severity == "error" for finding in findings)
    counts = f"{_counted(errors, 'error')}, {_counted(len(findings) - errors, 'warning')}"
    return f"{root}: {counts}: {'training or the submission would fail' if errors else 'ready for training'}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
