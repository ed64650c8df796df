import pytest

from bonepipe.training.tracking import Tracking
from bonepipe.training.tracking.upload import NOT_SENT, Upload

CONFIG = {
    "name": "wider", "seed": 7, "runs": "here", "folds": {"file": "ours.csv", "count": 5},
    "augment": {"file": None, "transforms": [{"name": "Affine"}]}, "executor": {"address": "gpu-17"},
    "model": {"_target_": "bonepipe.models.factory.smp", "encoder": "resnet18"},
    "data": {
        "root": "/home/somebody/hands", "size": 512, "classes": ["Left/Right", "Ulna"], "negatives": ["ID040"],
        "external": [{"root": "more", "prefix": "clinic"}], "corrections": None, "patient": "^(ID040)/", "new": "x",
    },
    "members": [{"run": "/home/somebody/runs/a", "overrides": ["data.negatives=[ID040]", "tta=none"], "weight": 2.0}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("choice", "synthetic", "level"),
    [
        ("auto", True, Upload.ALL), ("auto", False, Upload.NUMBERS), ("numbers", True, Upload.NUMBERS),
        ("pictures", False, Upload.PICTURES), ("all", False, Upload.ALL),
    ],
)  # fmt: skip
def test_by_default_only_synthetic_data_is_sent_whole(choice, synthetic, level):
    assert Upload.chosen(choice, synthetic=synthetic) is level


@pytest.mark.parametrize("upload", [Upload.NUMBERS, Upload.PICTURES])
def test_settings_go_without_places_images_and_patients(upload):
    sent = upload.config(CONFIG)
    assert sent["data"] == {
        "root": NOT_SENT, "size": 512, "classes": ["Left/Right", "Ulna"], "negatives": NOT_SENT, "external": NOT_SENT,
        "corrections": None, "patient": NOT_SENT, "new": NOT_SENT,
    }  # fmt: skip
    assert sent["members"] == [{"run": NOT_SENT, "overrides": [NOT_SENT, "tta=none"], "weight": 2.0}]
    assert (sent["runs"], sent["folds"]) == (NOT_SENT, {"file": NOT_SENT, "count": 5})
    assert (sent["augment"], sent["executor"]) == (CONFIG["augment"], {"address": NOT_SENT})
    assert (sent["model"], sent["name"], sent["seed"]) == (CONFIG["model"], "wider", 7)
    assert Upload.ALL.config(CONFIG) == CONFIG


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="upload='picture' is not auto, numbers, pictures or all"):
        Tracking(upload="picture")
