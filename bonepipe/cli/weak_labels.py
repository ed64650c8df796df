"""`bonepipe weak-labels fold=K`: masks from image-level labels, by class activation maps."""

from collections.abc import Sequence

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Weak supervision: train a classifier to tell which bones random crops of the fold's training images show, which is all
that it learns of the annotations, then turn its class activation maps into masks of all training images. Writes
masks.csv (image_name,class,rle) and scores.json (Dice against the truth) into runs/NAME/cam/fold-K/. A segmentation
model is trained on these masks, and validated against the truth, with:
  bonepipe train fold=K experiment=EXPERIMENT name=NAME-weak-K data.masks=runs/NAME/cam/fold-K/masks.csv
The classifier has not seen the images that fold K validates; other folds' validation images it has. So each fold has
masks and a run of its own."""
KEYS = ("fold", "name", "seed", "runs", "device", "cam")
EXAMPLES = "bonepipe weak-labels experiment=demo fold=0 cam.steps=1000"


def main(words: Sequence[str]) -> int:
    """Train the classifier, write and score the masks."""
    given = make_parser("weak-labels", SUMMARY, keys=KEYS, examples=EXAMPLES).read(words)
    from bonepipe.config import compose
    from bonepipe.pipeline.experiment import Experiment

    config = compose(given.overrides)
    from bonepipe.pipeline.weak_labels import make_masks  # heavy, so it comes after the settings

    path, scores = make_masks(Experiment(config))
    print(f"{path}: Dice {scores['training']:.4f} on the images that the classifier learned from, "
          f"{scores['validation']:.4f} on the others")  # fmt: skip
    print(f"train on them with: fold={config['fold']} name={config['name']}-weak-{config['fold']} data.masks={path}")
    return 0
