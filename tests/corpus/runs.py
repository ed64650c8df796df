"""What lies in folders of results: configs, weights, checkpoints, predictions, decisions, scores, stores."""

import io
import json
import pickle
import re
import zipfile
from functools import partial
from pathlib import Path

from bonepipe.training.weights_file import read_weights
from corpus.case import Case, both, clear, copied, cut, flip, folder, gone, link, nothing, pipe, put, swap

RUN, FOLD = "runs/demo", "runs/demo/fold-0"
PREDICT, SUBMIT, COMPARE = f"predict a.png -o out --run {RUN}", f"submit --run {RUN}", f"compare {RUN} {RUN}"
ENSEMBLE, LEADERBOARD = "ensemble e.yaml -o runs/e", f"leaderboard {RUN}"
ANEW = ("fold", "train")  # part of each way out


def config(title, content, *said):
    """A case of a run's config."""
    return Case(title, put(f"{RUN}/config.yaml", content), PREDICT, (f"{RUN}/config.yaml", *said))


def ensemble(title, content, *said, code=1):
    """A case of an ensemble's file."""
    return Case(title, put("e.yaml", content), ENSEMBLE, said, code)


def member(title, words, *said, code=1):
    """A case of an ensemble's only member, which is the run."""
    return ensemble(title, f"members: [{{run: {RUN}{words}}}]", *said, code=code)


def weights(title, content, *said):
    """A case of the reader of weights."""
    return Case(title, put("w.safetensors", content), partial(read_weights, Path("w.safetensors")), ("w.saf", *said))


def safetensors(header, data=b""):
    """A file of this header."""
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    return len(text).to_bytes(8, "little") + text + data


def checkpoint(title, content, *said):
    """A case of the reader of checkpoints."""

    def ask():
        import torch

        from bonepipe.training.checkpoint import require_sound

        module = torch.nn.Module()
        module.model = torch.nn.Linear(2, 2)
        require_sound(Path("last.ckpt"), module)

    def spoil():
        put("last.ckpt", content() if callable(content) else content)()

    return Case(title, spoil, ask, ("last.ckpt", *said, "move it away, and the same command trains the fold from its"))


def saved(content):
    """What torch writes of a content."""

    def make():
        import torch

        file = io.BytesIO()
        torch.save(content, file)
        return file.getvalue()

    return make


def archive(**entries):
    """An archive that is none of torch's."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, content in {**entries, "byteorder": "little", "version": "3"}.items():
            entry = zipfile.ZipInfo(f"archive/{name}{'.pkl' if name == 'data' else ''}")
            entry.external_attr = 0  # as torch leaves it
            packed.writestr(entry, content)
    content = bytearray(file.getvalue())
    for place in [found.start() for found in re.finditer(b"PK\1\2", content)]:
        content[place + 38 : place + 42] = bytes(4)
    return bytes(content)


class Payload:
    """An object whose reading would run a command."""

    def __reduce__(self):
        return print, ("a stranger's code runs",)


def histograms(**changes):
    """Other arrays in a fold's histograms."""

    def spoil():
        import numpy as np

        path = Path(FOLD, "histograms.npz")
        with np.load(path) as file:
            arrays = {name: file[name] for name in file} | changes
        clear(path)
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})

    def ask():
        from bonepipe.inference.oof.results import read_counts

        with_names = Path(FOLD, "config.yaml").read_text(encoding="utf-8")
        import yaml

        read_counts(Path(FOLD, "histograms.npz"), yaml.safe_load(with_names)["data"]["classes"])

    return spoil, ask


