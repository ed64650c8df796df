"""What the audit found, by topic."""

from collections import defaultdict
from collections.abc import Sequence

from bonepipe.data.audit import Finding
from bonepipe.report.audit import verdict
from bonepipe.report.page import Section, Text

SHOWN = 6  # findings of a topic


def section(root: str, findings: Sequence[Finding]) -> Section:
    """A part a topic, errors first."""
    topics: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        topics[finding.severity, finding.topic].append(finding)
    says = f"{verdict(root, findings)}. An error would make training or the submission fail; a warning is worth a look."
    return Section("What doctor found", says, [_topic(root, *key, group) for key, group in topics.items()])


def _topic(root: str, severity: str, topic: str, group: Sequence[Finding]) -> Text:
    lines = [str(finding).removeprefix(f"{root}/") for finding in group[:SHOWN]]
    if len(group) > SHOWN:
        lines.append(f"and {len(group) - SHOWN} more, which `bonepipe doctor --all` lists")
    return Text(f"{severity}: {topic} ({len(group)})", "", lines, level="error" if severity == "error" else "warning")
