"""`bonepipe ensemble RUN[:WEIGHT]... -o runs/NAME`: finished runs as one, cross-validated, up to a submission."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bonepipe import config as configs
from bonepipe.commands import summary as summaries
from bonepipe.commands.handover import hand_over
from bonepipe.commands.predictor import (
    ENSEMBLE,
    mask_maker,
    masks,
    placed,
    record_source,
    refuse_taken,
    threshold_settings,
)
from bonepipe.commands.team import Team
from bonepipe.commands.voters import Voter, open_voters
from bonepipe.data.catalog import test_images
from bonepipe.errors import UsageError
from bonepipe.inference.ensemble import members
from bonepipe.inference.ensemble.members import Ensemble, Entry, Mean
from bonepipe.inference.thresholds import Choice
from bonepipe.pipeline.comparison import paired
from bonepipe.pipeline.experiment import say

if TYPE_CHECKING:
    from bonepipe.inference.ensemble.scores import Scored

EPILOG = """\
A member is the folder of a finished run, all its finished folds together; its weight follows a colon (default 1).
Members may differ in model, seed, size, windows and views. Each predicts as its own run did; then all maps are brought
to the largest member's height and width and averaged there. The result is a folder as `train-all` and `submit` leave
one: ensemble.yaml, oof.csv, thresholds.json, scores.json, examples.jpg, thresholds.png and, where there are test
images, submission.csv. `bonepipe predict` and `pseudo` take it with --run, `secondlook` as its first stage, as long as
its members are what they were (source.json); `suspects` takes its masks out of fold as they are.

First the mixture is cross-validated on the images that every member predicted out of fold: thresholds and
post-processing are chosen for the ensemble as a whole, and its Dice stands beside that of each member. Judge by that
table, not by the test scores. `bonepipe select` finds members that are worth it.

More can be said in a YAML file in place of the list:
  mean: arithmetic                # or geometric: the sigmoid of the mean logit
  members:
    - {run: runs/unet}                                        # all finished folds, weight 1
    - {run: runs/fpn, weight: 2, folds: [0, 1]}
    - {run: runs/wide, overrides: [tta=none, windows.size=768]}     # predicts in another way than it was validated
    - {run: runs/long, epochs: [28, 29, 30]}                  # the mean of these epochs' outputs
    - {run: runs/sharp, classes: [Pisiform, Trapezium]}       # has a say in these classes only
Overrides may change tta, windows, prediction.precision and .compile, and leave out the CRF that a run has tried
(postprocess.crf=null). Epochs need a training with trainer.keep_epochs=N; to average their weights rather than their
outputs is what averaging=swa does. Members with overrides or epochs predict their validation images anew, once; the
result is kept in their folds' folders.

examples:
  bonepipe ensemble runs/unet runs/fpn:2 runs/segformer -o runs/three
  bonepipe ensemble runs/unet runs/fpn -o runs/two --mean geometric --no-test
  bonepipe ensemble best.yaml -o runs/best --batch-size 2
"""
YAML = (".yaml", ".yml")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        "bonepipe ensemble",
        description="Average any finished runs, cross-validate the mixture, and predict the test images with it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("members", metavar="RUN[:WEIGHT]", nargs="+", help="finished runs, or one YAML file")
    add("-o", "--output", metavar="runs/NAME", type=Path, required=True, help="the folder to write")
    add("--mean", choices=("arithmetic", "geometric"), help="of probabilities or of logits (default: the file's)")
    add("--data", metavar="ROOT", help="the dataset (default: that of the first member)")
    add(
        "--margin", type=float, metavar="SE", help="standard errors a threshold must gain (default: the first member's)"
    )
    add("--by-stratum", action="store_true", help="let a class have another threshold in some strata, where that gains")
    add("--batch-size", type=int, metavar="N", help="images a forward pass (default: the smallest of the members')")
    add("--device", help="cpu, cuda, ... (default: the first member's setting)")
    add("--no-test", action="store_true", help="cross-validate only")
    return result


def read_members(words: Sequence[str], mean: Mean | None) -> Ensemble:
    """The ensemble that a command line names: a YAML file, or runs with weights.

    Raises:
        UsageError: a weight that is no positive number, or a file among runs.
        BonepipeError: a file that is wrong.
    """
    if len(words) == 1 and words[0].endswith(YAML):
        ensemble = members.read(Path(words[0]))
        return ensemble if mean is None else replace(ensemble, mean=mean)
    file = next((word for word in words if word.endswith(YAML)), None)
    if file:
        raise UsageError(f"{file}: give one YAML file or a list of runs, not both")
    return Ensemble(members=tuple(map(_entry, words)), mean=mean or "arithmetic")


def _entry(word: str) -> Entry:
    run, colon, weight = word.rpartition(":")
    if not colon or Path(word).is_dir():
        return Entry(run=word)
    try:
        number = float(weight)
    except ValueError as error:
        raise UsageError(f"{word}: the weight after the colon must be a number, as in runs/NAME:2") from error
    try:
        return Entry(run=run, weight=number)
    except ValueError as error:
        raise UsageError(str(error)) from error


def assemble(ensemble: Ensemble, given: argparse.Namespace) -> Team:
    """Find the runs; raises as `open_voters`, and where the output is a training run's folder."""
    folder: Path = given.output
    refuse_taken(folder, ENSEMBLE)
    ensemble = ensemble.merged()
    voters = open_voters(ensemble.members, given.data, given.device)
    first = voters[0].experiment.config
    sizes = [configs.build(voter.experiment.config, "prediction").batch_size for voter in voters]
    prediction = {**first["prediction"], "folds": None, "batch_size": given.batch_size or min(sizes)}
    limits = threshold_settings(first, given)
    team = Team(
        ensemble, voters, placed({**first, "prediction": prediction, "thresholds": limits}, folder, shelf=first["runs"])
    )
    team.check()
    return team


