import json
import os
import re
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from bonepipe.cli import main
from bonepipe.data.image import read_grey

TRAIN, LABELS = "train/DCM", "train/outputs_json"


@pytest.fixture
def root(chest_root, tmp_path, monkeypatch):
    """A copy of the chests that may be damaged."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(chest_root, tmp_path / "data")


@pytest.fixture
def doctor(root, capsys):
    """Run the command; gives the exit code, the findings by `severity: topic`, and the verdict."""

    def run(*overrides):
        code = main(["doctor", "data=chest", "~experiment", f"data.root={root}", "data.size=64", "--all", *overrides])
        blocks = capsys.readouterr().out.rstrip().split("\n\n")
        found = {}
        for block in blocks[:-1]:
            head, *lines = block.splitlines()
            topic, count = re.fullmatch(r"(.*) \((\d+)\)", head).groups()
            assert int(count) == len(lines)
            found[topic] = [line.strip() for line in lines]
        return code, found, blocks[-1]

    return run


def edit(path, change):
    content = json.loads(path.read_text())
    change(content["annotations"])
    path.write_text(json.dumps(content))


REPEATED = "warning: label repeated"  # the chests' opacities, on purpose


def test_a_sound_dataset(doctor, root):
    code, found, verdict = doctor()
    assert code == 0
    assert list(found) == [REPEATED]
    assert len(found[REPEATED]) == 12
    assert "Ground Glass Opacities occurs 2 times" in found[REPEATED][0]
    assert verdict == f"{root}: 0 errors, 12 warnings: ready for training"


def test_of_many_problems_of_a_kind_the_first_are_listed(root, capsys):
    words = ["doctor", "data=chest", "~experiment", f"data.root={root}", "data.size=64"]
    for path in sorted((root / LABELS).rglob("*.json")):
        edit(path, lambda rows: [row.update(label="Lung") for row in rows])
    assert main(words) == 1
    few = capsys.readouterr().out
    assert "error: bad annotation (72)" in few
    assert few.count("unknown class 'Lung'") == 20
    assert "  ... and 52 more, which --all lists\n" in few
    assert main([*words, "--all"]) == 1
    assert capsys.readouterr().out.count("unknown class 'Lung'") == 72


def test_the_phantom_is_sound(phantom_root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "~experiment", f"data.root={phantom_root}", "data.size=224"]) == 0
    assert capsys.readouterr().out.strip() == f"{phantom_root}: 0 errors, 0 warnings: ready for training"


def test_no_dataset(doctor, root):
    shutil.rmtree(root)
    code, found, verdict = doctor()
    assert code == 1
    assert found["error: no dataset"][0].startswith(f"{root}: data.root: no such folder")
    assert verdict.endswith("1 error, 0 warnings: training or the submission would fail")


def test_empty_parts(doctor, root):
    shutil.rmtree(root / "test")
    assert doctor()[0] == 0
    assert doctor()[1]["warning: no test images"] == [f"{root}/test/DCM: no test images, expected <patient>/*.png"]
    shutil.rmtree(root / "train")
    code, found, _ = doctor()
    assert code == 1
    assert found["error: no train images"] == [f"{root}/{TRAIN}: no train images, expected <patient>/*.png"]


def test_images_that_cannot_be_read(doctor, root):
    for number, content in (("case00/scan000", b""), ("case01/scan002", b"text")):
        (root / TRAIN / f"{number}.png").write_bytes(content)
    test = root / "test/DCM/case06/scan012.png"
    test.write_bytes(test.read_bytes()[:-5])
    code, found, _ = doctor()
    assert code == 1
    lines = found["error: unreadable image"]
    assert [line.split(": ")[0] for line in lines] == [
        f"{root}/{TRAIN}/case00/scan000.png",
        f"{root}/{TRAIN}/case01/scan002.png",
        str(test),
    ]
    assert "truncated PNG" in lines[2]


def test_annotations_with_faults(doctor, root):
    """Every fault of every file is listed, not only the first."""
    paths = [root / LABELS / f"case0{i // 2}/scan00{i}.json" for i in range(3)]
    paths[0].write_text("{")
    edit(paths[1], lambda entries: (entries[0].update(label="Left Long"), entries[2].update(points=[[1]])))
    edit(paths[2], lambda entries: entries.append(7))
    code, found, _ = doctor()
    assert code == 1
    assert found["error: unreadable annotation"][0].startswith(f"{paths[0]}: broken JSON")
    assert [line.split(": expected")[0].split("; did")[0] for line in found["error: bad annotation"]] == [
        f"{paths[1]}: annotations[0].label: unknown class 'Left Long'",
        f"{paths[1]}: annotations[2].points",
        f"{paths[2]}: annotations[6]: is not an object",
    ]


def test_annotations_worth_a_look(doctor, root):
    path = root / LABELS / "case00/scan000.json"  # 120 pixels wide, 96 high
    shape = {"label": "Airways", "points": [[119, 95], [120, 95], [119, 96], [-1, 0], [0, 0]]}
    edit(path, lambda entries: entries.__setitem__(slice(None), [shape, {"label": "Left Lung", "points": [[3, 3]]}]))
    code, found, _ = doctor()
    assert code == 0
    assert found["warning: class missing"] == [
        f"{path}: annotations: {name} is missing"
        for name in ("Right Lung", "Cardiomediastinum", "Ground Glass Opacities")
    ]
    assert found["warning: points outside the image"] == [
        f"{path}: Airways: 3 of 5 points lie outside the image of 120 x 96 pixels"
    ]
    assert found["warning: outline without area"] == [f"{path}: Left Lung: an outline of 1 points has no area"]


def test_outlines_that_are_open_and_those_that_only_end_at_the_border(doctor, root):
    path = root / LABELS / "case00/scan000.json"  # 120 pixels wide, 96 high
    turn = np.linspace(0, np.pi, 30)
    arch = np.rint(60 + 30 * np.stack([np.cos(turn), np.sin(turn)], axis=1)).astype(int)
    border = np.stack([60 + 30 * np.cos(turn), 95 - 60 * np.sin(turn)], axis=1).round().astype(int)
    edit(path, lambda entries: (entries[0].update(points=arch.tolist()), entries[1].update(points=border.tolist())))
    code, found, _ = doctor()
    assert code == 0
    assert found["warning: open outline"] == [
        f"{path}: Left Lung: the outline is open: its ends are 60 pixels apart and are joined by a straight line"
    ]


def test_outlines_in_other_units(doctor, root):
    """Fractions, percent of a larger image, a box, a line and numbers as text."""
    path, percent = root / LABELS / "case00/scan000.json", root / LABELS / "case03/scan007.json"

    def damage(entries):
        entries[0]["points"] = [[x / 120, y / 96] for x, y in entries[0]["points"]]
        entries[1]["points"] = [[20, 30], [70, 80]]
        entries[2].update(type="bbox", points=[[20, 30], [70, 80]])
        entries[3]["points"] = [[str(x), str(y)] for x, y in entries[3]["points"]]
        entries[4]["points"] = [[x > 60, y > 40] for x, y in entries[4]["points"]]

    edit(path, damage)
    edit(percent, lambda entries: [e.update(points=[[0.4 * x, 0.4 * y] for x, y in e["points"]]) for e in entries])
    code, found, _ = doctor()
    assert code == 1
    assert [line.removeprefix(f"{path}: ")[:45] for line in found["error: bad annotation"]] == [
        "annotations[0].points: lie within 0 and 1: fr",
        "annotations[1].points: two points are a line ",
        "annotations[2].type: 'bbox' is not filled; re",
        "annotations[3].points: expected a list of [x,",
        "annotations[4].points: expected a list of [x,",
    ]
    (line,) = found["warning: outlines in the top left quarter"]
    assert line.startswith(f"{percent}: annotations: all outlines end at x = ")


def test_files_without_partner(doctor, root):
    (root / LABELS / "case00/scan000.json").unlink()
    (root / TRAIN / "case01/scan003.png").unlink()
    code, found, _ = doctor()
    assert code == 1
    image, annotation = root / TRAIN / "case00/scan000.png", root / LABELS / "case00/scan000.json"
    assert found["error: image without annotation"] == [f"{image}: no annotation, expected {annotation}"]
    assert found["warning: annotation without image"] == [
        f"{root / LABELS / 'case01/scan003.json'}: no image belongs to it"
    ]


def test_names_duplicates_and_patients(doctor, root):
    first, copy = root / TRAIN / "case00/scan000.png", root / "test/DCM/case00/scan000.png"
    copy.parent.mkdir()
    shutil.copy(first, copy)
    code, found, _ = doctor()
    assert code == 1
    assert found["error: file name used twice"] == [f"{copy}: has the same file name as {first}"]
    assert found["warning: duplicate image"] == [f"{copy}: has the same pixels as {first}, a train image"]
    assert found["warning: patient in train and test"] == [
        f"{copy.parent}: patient case00 also has train images ({first.parent})"
    ]


def test_odd_images(doctor, root):
    for number, path in enumerate([*sorted((root / TRAIN).rglob("*.png")), *(root / "test").rglob("*.png")]):
        shape = {0: (90, 90), 1: (20, 100)}.get(number, (100, 100))
        cv2.imwrite(str(path), np.random.default_rng(number).integers(0, 256, shape).astype(np.uint8))
    (root / "answer.csv").unlink(missing_ok=True)  # of test images of another size
    for number in range(20):
        shutil.copy(path, root / "test/DCM/case06" / f"more{number}.png")
    cv2.imwrite(str(root / "test/DCM/case06/more0.png"), np.full((100, 100), 9, np.uint8))
    (root / "test/DCM/case06/photo.JPG").write_bytes(b"x")
    code, found, _ = doctor()
    assert code == 0
    first, second = root / TRAIN / "case00/scan000.png", root / TRAIN / "case00/scan001.png"
    assert found["warning: unusual size"] == [
        f"{first}: 90 x 90 pixels, while 34 of 36 images have 100 x 100",
        f"{second}: 100 x 20 pixels, while 34 of 36 images have 100 x 100",
    ]
    assert found["warning: unusual aspect"] == [f"{second}: 100 x 20 pixels: is it cut off?"]
    assert found["warning: blank image"] == [f"{root}/test/DCM/case06/more0.png: every pixel is 9"]
    assert found["warning: image with another suffix"] == [
        f"{root}/test/DCM/case06/photo.JPG: is passed over: only *.png is read; data.images names what else shall be"
    ]
    assert "warning: images smaller than the training size" not in found
    _, found, _ = doctor("data.fit=stretch")
    assert found["warning: images smaller than the training size"] == [
        f"{root}: data.size: 1 of 36 images are smaller than data.size=64"
    ]
    assert len(found["warning: duplicate image"]) == 19


def test_images_of_another_aspect_than_what_is_trained_on(doctor, root):
    """Training images of aspects from 0.76 to 1.36; half of the test images padded to 1:4."""
    tests = sorted((root / "test").rglob("*.png"))
    for path in tests[:2]:
        cv2.imwrite(str(path), np.pad(np.full((60, 60), 99, np.uint8), ((0, 0), (90, 90))))
    code, found, _ = doctor()
    assert code == 0
    (line,) = found["warning: another aspect than in training"]
    assert line.startswith(
        f"{root}/test/DCM: 2 of 4 images have another aspect (height / width 0.25 to 0.25; {tests[0]}"
    )
    assert "than those trained on (0.76 to 1.36): they are padded" in line
    assert "they are squeezed" in doctor("data.fit=stretch")[1]["warning: another aspect than in training"][0]
    topic = "warning: training size of another aspect than the images"
    assert topic not in found
    (line,) = doctor("data.size=[64,160]")[1][topic]
    why = "64 x 160 stays 56% black, as height / width of the images is 0.90"
    assert line == f"{root}: data.size: {why}; try [64, 72]"


def test_metadata(doctor, root):
    pd.DataFrame({"ID": [1, 99]}).to_excel(root / "meta.xlsx", index=False)
    (root / TRAIN / "case00").rename(root / TRAIN / "ID001")
    (root / LABELS / "case00").rename(root / LABELS / "ID001")
    code, found, _ = doctor("data.metadata=meta.xlsx")
    assert code == 0
    assert found["warning: metadata without images"] == [f"{root}/meta.xlsx: ID: ID099 has no images"]
    assert [line.split()[2] for line in found["warning: images without metadata"]] == [f"case0{i}" for i in range(1, 8)]
    assert doctor("data.metadata=none.xlsx")[1]["warning: no metadata"][0].startswith(
        f"{root}/none.xlsx: data.metadata"
    )
    (root / "meta.xlsx").write_text("x")
    code, found, _ = doctor("data.metadata=meta.xlsx")
    assert code == 1
    assert found["error: unreadable metadata"][0].startswith(f"{root}/meta.xlsx: cannot be read as a spreadsheet")


def test_the_fold_file(doctor, root, tmp_path, capsys):
    path = tmp_path / "folds.csv"
    assert main(["split", "data=chest", "~experiment", f"data.root={root}", f"folds.file={path}"]) == 0
    capsys.readouterr()
    lines = path.read_text().splitlines()
    leak = f"{lines[1][:-1]}{(int(lines[1][-1]) + 1) % 5}"
    path.write_text("\n".join([lines[0], leak, *lines[2:5], *lines[6:], "odd.png,case01,0"]) + "\n")
    code, found, _ = doctor(f"folds.file={path}")
    assert code == 1
    messages = found["error: fold file"]
    assert all(message.startswith(f"{path}: column ") for message in messages)
    for part in ("scan004.png is missing", "odd.png is not in the dataset", "patient case00 leaks"):
        assert sum(part in message for message in messages) == 1
    path.write_bytes(b"\xff\xff")
    assert "cannot be read" in doctor(f"folds.file={path}")[1]["error: fold file"][0]


def test_too_few_patients_and_unknown_patients(doctor, root):
    code, found, _ = doctor("folds.count=7")
    assert code == 1
    assert found["error: fold file"][0].endswith("folds.count=7: only 6 patients to split")
    code, found, _ = doctor("folds=holdout", "data.patient='(case)'")
    assert code == 1
    assert found["error: fold file"][0].endswith("folds.count=1: only 1 patients to split")
    code, found, _ = doctor("data.patient='^(scan)'")
    assert code == 1
    assert len(found["error: unknown patient"]) == 16


@pytest.mark.parametrize("seed", range(4))
def test_no_damage_crashes_it(doctor, root, seed):
    """Every file is cut, overwritten or emptied at random."""
    rng = np.random.default_rng(seed)
    (root / "rotated.csv").write_text("patient\ncase00\n")
    pd.DataFrame({"ID": [1, 99]}).to_excel(root / "meta.xlsx", index=False)
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        data = bytearray(path.read_bytes())
        start, length = rng.integers(len(data)), rng.integers(1, 40)
        data[start : start + length] = rng.bytes(length)
        path.write_bytes(data[: rng.integers(len(data))] if rng.random() < 0.3 else data)
    code, found, verdict = doctor("data.metadata=meta.xlsx")
    assert code == 1
    assert f"{sum(len(v) for k, v in found.items() if k.startswith('error'))} errors" in verdict
    assert doctor("data.metadata=meta.xlsx") == (code, found, verdict)


def rewrite(path, change, source=None):
    """Write an image's changed pixels, of another image where one is given, into its file."""
    assert cv2.imwrite(str(path), change(read_grey(source or path)))


