"""The whole program under locales whose encoding is not UTF-8, in processes of their own."""

import os
import shutil
import subprocess
import sys

import pytest

ROOT = "Dé/손"


@pytest.fixture(scope="module", params=["C", "Latin-1"])
def run(request, tmp_path_factory):
    """Run Python with these words in a new folder under a locale; gives what it prints, as bytes."""
    folder = tmp_path_factory.mktemp("locale")
    unset = ("LANG", "LC_CTYPE", "PYTHONIOENCODING", "PYTHONUTF8")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    environment |= {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "OMP_NUM_THREADS": "1"}
    if request.param == "Latin-1":
        if shutil.which("localedef") is None:
            pytest.skip("no localedef to make a locale with")
        made = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / "latin1")]
        if subprocess.run(made, capture_output=True, check=False).returncode:
            pytest.skip("no definition of the locale en_US here")
        environment |= {"LC_ALL": "latin1", "LOCPATH": str(folder)}

    def run(*words):
        done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, check=False)
        assert b"Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    run.folder = folder
    return run


def test_the_commands_read_and_write_utf8(run):
    """From the phantom to a submission that is checked: names as they are, in files and on standard output."""
    words = [ROOT, "--patients", "2", "--test-patients", "1", "--size", "64", "--workers", "1"]
    code, out, _ = run("-m", "bonepipe", "phantom", *words)
    assert code == 0 and out.decode("utf-8").startswith(f"{ROOT}: 6 images")
    root = run.folder / ROOT
    for part, suffix in (("DCM", "png"), ("outputs_json", "json")):
        path = min((root / "train" / part).rglob(f"*.{suffix}"))
        path.rename(path.with_name(f"é손.{suffix}"))
    image, other = sorted((root / "test").rglob("*.png"))
    image.rename(image.with_name("é손 1.png"))
    head, *rows = [line.rpartition(",")[0] for line in (root / "answer.csv").read_text(encoding="utf-8").splitlines()]
    rows = [row.replace(image.name, "é손 1.png") for name in (other.name, image.name) for row in rows if name in row]
    (run.folder / "sub.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    settings = ["~experiment", f"data.root='{ROOT}'", "data.size=32", "folds.file='폴드.csv'", "folds.count=2"]
    # One process for all, as importing takes longer than they do; each as the console script calls it.
    commands = [["doctor", *settings], ["split", *settings], ["check", "sub.csv", "--data", ROOT]]
    script = (
        f"import sys\nfrom bonepipe.cli import main\nfor words in {commands}:\n    sys.argv[1:] = words\n    main()\n"
    )
    (run.folder / "script.py").write_text(script, encoding="utf-8")
    code, out, _ = run("script.py")
    assert code == 0
    told = out.decode("utf-8").splitlines()
    assert f"{ROOT}: 0 errors, 2 warnings: ready for training" in told
    assert "폴드.csv: written" in told
    assert "é손.png,ID00" in (run.folder / "폴드.csv").read_text(encoding="utf-8")
    assert told[-1] == "ok: sub.csv has 58 rows for 2 images and 29 classes"


def test_a_config_is_read_back_by_the_library(run):
    """Without the command line, which would switch to UTF-8 for the whole process."""
    script = f"""
from pathlib import Path
from bonepipe import config as configs
config = configs.compose(["~experiment", "data.root='{ROOT}'"], checked=False)
configs.save(config, Path("config.yaml"))
assert configs.read(Path("config.yaml")) == config
print(ascii(config["data"]["root"]))
"""
    (run.folder / "script.py").write_text(script, encoding="utf-8")
    assert run("script.py")[:2] == (0, ascii(ROOT).encode() + b"\n")
    assert ROOT in (run.folder / "config.yaml").read_text(encoding="utf-8")
