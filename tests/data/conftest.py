import pytest
import yaml

from bonepipe.config import conf_dir
from bonepipe.data.catalog import train_images
from bonepipe.data.spec import DataSpec
from bonepipe.data.store import open_store


@pytest.fixture(scope="session")
def chest(chest_root, tmp_path_factory):
    """The chests, whose classes swap when mirrored: the recipe's hardest case for loader processes."""
    node = yaml.safe_load((conf_dir() / "data/chest.yaml").read_text())
    swaps = {axis: [tuple(pair) for pair in pairs] for axis, pairs in node["swaps"].items()}
    spec = DataSpec(name="chest", root=str(chest_root), classes=tuple(node["classes"]), size=(48, 64), swaps=swaps)
    return spec, open_store(train_images(spec), spec, tmp_path_factory.mktemp("store"))