def test_the_same_picture_in_other_bytes_is_found(doctor, root):
    train = [root / TRAIN / f"case0{number // 2}/scan00{number}.png" for number in range(10)]
    test = root / "test/DCM/case06/scan012.png"
    rewrite(train[4], lambda grey: np.dstack([grey] * 3), train[0])
    rewrite(train[6], lambda grey: cv2.resize(grey, (100, 90)), train[1])
    rewrite(test, lambda grey: np.clip(grey * 1.1 + 5, 0, 255).astype(np.uint8), train[2])
    code, found, _ = doctor()
    assert code == 0
    same, near = found["warning: duplicate image"], found["warning: nearly the same image"]
    assert same == [f"{train[4]}: has the same pixels as {train[0]}, of another patient (case00)"]
    assert near == [
        f"{train[6]}: shows nearly the same picture as {train[1]}, of another patient (case00)",
        f"{test}: shows nearly the same picture as {train[2]}, a train image",
    ]


def test_negatives_are_named_and_turned_back_on_request(doctor, root):
    paths = [root / TRAIN / "case01/scan002.png", root / "test/DCM/case07/scan014.png"]
    for path in paths:
        rewrite(path, lambda grey: 255 - grey)
    code, found, _ = doctor()
    assert code == 0
    assert [line.split(": ")[0] for line in found["warning: negative"]] == [str(path) for path in paths]
    assert "data.negatives=[scan002.png] turns it back" in found["warning: negative"][0]
    assert "warning: unusual exposure" not in found
    assert "warning: negative" not in doctor("data.negatives=[case01/scan002.png,scan014.png]")[1]
    (line,) = doctor("data.negatives=[case01/scan002.png,scan014.png,scan001.png]")[1]["warning: negative"]
    assert "scan001.png: looks like a negative" in line
    assert "has turned it" in line
    code, found, _ = doctor("data.negatives=[scan002.pgn]")
    assert code == 1
    assert "'scan002.pgn' fits no image" in found["error: unused setting"][0]


