"""The audit of a dataset: every problem that training, validation or the submission would trip over.

Nothing here stops at the first problem, and nothing trusts a file: what cannot be read becomes a finding.
"""

from bonepipe.data.audit import images, layout, tables
from bonepipe.data.audit.finding import Finding
from bonepipe.data.folds import FoldSpec
from bonepipe.data.spec import DataSpec

__all__ = ["Finding", "audit"]


def audit(spec: DataSpec, folds: FoldSpec) -> list[Finding]:
    """All problems of a dataset and of its fold file, errors first."""
    if not spec.root or not spec.path.is_dir():
        message = "no such folder; set DATA=... (or data.root=...), or make the phantom with `make data`"
        return [Finding("error", spec.path, "data.root", message, "no dataset")]
    own, findings = layout.find_images(spec)
    others, more = layout.find_external(spec)
    findings += [
        *more, *layout.check_parts(spec, own), *layout.check_names([*own, *others]), *layout.check_patients(own),
        *layout.check_annotation_files(spec, own), *tables.check_metadata(spec, own),
        *tables.check_folds(folds, own, spec),
    ]  # fmt: skip
    checked, external = images.check_files(own, spec), images.check_files(others, spec)
    both = [*checked, *external]
    findings += [*tables.check_lists(spec, both), *tables.check_answer(spec, checked)]
    findings += [finding for image in both for finding in image.findings]
    findings += [
        *images.check_duplicates(both), *images.check_sizes(checked, spec),
        *images.check_aspects(checked, external, {image.path for image in own if image.split == "test"}, spec),
        *images.check_greys(checked, external), *images.check_depths(both),
    ]  # fmt: skip
    return sorted(findings, key=lambda finding: finding.severity)
