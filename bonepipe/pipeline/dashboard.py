"""A saved view of a run's group on Weights & Biases, in sections, built with W&B's client library."""

import os
from pathlib import Path
from typing import Any

from bonepipe import config as configs
from bonepipe.errors import BonepipeError
from bonepipe.pipeline.run_folder import recorded_config
from bonepipe.pipeline.sync import check_login
from bonepipe.training.tracking import Tracking

SCORES = ("cv/dice_mean", "cv/dice_std", "cv/dice_at_half_mean", "cv/dice_at_half_std", "cv/miou_mean", "test_dice")
CURVES = ("val/dice", "train/loss", "lr", "time/images_per_second")
CHOSEN = ("chosen/dice", "best/dice", "average/dice")
COSTS = ("cost/training_s", "cost/inference_ms", "cost/peak_memory_gib", "cost/parameters", "cost/gflops")
TABLES = {"folds": "folds/table", "classes": "classes/table", "classes of a fold": "classes/dice"}
PICTURES = {"classes": ("classes/heat map",), "thresholds": ("thresholds/per class",)}
OVERLAYS = [f"examples/{title}{part}" for title in ("worst", "median", "best") for part in ("", " close-up")]


def save(run: Path) -> str:
    """Save the view and return its link.

    Args:
        run: folder of a run, an ensemble or a cascade.

    Raises:
        BonepipeError: the package is not installed, there is no login, or W&B does not take the view.
    """
    try:
        import wandb_workspaces.workspaces  # noqa: F401
    except ImportError as error:
        raise BonepipeError("wandb-workspaces is not installed; `pip install 'bonepipe[dashboard]'`") from error
    import wandb

    config = recorded_config(run)
    check_login()
    try:
        tracking: Tracking = configs.build(config, "tracking")
        entity = tracking.entity or os.environ.get("WANDB_ENTITY") or wandb.Api(timeout=10).default_entity
        view = workspace(config["name"], str(entity), tracking.chosen_project())
        return str(view.save().url)
    except Exception as error:  # of any kind: no network, a refused key, no right to the project
        raise BonepipeError(f"{run}: W&B does not take the view ({' '.join(str(error).split())[:300]})") from error


def workspace(group: str, entity: str, project: str) -> Any:
    """The view of a group's runs: `wandb_workspaces.workspaces.Workspace`, not saved yet."""
    import wandb_workspaces.reports.v2 as reports
    from wandb_workspaces import workspaces

    def section(name: str, panels: list[Any]) -> Any:
        return workspaces.Section(name=name, panels=panels, is_open=True)

    bars = [reports.BarPlot(title=key, metrics=[key]) for key in SCORES]
    curves = [
        reports.LinePlot(title=key, x="epoch", y=[key], groupby=reports.Metric("Group"), groupby_rangefunc="minmax")
        for key in CURVES
    ]
    tables = {title: reports.WeavePanelSummaryTable(table_name=key) for title, key in TABLES.items()}
    media = {title: reports.MediaBrowser(title=title, media_keys=[*keys]) for title, keys in PICTURES.items()}
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=group,
        sections=[
            section("Scores", [*bars, tables["folds"]]),
            section("Folds", [*curves, *(reports.BarPlot(title=key, metrics=[key]) for key in CHOSEN)]),
            section("Classes", [media["classes"], tables["classes"], tables["classes of a fold"]]),
            section("Thresholds", [media["thresholds"]]),
            section("Overlays", [reports.MediaBrowser(title="worst, median, best", media_keys=[*OVERLAYS])]),
            section("Costs", [reports.BarPlot(title=key, metrics=[key]) for key in COSTS]),
        ],
        runset_settings=workspaces.RunsetSettings(filters=f"Group = {group!r}"),
    )
