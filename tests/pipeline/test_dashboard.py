import json
import sys

import pytest

from bonepipe import config as configs
from bonepipe.cli import main


@pytest.fixture
def run(tmp_path):
    """A folder with settings alone."""
    folder = tmp_path / "runs" / "demo" / "fold-0"
    folder.mkdir(parents=True)
    config = configs.compose(["experiment=demo", "tracking.project=bones"], checked=False)
    configs.save(config, folder / "config.yaml")
    return folder.parent


def test_a_view_of_the_group_is_saved(run, wandb_server, capsys):
    assert main(["dashboard", str(run)]) == 0
    assert capsys.readouterr().out.startswith(f"{wandb_server.url}/team/bones?nw=")
    (view,) = wandb_server.views
    assert (view["entityName"], view["projectName"], view["displayName"]) == ("team", "bones", "demo")
    spec = json.loads(view["spec"])
    sections = {part["name"]: part["panels"] for part in spec["section"]["panelBankConfig"]["sections"]}
    assert list(sections)[:5] == ["Scores", "Folds", "Classes", "Thresholds", "Overlays"]
    (dice,) = [panel["config"] for panel in sections["Folds"] if panel["config"].get("metrics") == ["val/dice"]][:1]
    assert (dice["xAxis"], dice["groupBy"]) == ("epoch", "group")
    assert sections["Scores"][0]["config"]["metrics"] == ["cv/dice_mean"]
    assert sections["Overlays"][0]["config"]["mediaKeys"][:2] == ["examples/worst", "examples/worst close-up"]
    assert '"group"' in json.dumps(spec["section"]["runSets"])


def test_without_a_key_or_the_package_it_explains_itself(run, wandb_server, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_API_KEY")
    assert main(["dashboard", str(run)]) == 1
    assert "`wandb login` or the variable WANDB_API_KEY" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert main(["dashboard", str(run)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("wandb-workspaces is not installed; `pip install 'bonepipe[dashboard]'`")


def test_the_view_is_saved_where_wandbs_variables_send_the_runs(tmp_path, wandb_server, monkeypatch):
    folder = tmp_path / "runs" / "demo" / "fold-0"
    folder.mkdir(parents=True)
    configs.save(configs.compose(["experiment=demo"], checked=False), folder / "config.yaml")
    monkeypatch.setenv("WANDB_PROJECT", "hands")
    monkeypatch.setenv("WANDB_ENTITY", "radiology")
    assert main(["dashboard", str(folder.parent)]) == 0
    (view,) = wandb_server.views
    assert (view["entityName"], view["projectName"]) == ("radiology", "hands")
