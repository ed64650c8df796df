"""What a team sees of an offline run of W&B: `python tests/offline_run.py runs/NAME/wandb/offline-run-*`."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bonepipe.training.tracking.log_format import read_messages


@dataclass
class Seen:
    """A run as the dashboard shows it.

    Attributes:
        name, group, kind, tags, notes: in the table of runs.
        config: key -> value.
        axes: metric -> the metric that it is drawn over.
        aggregates: metric -> the kinds of summary that W&B was asked for.
        history: the rows, in order, `_step` among their keys.
        summary: key -> the last value; nested keys are joined by dots, as in the table of runs.
        media: key -> kind (`table-file`, `image-file`, ...).
        layers: mask of an image (`examples/worst: truth 1`) -> the classes in it.
        charts: key -> what W&B draws of a table.
        artifacts: their names.
    """

    name: str = ""
    group: str = ""
    kind: str = ""
    tags: list = field(default_factory=list)
    notes: str = ""
    config: dict = field(default_factory=dict)
    axes: dict = field(default_factory=dict)
    aggregates: dict = field(default_factory=dict)
    history: list = field(default_factory=list)
    summary: dict = field(default_factory=dict)
    media: dict = field(default_factory=dict)
    layers: dict = field(default_factory=dict)
    charts: dict = field(default_factory=dict)
    artifacts: list = field(default_factory=list)

    def column(self, key):
        """A metric's values, row by row, where it was told."""
        return [row[key] for row in self.history if key in row]

    @property
    def listing(self):
        """Everything in words."""
        about = ", ".join(f"{axis or '-'}: {' '.join(sorted(k))}" for axis, k in sorted(self._by_axis().items()))
        scalars = {k: v for k, v in self.summary.items() if not k.startswith("_") and k.split(".")[0] not in self.media}
        return "\n".join(
            [
                f"{self.name}  [{self.kind} of {self.group}]  tags {', '.join(self.tags)}  notes {self.notes or '-'}",
                f"  config    {len(self.config)} keys, fold {self.config.get('fold', 'not there')}",
                f"  axes      {about}",
                f"  rows      {len(self.history)}, _step {[row['_step'] for row in self.history]}",
                f"  epochs    {self.column('epoch')}",
                f"  images    {self.column('images_seen')}",
                *(f"  summary   {key} = {value}" for key, value in sorted(scalars.items()) if _short(key)),
                *(f"  {kind:10} {key}" for key, kind in sorted(self.media.items()) if kind != "mask"),
                *(f"  layer     {key}: {' '.join(classes)}" for key, classes in sorted(self.layers.items())),
                *(f"  chart     {key}: {what}" for key, what in sorted(self.charts.items())),
                *(f"  artifact  {name}" for name in self.artifacts),
            ]
        )

    def _by_axis(self):
        by_axis = {}
        for metric, axis in self.axes.items():
            by_axis.setdefault(axis, []).append(metric)
        return by_axis


def _short(key):
    """Not the Dice of every class."""
    return not key.startswith(("val/dice/", "oof_dice_per_class", "oof_dice_at_half_per_class", "test_dice_per_class"))


def read_records(folder):
    """The records in the log of an offline run's folder; what is written down so far where the run goes on."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = Path(folder).glob("run-*.wandb")
    return [Record.FromString(message) for _, message in read_messages(path)]


def see(folder):
    """What is in the log of an offline run's folder."""
    seen = Seen()
    for record in read_records(folder):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            seen.name, seen.group, seen.kind = run.display_name, run.run_group, run.job_type
            seen.tags, seen.notes = list(run.tags), run.notes
            _configure(seen, run.config)
        elif kind == "config":
            _configure(seen, record.config)
        elif kind == "metric":
            _define(seen, record.metric)
        elif kind == "history":
            seen.history.append(_items(record.history.item))
        elif kind == "summary":
            _summarise(seen, _items(record.summary.update))
        elif kind == "artifact":
            seen.artifacts.append(record.artifact.name)
    return seen


def _items(items):
    return {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in items}


def _configure(seen, config):
    for item in config.update:
        value = json.loads(item.value_json)
        if item.nested_key[:2] == ["_wandb", "visualize"]:
            seen.charts[item.nested_key[2]] = value["panel_config"]["panelDefId"]
        elif item.key == "_wandb":
            for key, labels in value.get("mask/class_labels", {}).items():
                names = [name for label, name in labels["value"].items() if label != "0"]
                seen.layers[key.replace("_wandb_delimeter_", ": ")] = names
        elif item.key:
            seen.config[item.key] = value


def _define(seen, metric):
    name = metric.name or metric.glob_name
    seen.axes[name] = metric.step_metric
    seen.aggregates[name] = {kind for kind in ("min", "max", "mean", "last") if getattr(metric.summary, kind)}


def _summarise(seen, items):
    for key, value in items.items():
        flat = {f"{key}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {key: value}
        seen.summary |= flat
        if key.endswith("/_type"):
            seen.media[key.removesuffix("/_type")] = value
    for key in [key for key in seen.summary for media in seen.media if key.startswith(f"{media}/")]:
        seen.summary.pop(key, None)  # where a file lies is no value to sort by


if __name__ == "__main__":
    for place in sys.argv[1:]:
        print(see(place).listing, end="\n\n")
