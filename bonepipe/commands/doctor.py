"""`bonepipe doctor`: audit a dataset."""

from collections import defaultdict
from collections.abc import Sequence

from bonepipe.data.audit import Finding, audit
from bonepipe.pipeline.experiment import Experiment, parse

HELP = """usage: bonepipe doctor [OVERRIDES]

Audit a dataset and its fold file without changing anything. Every problem is named with its file: an error would make
training or the submission fail, a warning is worth a look. The exit code is 1 where there is an error.

example: bonepipe doctor data=hand data.root=/data/hand"""


def main(arguments: Sequence[str]) -> int:
    """Audit the dataset and print the report; exit code 1 where there is an error."""
    config = parse(arguments, HELP)
    if config is None:
        return 0
    experiment = Experiment(config)
    findings = audit(experiment.data, experiment.folds)
    print(report(experiment.data.root, findings))
    return int(any(finding.severity == "error" for finding in findings))


def report(root: str, findings: Sequence[Finding]) -> str:
    """The findings by severity and topic with counts, and the verdict in the last line."""
    topics: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        topics[finding.severity, finding.topic].append(finding)
    blocks = []
    for (severity, topic), group in topics.items():
        blocks += [f"{severity}: {topic} ({len(group)})", *(f"  {finding}" for finding in group), ""]
    return "\n".join([*blocks, verdict(root, findings)])


def verdict(root: str, findings: Sequence[Finding]) -> str:
    """One line on whether the dataset can be used."""
    errors = sum(finding.severity == "error" for finding in findings)
    counts = f"{_counted(errors, 'error')}, {_counted(len(findings) - errors, 'warning')}"
    return f"{root}: {counts}: {'training or the submission would fail' if errors else 'ready for training'}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
