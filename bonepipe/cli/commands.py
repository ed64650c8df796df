"""The commands, each a module of this package with `main(words) -> exit code`."""

from bonepipe import __version__

COMMANDS = {
    "phantom": "write a synthetic dataset in the competition's format",
    "options": "list everything that can be chosen: models, losses, augmentations, ...",
    "doctor": "audit a dataset: every problem named with its file",
    "eda": "look at a dataset: classes, sizes, what resolution costs, patients, train against test, as one page",
    "split": "write the fold file that says which fold validates each patient",
    "train": "train one fold (fold=K) and predict its validation images; resumes by itself",
    "train-all": "train every fold, then find the thresholds and write the cross-validation summary",
    "autoaugment": "search an augmentation policy on a trained fold (Fast AutoAugment)",
    "weak-labels": "weak supervision: masks from a classifier's activation maps, to train on (data.masks)",
    "speed": "measure a training step: does the network or the data loading hold it back?",
    "submit": "train what is missing, predict the test images with all folds, write, check and score submission.csv",
    "ensemble": "average any finished runs: cross-validate the mixture, predict the test images",
    "cascade": "coarse to fine: look closely where a first stage has found the region of some classes (the wrist)",
    "predict": "predict any radiographs: overlays, masks, polygons to correct, and a CSV",
    "view": "browse images, annotations and predictions in the browser; accept or reject suspected label errors",
    "export": "a finished run as one file that predicts without bonepipe: ONNX, or torch.export's .pt2",
    "convert": "annotations between COCO, LabelMe, CVAT, Label Studio, mask pictures, CSVs and the competition's JSON",
    "label-errors": "rank suspicious annotations from out-of-fold predictions, and suggest corrections",
    "pseudo": "pseudo-labels of the test images, to train on with data.pseudo",
    "ablation": "what does each technique, or each step to the submission, gain and cost? as a table",
    "score": "score a CSV of masks against the truth",
    "check": "is a CSV a valid submission for this test set?",
    "leaderboard": "record leaderboard scores beside runs, and how well cross-validation predicts them",
    "sync": "upload to Weights & Biases what was tracked offline",
    "dashboard": "save a view of a run on Weights & Biases: scores, curves, classes, thresholds, overlays",
    "report": "an experiment, or several runs side by side, as one page",
    "compare": "which settings differ between two runs, and how the Dice changed",
    "select": "which finished runs to average: writes the ensemble that is best out of fold",
    "clean": "delete the results of an experiment",
    "vote": "combine several submission CSVs by majority vote",
    "completion": "print a script that lets TAB finish commands, flags and settings (bash, zsh, fish)",
}


def usage() -> str:
    """The text of `bonepipe --help`."""
    rows = "\n".join(f"  {name:<12} {summary}" for name, summary in COMMANDS.items())
    return (
        f"bonepipe {__version__}: segment the bones of hand radiographs, fold by fold\n\n"
        f"usage: bonepipe COMMAND [ARGUMENTS] [--traceback]\n\n{rows}\n\n"
        "`bonepipe COMMAND --help` explains a command. --traceback (or BONEPIPE_TRACEBACK=1) shows an error's origin."
    )
