import os

import pytest

from bonepipe import plain_yaml
from bonepipe.errors import BonepipeError
from bonepipe.inference.ensemble import members

BAD = {
    "a: [": "while parsing",
    "a: !!int abc": "has the tag 'tag:yaml.org,2002:int'",
    "a: !!int ''": "has the tag",
    "a: !!bool x": "has the tag",
    "a: !!timestamp x": "has the tag",
    "a: !!set {b}": "has the tag",
    "a: !x b": "has the tag '!x'",
    "a: !!python/object/apply:os.system [true]": "has the tag 'tag:yaml.org,2002:python/object/apply:os.system'",
    "a: &x [*x]": "refers to itself by *x",
    "a: &x [1]\nb: [*x, *x]": "refers to itself by *x",
    "[" * 10**6: "nested more than 50 levels",
    "[" * 10**6 + "]" * 10**6: "nested more than 50 levels",
    "- " * 10**6: "nested more than 50 levels",
    "a: " + "x" * (4 << 20): "more than 4 MiB",
}


@pytest.mark.parametrize(("text", "reason"), BAD.items(), ids=range(len(BAD)))
def test_what_is_no_plain_yaml_is_one_reason(tmp_path, text, reason):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r".") as caught:
        plain_yaml.load(path)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(BonepipeError, match=r"a\.yaml: cannot be read as an ensemble"):
        members.read(path)


def test_bytes_and_pipes_are_named(tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("bytes", "utf-8"), ("pipe", "is no file")):
        with pytest.raises(ValueError, match=reason):
            plain_yaml.load(tmp_path / name)


def test_values_are_read_as_yaml_has_them(tmp_path):
    text = "a: {b: [1, 2.5, null, x]}\n# remark\nc: 손\nd: [2020-02-03, 2020-13-45, 2020-01-01 10:00:00]\n"
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    dates = ["2020-02-03", "2020-13-45", "2020-01-01 10:00:00"]
    assert plain_yaml.load(tmp_path / "a.yaml") == {"a": {"b": [1, 2.5, None, "x"]}, "c": "손", "d": dates}
