"""Digests of contents: what is asked for is what lies there, however old its times pretend to be."""

import hashlib
import json
import os
import time

import pytest

from bonepipe import digests
from bonepipe.digests import LENGTH, combined, digest
from bonepipe.errors import BonepipeError


def write(path, text):
    """A file that was written long ago, as far as the cache can tell."""
    path.write_text(text)
    return path


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once."""
    monkeypatch.setattr(digests, "UNSETTLED", -1)


@pytest.fixture
def hashed(monkeypatch):
    """The names of all files whose content is read."""
    names = []
    monkeypatch.setattr(digests, "digest", lambda path: names.append(path.name) or digest(path))
    return names


def test_a_digest_is_that_of_the_content(tmp_path):
    path = write(tmp_path / "a", "hand")
    assert digest(path) == hashlib.sha256(b"hand").hexdigest()[:LENGTH]
    assert digests.digests([path], tmp_path / "cache") == [digest(path)]


def test_what_is_known_is_not_read_again(tmp_path, settled, hashed):
    paths = [write(tmp_path / name, name) for name in "abc"]
    first = digests.digests(paths, tmp_path / "deep" / "cache.json")
    assert sorted(hashed) == ["a", "b", "c"]
    assert digests.digests(paths, tmp_path / "deep" / "cache.json") == first
    assert len(hashed) == 3
    write(paths[1], "B")
    assert digests.digests(paths, tmp_path / "deep" / "cache.json") == [first[0], digest(paths[1]), first[2]]
    assert hashed[3:] == ["b"]


def test_another_content_of_the_same_size_and_time_is_noticed(tmp_path, settled):
    """As `rsync -t`, `cp -p` and `unzip -o` leave it."""
    path, cache = write(tmp_path / "a", "Radius Ulna"), tmp_path / "cache"
    before, state = digests.digests([path], cache), path.stat()
    path.write_text("Ulna Radius")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_mtime_ns == state.st_mtime_ns and path.stat().st_size == state.st_size
    assert digests.digests([path], cache) != before


def test_a_file_that_was_changed_just_now_is_not_cached(tmp_path, hashed):
    path, cache = write(tmp_path / "a", "x"), tmp_path / "cache"
    for _ in range(2):
        digests.digests([path], cache)
    assert hashed == ["a", "a"]
    assert not cache.exists()
    assert time.time_ns() - path.stat().st_ctime_ns < digests.UNSETTLED


def test_a_broken_cache_or_one_that_cannot_be_written_costs_only_time(tmp_path, settled):
    path, cache = write(tmp_path / "a", "x"), write(tmp_path / "cache", "{")
    assert digests.digests([path], cache) == [digest(path)]
    assert json.loads(cache.read_text())
    assert digests.digests([path], path / "below" / "a" / "file") == [digest(path)]


@pytest.mark.parametrize("change", [str, str.upper])
def test_a_cache_that_is_not_as_it_was_written_is_not_believed(tmp_path, settled, change):
    """Else a file would pass for changed, and a trained fold be refused."""
    path, cache = write(tmp_path / "a", "hand"), tmp_path / "cache"
    right = digests.digests([path], cache)
    cache.write_text(change(cache.read_text()).replace(right[0], right[0][::-1]))
    assert digests.digests([path], cache) == right


@pytest.mark.parametrize("content", ["[]", '{"a": 5}', '{"digest": "x", "files": {"a": 5}}', "[" * 100_000])
def test_a_cache_of_another_form_costs_only_time(tmp_path, settled, content):
    path, cache = write(tmp_path / "a", "hand"), write(tmp_path / "cache", content)
    assert digests.digests([path], cache) == [digest(path)]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(BonepipeError, match="gone: cannot be read"):
        digests.digests([tmp_path / "gone"], tmp_path / "cache")
    with pytest.raises(BonepipeError, match="cannot be read"):
        digest(tmp_path)


def test_values_have_one_digest_whatever_their_order():
    assert combined({"a": 1, "b": [2, "Ö"]}) == combined({"b": [2, "Ö"], "a": 1})
    assert combined({"a": 1}) != combined({"a": 2})
    assert len(combined([])) == LENGTH