CASES = [
    Case("no such run", nothing, "predict a.png -o out --run runs/dem", ("no such folder; did you mean 'demo'?",)),
    Case("a file for a run", put("runs/x"), "predict a.png -o out --run runs/x", ("runs/x",)),
    Case("an empty run", folder("runs/x"), "predict a.png -o out --run runs/x", ("runs/x: no run here",)),
    Case("no such image", nothing, PREDICT.replace("a.png", "b.png"), ("b.png: no such file or folder",)),
    Case("no image in a folder", folder("empty"), PREDICT.replace("a.png", "empty"), ("empty: no images in this fo",)),
    Case("one name twice", both(folder("x"), copied("a.png", "x/a.png")), f"{PREDICT} x", ("one name twice",)),
    Case("a broken image", cut("a.png"), PREDICT, ("a.png: truncated PNG",)),
    Case("an image that is too large", nothing, f"{PREDICT} data.limits.pixels=1000", ("data.limits.pixels=1000 is",)),
    Case("a file in the way", put("out"), PREDICT, ("out",), 2),
    Case("a setting of training", nothing, f"{PREDICT} optimizer.lr=1", ("optimizer.lr is what its results were",), 2),
    Case("a fold that does not vote", nothing, f"{PREDICT} prediction.folds=[7]", ("prediction.folds=[7]: there",), 2),
    config("an empty config", "", "is not a config"),
    config("a list for a config", "[1]", "is not a config"),
    config("a config with a tag", "data: !!python/object/apply:os.system [ls]", "cannot read the config"),
    config("a config that refers to itself", "a: &a {b: 1}\nc: *a", "refers to itself by *a"),
    config("a config of impossible dates", "a: 2026-13-45", "takes no 'a'"),
    config("a deep config", "a: " + "[" * 9000, "nested more than 50 levels"),
    config("a config of bytes", b"\xff\xfe\0a", "cannot read the config"),
    config("a config that asks the system", "name: ${oc.env:HOME}", "refers to something"),
    config("a config too large", "#" + "x" * (5 << 20), "more than 4 MiB"),
    Case("no config", gone(f"{RUN}/config.yaml"), PREDICT, (RUN,)),
    Case("a pipe for a config", pipe(f"{RUN}/config.yaml"), PREDICT, (RUN, "config.yaml is missing or not")),
    Case("another constructor", swap(f"{FOLD}/config.yaml", "bonepipe.data.spec.DataSpec", "bonepipe.cli.main"),
         f"ensemble {RUN} -o runs/e", (f"{FOLD}/config.yaml: data: _target_ 'bonepipe.cli.main' is not what an op",)),
    Case("a key of no constructor", swap(f"{RUN}/config.yaml", "supersample:", "supersampled:"), PREDICT, (
        f"{RUN}/config.yaml", "did you mean 'data.supersample'")),
    Case("a value out of range", swap(f"{RUN}/config.yaml", "std: ", "std: -"), PREDICT, ("config.yaml", "data.std")),
    Case("no fingerprint", gone(f"{FOLD}/fingerprint.json"), PREDICT, (f"{FOLD}/fingerprint.json",)),
    Case("half a fingerprint", cut(f"{FOLD}/fingerprint.json"), PREDICT, (f"{FOLD}/fingerprint.json: cannot be read",)),
    Case("no fold", gone(FOLD), PREDICT, (f"{FOLD}: is not trained yet",)),
    Case("no weights", gone(f"{FOLD}/weights.safetensors"), PREDICT, (f"{FOLD}: is not trained yet",)),
    Case("empty weights", put(f"{FOLD}/weights.safetensors"), PREDICT, ("is not the file that training wrote; put",)),
    Case("half of the weights", cut(f"{FOLD}/weights.safetensors"), PREDICT, ("is not the file that training wrote",)),
    Case("four other bytes", flip(f"{FOLD}/weights.safetensors"), PREDICT, ("is not the file that training wrote",)),
    Case("other bytes, to submit", flip(f"{FOLD}/weights.safetensors"), SUBMIT, ("weights.safetensors: is not the",)),
    Case("another fold's", both(gone(f"{FOLD}/weights.safetensors"), copied("runs/demo/fold-1/weights.safetensors",
         f"{FOLD}/weights.safetensors")), PREDICT, ("weights.safetensors: is not the file that training wrote",)),
    Case("weights elsewhere", link(f"{FOLD}/weights.safetensors", "nowhere"), PREDICT, (f"{FOLD}",)),
    Case("no thresholds", gone(f"{RUN}/thresholds.json"), PREDICT, ("thresholds.json is missing or not as it was",)),
    Case("broken thresholds", put(f"{RUN}/thresholds.json", "{"), PREDICT, ("thresholds.json is missing or not",)),
    Case("other thresholds", swap(f"{RUN}/thresholds.json", "0.52", "1.52"), SUBMIT, ("thresholds.json is missing",)),
    Case("no decision", put(f"{RUN}/fingerprint.json", "[1]"), PREDICT, (f"{RUN}/fingerprint.json: cannot be read",)),
    Case("no predictions", gone(f"{FOLD}/oof.csv"), PREDICT, (FOLD, "oof.csv")),
    Case("half of the predictions", cut(f"{FOLD}/oof.csv"), PREDICT, (FOLD, "oof.csv")),
    Case("empty histograms", put(f"{FOLD}/histograms.npz"), PREDICT, (FOLD, "histograms.npz")),
    Case("no scores", both(gone(f"{FOLD}/oof_dice.csv"), gone(f"{RUN}/fold-1/oof_dice.csv")), COMPARE, (RUN,)),
    Case("scores of no number", swap(f"{FOLD}/oof_dice.csv", ",0.", ",a."), COMPARE, (f"{FOLD}/oof_dice.csv",)),
    Case("half of a table", cut(f"{FOLD}/oof_dice.csv", 0.01), COMPARE, (f"{FOLD}/oof_dice.csv",)),
    Case("broken scores", put(f"{RUN}/scores.json", "{"), LEADERBOARD, (f"{RUN}/scores.json: cannot be read",)),
    Case("scores of words", put(f"{RUN}/scores.json", '{"oof_dice": "good"}'), LEADERBOARD, ("oof_dice",)),
    Case("a score above 1", nothing, f"{LEADERBOARD} --public 95.1", ("--public 95.1: a Dice lies from 0 to 1",), 2),
    Case("a score of no number", nothing, f"{LEADERBOARD} --public nan", ("--public nan: a Dice lies from",), 2),
    Case("no run to compare", nothing, f"compare {RUN} runs/x", ("runs/x",)),
    Case("a broken cascade", put(f"{RUN}/cascade.json", "{"), PREDICT, (f"{RUN}/cascade.json: cannot be",)),
    Case("a cascade of nothing", put(f"{RUN}/cascade.json", "{}"), PREDICT, (f"{RUN}/cascade.json", "first")),
    Case("no format to export to", nothing, f"export {RUN} -o a.pth", ("a.pth",), 2),
    Case("no such fold to export", nothing, f"export {RUN} -o a.onnx --fold 9", ("9",), 2),
    Case("a mixture of one", nothing, f"select {RUN} -o runs/e", ("two",), 2),
    Case("twice the same", nothing, f"select {RUN} {RUN} -o runs/e", ("none of them twice",), 2),
    Case("no second stage", nothing, f"cascade {RUN} {RUN} -o runs/e", (RUN, "data.region"), 2),
    Case("a result into a run", nothing, f"ensemble {RUN} -o {RUN}", (f"--output {RUN}: holds a run or",), 2),
    Case("a weight of nothing", nothing, f"ensemble {RUN}:0 -o runs/e", ("must be above 0",), 2),
    Case("a weight of words", nothing, f"ensemble {RUN}:x -o runs/e", ("the weight after the colon",), 2),
    Case("a margin of no number", nothing, f"ensemble {RUN} -o runs/e thresholds.margin=nan", ("margin=nan",), 2),
    Case("a file and runs", put("e.yaml", ""), f"ensemble e.yaml {RUN} -o runs/e", ("give one YAML file or",), 2),
    Case("no such file", nothing, ENSEMBLE, ("e.yaml: cannot be read as an ensemble",)),
    ensemble("an empty ensemble", "", "e.yaml"),
    ensemble("an ensemble of nobody", "members: []", "e.yaml", "members: at least one run"),
    ensemble("a key of none", f"members: [{{run: {RUN}, wight: 2}}]", "e.yaml: members.0.wight"),
    ensemble("a mean of its own", f"mean: best\nmembers: [{{run: {RUN}}}]", "e.yaml: mean"),
    ensemble("an impossible date", "members: 2026-13-45", "e.yaml: members: Input should be"),
    ensemble("a number of letters", "members: !!int abc", "e.yaml: cannot be read as an ensemble"),
    ensemble("a deep ensemble", "members: " + "[" * 9000, "nested more than 50 levels"),
    member("a weight below nothing", ", weight: -1", "must be above 0"),
    member("a weight of no number", ", weight: .nan", "weight=nan"),
    member("no folds", ", folds: []", "folds=[]", "leave it out for all"),
    member("a fold of none", ", folds: [9]", f"{RUN}: fold 9 is not finished (finished: 0, 1)"),
    member("a class of none", ", classes: [Ulnar]", "did you mean 'Ulna'"),
    member("an epoch of none", ", epochs: [9]", "epoch-9.safetensors"),
    member("a setting of training", ", overrides: ['optimizer.lr=1']", "'optimizer.lr' cannot be changed", code=2),
    Case("no member", put("e.yaml", "members: [{run: runs/dem}]"), ENSEMBLE, ("runs/dem: no such folder; did you",)),
    weights("no weights", "", "cannot be read as safetensors", "put back a copy"),
    weights("weights of text", "hello, these are weights", "cannot be read as safetensors"),
    weights("a header beyond the file", (1 << 62).to_bytes(8, "little") + b"{}", "cannot be read as safetensors"),
    weights("a deep header", safetensors(b"[" * 100_000), "cannot be read as safetensors"),
    weights("tensors beyond the file", safetensors({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [
        0, 4 * 10**12]}}), "cannot be read as safetensors"),
    weights("facts of no JSON", safetensors({"__metadata__": {"bonepipe": "{"}}), "cannot be read as safetensors"),
    weights("other facts", safetensors({"__metadata__": {"bonepipe": '{"fold": "x"}'}}), "fold: Input should be"),
    weights("facts of another sum", safetensors({"__metadata__": {"bonepipe": json.dumps(
        {"fold": 1, "crc32": {"facts": 1, "tensors": 2}})}}), "its facts are not as they were written"),
    Case("no weights at all", nothing, partial(read_weights, Path("no.safetensors")), ("no.safetensors", "cannot be")),
    checkpoint("an empty checkpoint", "", "is no checkpoint, or damaged"),
    checkpoint("a checkpoint of text", "hello", "is no checkpoint, or damaged"),
    checkpoint("an archive of none", archive(data="hello"), "holds no state of a training, or objects"),
    checkpoint("a stranger's object", lambda: archive(data=pickle.dumps(Payload())), "holds no state of a training"),
    checkpoint("half a checkpoint", lambda: saved({"epoch": 1})()[:400], "is no checkpoint, or damaged"),
    checkpoint("a checkpoint of little", saved({"epoch": 1}), "holds no state of a training"),
    checkpoint("a checkpoint of a list", saved([1, 2]), "holds no state of a training"),
    *(Case(title, *histograms(**changes), (f"{FOLD}/histograms.npz", "cannot be read", "train this fold again"))
      for title, changes in {
          "no classes in the histograms": {"classes": None},
          "no counts in the histograms": {"counts": None},
          "objects in the histograms": {"names": [{"a": 1}]},
      }.items()),
    Case("other classes", *histograms(classes=["a", "b"]), ("histograms.npz: was written for other classes (a, b)",)),
]  # fmt: skip
