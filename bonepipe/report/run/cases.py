"""The worst and the best images, and the single bones that went worst."""

from bonepipe.report import overlay
from bonepipe.report.page import Gallery, Part, Section
from bonepipe.report.run.results import Results

LEGEND = [(name, overlay.css(colour)) for name, colour in overlay.ERRORS]


def section(results: Results) -> Section | None:
    """Pictures; None where the dataset is not there any more."""
    if not results.cases:
        return None
    parts: list[Part] = [
        Gallery(case.title, case.says, case.pictures, least=300, legend=LEGEND if number == 0 else ())
        for number, case in enumerate(results.cases)
    ]
    if results.closeups:
        says = (
            "One class each: missed pixels are orange, superfluous ones blue. If blue looks right, the truth is wrong."
        )
        parts.insert(0, Gallery("The bones that went worst", says, results.closeups, least=210, legend=LEGEND))
    if results.palette:
        parts.append(Gallery("Colours of the classes", "As in truth and prediction above.", [], legend=results.palette))
    says = (
        "The worst images are either hard, or wrongly annotated: look before you blame the network. Masks and Dice are "
        "those at threshold 0.5."
    )
    return Section("Best and worst", says, parts)