@pytest.mark.parametrize("gain", [0.3, 2.2])
def test_an_exposure_far_from_the_training_images_is_named(doctor, root, gain):
    for path in root.glob("*/DCM/*/*.png"):
        rewrite(path, lambda grey: (grey * 0.4).astype(np.uint8))
    path = root / "test/DCM/case06/scan013.png"
    rewrite(path, lambda grey: np.clip(grey * gain, 0, 255).astype(np.uint8))
    code, found, _ = doctor()
    assert code == 0
    assert [line.split(": ")[0] for line in found["warning: unusual exposure"]] == [str(path)]
    assert "while half of the train images have " in found["warning: unusual exposure"][0]


@pytest.fixture
def more(chest_root, tmp_path):
    """The same chests once more under other names, as an external dataset."""
    root = tmp_path / "more"
    for path in sorted(path for path in (chest_root / "train").rglob("*") if path.is_file()):
        target = root / path.relative_to(chest_root).with_name(f"more{path.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return root


def test_external_data_is_audited_with_the_dataset(doctor, more):
    words = f"data.external=[{{root: {more}, prefix: more}}]"
    code, found, verdict = doctor(words)
    assert (code, len(found[REPEATED])) == (0, 24)
    assert len(found["warning: duplicate image"]) == 12
    assert "0 errors" in verdict
    bare, broken, clash = sorted((more / LABELS).rglob("*.json"))[:3]
    bare.unlink()
    broken.write_text("{")
    for folder, suffix in ((LABELS, "json"), (TRAIN, "png")):
        path = more / folder / clash.parent.name / f"{clash.stem}.{suffix}"
        path.rename(path.with_name(f"scan015.{suffix}"))
    code, found, _ = doctor(words)
    assert code == 1
    assert str(more) in found["error: image without annotation"][0]
    assert found["error: unreadable annotation"][0].startswith(str(broken))
    assert "scan015.png: has the same file name as" in found["error: file name used twice"][0]


def test_a_class_that_external_data_does_not_annotate_is_not_missed(doctor, more):
    for path in (more / LABELS).rglob("*.json"):
        edit(path, lambda entries: entries.__delitem__(slice(2, None)))  # both lungs are left
    words = f"data.external=[{{root: {more}, prefix: more, classes: [Left Lung, Right Lung]}}]"
    assert "warning: class missing" not in doctor(words)[1]
    missed = doctor(f"data.external=[{{root: {more}, prefix: more}}]")[1]["warning: class missing"]
    assert len(missed) == 12 * 3


def test_external_data_that_is_not_there(doctor, more):
    shutil.rmtree(more / "train")
    _, found, _ = doctor(f"data.external=[{{root: {more}}}, {{root: nowhere, prefix: b}}]")
    assert [line.split(": ")[1:] for line in found["error: no external dataset"]] == [
        ["data.external", "no train images here"], ["data.external", "no such folder"],
    ]  # fmt: skip


@pytest.mark.parametrize(("kind", "code"), [("kfold", 0), ("group", 1)])
def test_only_splits_by_patient_are_audited_for_leaks(doctor, root, kind, code):
    names = [f"scan{number:03d}.png,case{number // 2:02d},{number % 5}" for number in range(12)]
    (root / "folds.csv").write_text("\n".join(["image_name,patient,fold", *names]) + "\n")
    result, found, _ = doctor(f"folds={kind}", f"folds.file={root / 'folds.csv'}")
    assert result == code
    assert ("error: fold file" in found) == bool(code)


def test_tables_that_people_edit(doctor, root):
    """What cannot be right is told once a column, and the values are unknown; unknown patients are named."""
    for folder in (TRAIN, LABELS):
        (root / folder / "case00").rename(root / folder / "ID001")
    (root / "rotated.csv").write_text("ID001\ncase3\n")
    table = {"ID": [1, 2], "나이": ["30", -5], "성별": ["F", "?"], "체중": [60, 70], "키\n(신장)": ["170,5", 1.7]}
    pd.DataFrame(table).to_excel(root / "meta.xlsx", index=False)
    code, found, _ = doctor("data.metadata=meta.xlsx")
    assert code == 0
    assert found["warning: rotated wrist without images"] == [
        f"{root}/rotated.csv: patient: 'case3' has no images; did you mean 'case03'?"
    ]
    assert [line.removeprefix(f"{root}/meta.xlsx: ") for line in found["warning: metadata that is not known"]] == [
        "나이: -5 in row 3: expected a number from 0 to 120; taken as unknown",
        "성별: '?' in row 3: expected F, M, 여 or 남; taken as unknown",
        "체중(몸무게): no such column; the weight stays unknown",
        "키(신장): 1.7 in row 3: expected a number from 30 to 250; taken as unknown",
    ]
    pd.DataFrame({"ID": [1, 1]}).to_excel(root / "meta.xlsx", index=False)
    code, found, _ = doctor("data.metadata=meta.xlsx")
    assert (code, len(found["error: unreadable metadata"])) == (1, 1)


def test_what_is_passed_over(doctor, root):
    """Leftovers of other programs, and a link to a folder above; nothing of them is audited."""
    image, annotation = root / TRAIN / "case00/scan000.png", root / LABELS / "case00/scan000.json"
    copies = [
        (image, root / "test/DCM/case06/.ipynb_checkpoints/scan000.png"),
        (image, root / TRAIN / "case00/._scan000.png"),
        (annotation, root / LABELS / "__MACOSX/scan000.json"),
    ]
    for source, target in copies:
        target.parent.mkdir(exist_ok=True)
        shutil.copy(source, target)
    (root / TRAIN / "case01/all").symlink_to(root)
    code, found, verdict = doctor()
    assert (code, verdict) == (0, f"{root}: 0 errors, 16 warnings: ready for training")
    assert sorted(found["warning: hidden image"]) == sorted([
        *(f"{target}: is passed over: a file manager hides it" for _, target in copies[:2]),
        f"{root / TRAIN}/case01/all: is passed over: a link to a folder above it",
    ])  # fmt: skip
    assert found["warning: hidden annotation"] == [f"{copies[2][1]}: is passed over: a file manager hides it"]


def test_names_that_no_csv_can_hold(doctor, root):
    """Each on one line, in letters that every terminal prints."""
    broken, foreign = root / "test/DCM/case06/a\nb.png", root / TRAIN / os.fsdecode(b"\xbc\xd5/scan.png")
    for path in (broken, foreign):
        path.parent.mkdir(exist_ok=True)
        shutil.copy(root / TRAIN / "case00/scan001.png", path)
    code, found, _ = doctor()
    assert code == 1
    assert found["error: name that no CSV can hold"] == [
        f"{root}/{TRAIN}/\\udcbc\\udcd5/scan.png: its path is not UTF-8 (CP949, perhaps); rename it",
        f"{root}/test/DCM/case06/a\\nb.png: its path holds a line break or another control character; rename it",
    ]


def test_an_image_is_what_its_content_says(doctor, root):
    path = root / "test/DCM/case06/scan012.png"
    path.write_bytes(cv2.imencode(".jpg", cv2.imread(str(path)))[1].tobytes())
    code, found, _ = doctor()
    assert code == 0
    assert found["warning: suffix of another format"] == [
        f"{path}: is no PNG inside; it is read as what it is, but JPEG has lost detail"
    ]


def test_sixteen_bit_images_of_several_depths_are_named(doctor, root):
    """Each is scaled by the bits that it uses: equal greys would look unlike."""
    paths = sorted((root / TRAIN).rglob("*.png"))
    for number, path in enumerate(paths):
        grey = read_grey(path).astype(np.uint16) * (50 if number == 3 else 14)
        cv2.imwrite(str(path), grey if number != 5 else (grey >> 6).astype(np.uint8))
    _, found, _ = doctor()
    (line,) = found["warning: another depth"]
    assert line.startswith(f"{paths[3]}: its greys use 14 of 16 bits, and those of most images 12")
