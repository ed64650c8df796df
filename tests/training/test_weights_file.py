"""Weights files tell whether they are as they were written, and every broken one is named."""

import json
import random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from bonepipe.errors import BonepipeError
from bonepipe.training.weights_file import read_facts, read_weights, save_weights

FACTS = {"classes": ["뼈", "Ulna"], "fold": 3, "seen": {"Scale": [0.9, 1.1]}, "chosen": {"dice": 0.1 + 0.2}}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).to(memory_format=torch.channels_last)


@pytest.fixture
def path(tmp_path):
    save_weights(network(), tmp_path / "weights.safetensors", FACTS)
    return tmp_path / "weights.safetensors"


def flipped(content, places):
    damaged = bytearray(content)
    for place in places:
        damaged[place] ^= 1 << random.Random(place).randrange(8)
    return bytes(damaged)


def test_facts_and_tensors_come_back_and_are_safetensors(path):
    tensors, facts = read_weights(path)
    assert facts == read_facts(path) == FACTS
    with safe_open(path, "pt") as file:
        assert {**json.loads(file.metadata()["bonepipe"]), "crc32": None} == {**FACTS, "crc32": None}
        assert set(file.keys()) == set(tensors) == set(network().state_dict())
    assert all(torch.equal(tensors[key], value) for key, value in network().state_dict().items())
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_equal_weights_are_equal_files(path):
    save_weights(network(), path.with_name("other.safetensors"), FACTS)
    assert path.read_bytes() == path.with_name("other.safetensors").read_bytes()


def test_a_flipped_bit_is_noticed_or_changes_nothing(path):
    """In the two names that facts and checksums are found by, it leaves a file like one of another program."""
    content = path.read_bytes()
    names = [place + n for word in (b"bonepipe", b"crc32") for place in [content.index(word)] for n in range(len(word))]
    whole, noticed = read_weights(path), 0
    for place in sorted(set(range(0, len(content), 2)) - set(names)):
        path.write_bytes(flipped(content, [place]))
        try:
            tensors, facts = read_weights(path)
        except BonepipeError as error:
            assert "weights.safetensors: " in str(error)
            noticed += 1
        else:  # a letter's number in capitals
            assert facts == FACTS and all(torch.equal(tensors[key], value) for key, value in whole[0].items())
    assert noticed > len(content) / 2 - len(names) - 5


def test_four_flipped_bytes_in_the_tensors_are_noticed(path):
    content, draw = path.read_bytes(), random.Random(0)
    length = 8 + int.from_bytes(content[:8], "little")
    for _ in range(24):
        path.write_bytes(flipped(content, [draw.randrange(length, len(content)) for _ in range(4)]))
        with pytest.raises(BonepipeError, match=r"weights\.safetensors: is damaged.*train the fold again"):
            read_weights(path)
        assert read_facts(path) == FACTS


def test_files_without_checksums_are_read_as_before(path):
    """Those of earlier versions and of other programs."""
    tensors, _ = read_weights(path)
    save_file(tensors, path, {"bonepipe": json.dumps(FACTS)})
    assert read_weights(path)[1] == FACTS
    save_file(tensors, path)
    assert read_weights(path)[1] == {}


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ("[1]", "valid dictionary"),
        ("null", "valid dictionary"),
        ("{", "EOF"),
        ("[" * 10_000, "recursion"),
        ('{"classes": "Ulna"}', "classes: "),
        ('{"classes": [1]}', "classes.0: "),
        ('{"seen": ["Scale"]}', "seen: "),
        ('{"seen": {"Scale": ["big"]}}', r"seen\.Scale\.0: "),
        ('{"aspects": [1]}', "aspects: "),
        ('{"chosen": 1}', "chosen: "),
        ('{"chosen": {"dice": "good"}}', r"chosen\.dice: "),
        ('{"usual": []}', "usual: "),
        ('{"crc32": 1}', "crc32: "),
        ('{"crc32": {"facts": 1}}', r"crc32\.tensors: "),
        ('{"crc32": {"facts": 1, "tensors": 1}}', "its facts are not as they were written"),
    ],
)
def test_facts_that_are_none_are_named(path, facts, reason):
    save_file(network().state_dict(), path, {"bonepipe": facts})
    for read in (read_facts, read_weights):
        with pytest.raises(BonepipeError, match=rf"weights\.safetensors: .*{reason}.*; put back a copy, or train"):
            read(path)


def test_weights_in_place_of_a_folder(path):
    path.unlink()
    path.mkdir()
    with pytest.raises(BonepipeError, match=r"weights\.safetensors: cannot be read"):
        read_weights(path)


@pytest.mark.parametrize("name", [b"bonepipe", b"crc32"])
def test_a_flipped_bit_in_the_name_of_the_checksums_does_not_take_them_away(path, name):
    content = path.read_bytes()
    start = content.index(name)
    for place in range(start, start + len(name)):
        path.write_bytes(flipped(content, [place]))
        with pytest.raises(BonepipeError, match=r"weights\.safetensors: cannot be read as safetensors"):
            read_weights(path)


def test_two_names_that_are_flipped_do_not_take_the_checksums_away(path):
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"bonepipe"', b'"bo~epipe"').replace(b"crc32", b"crc12"))
    with pytest.raises(BonepipeError, match="its checksums are not where they were written"):
        read_weights(path)
    path.write_bytes(content.replace(b"crc32", b"crc12").replace(b"facts", b"fa_ts"))
    with pytest.raises(BonepipeError, match="its checksums are not where they were written"):
        read_weights(path)


def test_metadata_of_other_programs_are_not_taken_for_ours(path):
    tensors, _ = read_weights(path)
    save_file(tensors, path, {"format": "pt", "modelspec": json.dumps({"classes": ["cat"], "date": "2020"})})
    assert read_weights(path)[1] == {}


def test_a_header_of_a_million_letters_is_told_in_a_line(path):
    content = path.read_bytes()
    header = b'{"weight": "' + b"9" * 10**6 + b'"}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[-8:])
    with pytest.raises(BonepipeError, match=r"weights\.safetensors: cannot be read") as caught:
        read_weights(path)
    assert len(str(caught.value)) < 700
