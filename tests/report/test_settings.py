import pytest
import yaml

from bonepipe.config import GROUPS, PLAIN_KEYS, conf_dir
from bonepipe.report.settings import describe


@pytest.mark.parametrize("key", [*PLAIN_KEYS, *GROUPS])
def test_every_key_of_the_default_settings_has_its_meaning_beside_it(key):
    rows = describe(key)
    assert rows
    assert all(row.meaning for row in rows), [row.name for row in rows if not row.meaning]


def test_what_is_described_is_what_the_files_say():
    root = yaml.safe_load((conf_dir() / "config.yaml").read_text())
    options = {
        group: option for entry in root["defaults"] if isinstance(entry, dict) for group, option in entry.items()
    }
    for group in GROUPS:
        content = yaml.safe_load((conf_dir() / group / f"{options[group]}.yaml").read_text())
        first, *rows = describe(group)
        assert (first.name, first.value) == (group, options[group])
        assert [row.name for row in rows] == [f"{group}.{key}" for key in content if key != "_target_"]
        for row in rows:
            value = content[row.name.partition(".")[2]]
            if isinstance(value, int | float | str) or value is None:
                assert yaml.safe_load(row.value) == value