def main(argv: list[str]) -> int:
    """Cross-validate, then predict the test images."""
    given = parser().parse_args(argv)
    team = assemble(read_members(given.members, given.mean), given)
    folder = team.experiment.folder
    images = [] if given.no_test else test_images(team.experiment.data)  # a fault in them is found before the work
    summaries.begin(team.experiment)
    members.write(folder / ENSEMBLE, team.ensemble)
    cross_validate(team)
    if not given.no_test:
        hand_over(team.experiment, images, masks(team, images), [ENSEMBLE])
    return 0


def cross_validate(team: Team) -> None:
    """Write what the mixture says out of fold, the thresholds and repairs chosen from it, and its scores."""
    from bonepipe.inference.ensemble.scores import common_names, score
    from bonepipe.inference.oof.results import MASKS, write_results

    experiment, first, folder = team.experiment, team.voters[0], team.experiment.folder
    archives = team.archives()
    names = common_names(archives)
    _tell_images(names, [len(archive.places) for archive in archives])
    scored = score(archives, team.weights, team.mean, first.experiment.store, names)
    if len(team.voters) > 1 or first.anew:
        write_results(folder, names, team.classes, [row.mixture for row in scored])
    else:  # a member alone has its exact histograms already; bytes would only come near them
        _copy_results(first, folder)
    summary = summaries.decide(experiment, team.out_of_fold(), lambda: mask_maker(team.mixer(archives), experiment))
    members = _members(team, scored)
    told = {"members": [{key: value for key, value in row.items() if key != "dice"} for row in members]}
    scores = summaries.finish(summary, lambda _: folder / MASKS, told, facts=team.facts)
    record_source(team)
    for line in _table(members, summary.choice, scores):
        print(line)
    summaries.tell(summary, scores)


def _tell_images(names: Sequence[str], counts: Sequence[int]) -> None:
    most = max(counts)
    say(f"{len(names)} images that every member predicted out of fold")
    if most > len(names):
        say(f"warning: the members' folds differ; up to {most - len(names)} images of a member count nowhere")


def _copy_results(voter: Voter, folder: Path) -> None:
    """Join the files of a single member's folds."""
    from bonepipe.inference.oof.results import read_results, write_results

    classes = voter.experiment.data.classes
    names, rows = [], []
    for fold in voter.folds:
        here, compared = read_results(voter.experiment.fold_folder(fold), classes)
        names += here
        rows += compared
    write_results(folder, names, classes, rows)


def _members(team: Team, scored: Sequence["Scored"]) -> list[dict[str, Any]]:
    """A row a member: what it is, and its own Dice at 0.5 over the classes that it has a say in, an image and mean."""
    rows = []
    for number, entry in enumerate(team.ensemble.members):
        heard = team.weights[number] > 0
        dice = np.array([row.alone[number][heard].mean() for row in scored])
        title = " ".join([entry.run, *entry.overrides, *([f"epochs {entry.epochs}"] if entry.epochs else [])])
        facts = {"member": title, "weight": entry.weight, "classes": int(heard.sum())}
        rows.append({**facts, "oof_dice_at_half": float(dice.mean()), "dice": dice})
    return rows


def _table(members: Sequence[Mapping[str, Any]], choice: Choice, scores: Mapping[str, Any]) -> Iterator[str]:
    """The members and the mixture, each with its Dice out of fold on the same images."""
    width = max(len("with its thresholds"), *(len(row["member"]) for row in members))
    yield f"{'member':<{width}} {'weight':>7} {'classes':>7} {'OOF Dice':>9}"
    for row in members:
        yield f"{row['member']:<{width}} {row['weight']:7g} {row['classes']:7d} {row['oof_dice_at_half']:9.4f}"
    count = choice.dice.shape[1]
    whole = [row for row in members if row["classes"] == count]
    beside = ""
    if whole and len(members) > 1:
        best = max(whole, key=lambda row: row["oof_dice_at_half"])
        change = paired(best["dice"], choice.dice_at_half.mean(1))
        error = "" if change.standard_error is None else f" +- {change.standard_error:.4f}"
        beside = f"  {change.change:+.4f}{error} over {best['member']}"
    yield f"{'ensemble':<{width}} {'':7} {count:7d} {scores['oof_dice_at_half']:9.4f}{beside}"
    kept, repairs = int(choice.kept.sum()), scores.get("postprocess_gain", 0.0)
    limited = scores["oof_dice"] - repairs
    yield f"{'with its thresholds':<{width}} {'':7} {count:7d} {limited:9.4f}  {kept} classes leave 0.5"
    if "postprocess_gain" in scores:
        yield f"{'and its repairs':<{width}} {'':7} {count:7d} {scores['oof_dice']:9.4f}  {repairs:+.4f}"
