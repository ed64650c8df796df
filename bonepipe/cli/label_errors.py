"""`bonepipe label-errors`: the annotations that look wrong to models that never saw them."""

from collections.abc import Sequence

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Rank suspicious annotations by the out-of-fold predictions of a finished experiment (`bonepipe train-all`) or, with
--run, of any run, ensemble or cascade: labels that are permuted, bones that are not drawn, extra parts, and a Dice far
below what is usual for its class. Writes
  runs/NAME/label_errors.html the candidates as a page: annotation beside prediction, the ranking, what to do
  runs/NAME/label_errors.csv  rank, image_name, patient, class, becomes, kind, score, suggestion, remark
  runs/NAME/label_errors.jpg  the first candidates on one sheet
  runs/NAME/label_errors/     a picture of each of the first 40
  runs/NAME/corrections.csv   suggested corrections of those that are sure; look at them, edit them, and train with
                              name=NAME-mended data.corrections=runs/NAME/corrections.csv. A file that is there already
                              is kept, and the suggestions go to corrections.new.csv. `bonepipe view runs/NAME`
                              steps through the candidates and writes what you accept and reject there.
Where the out-of-fold Dice of a class, or of all, is below 0.5 the model is too weak to judge: a warning says so, and
nothing is suggested there.

A correction (image_name,class,action,value) drops an image or, with a class, what it says of that class; permutes its
labels (class: as drawn, value: right); replaces a mask (value: run lengths); or notes that somebody has looked and the
annotation is right (keep). Only what is trained on changes: validation and its scores keep to the annotations.
Where the dataset has a planted.csv (the phantom's list of what is wrong on purpose), the ranking is held against it."""
KEYS = ("name", "runs", "data.root")
EXAMPLES = """\
bonepipe label-errors experiment=demo
bonepipe label-errors --run runs/demo-wrist"""


def main(words: Sequence[str]) -> int:
    """Compare, rank, write."""
    given = make_parser("label-errors", SUMMARY, keys=KEYS, examples=EXAMPLES, run=True).read(words)
    from bonepipe.pipeline.experiment import say
    from bonepipe.pipeline.predictors.opening import open_predictor
    from bonepipe.screen import tell_next

    predictor = open_predictor(given.run, given.overrides)
    from bonepipe.pipeline.label_errors import rank_annotations  # heavy, so it comes after the settings

    ranked = rank_annotations(predictor)
    if ranked.warning:
        say(ranked.warning)
    print("\n".join(ranked.lines))
    folder = predictor.experiment.folder
    say(f"{folder}: {ranked.candidates} candidates in label_errors.csv, {ranked.rows} rows in {ranked.path.name}")
    tell_next(folder / "label_errors.html")
    return 0
