"""The viewer's addresses, and who may ask for what."""

import time

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from bonepipe.data import corrections
from bonepipe.data.submission import stream, write
from bonepipe.report.view.app import application

HERE = "http://127.0.0.1:8321"


@pytest.fixture
def client(viewer):
    return TestClient(application(viewer), base_url=HERE, raise_server_exceptions=False)


def post(client, viewer, body={"rank": 1, "action": "permute"}, **headers):  # noqa: B006 - read only
    given = {"X-Bonepipe-Token": viewer.token, "Origin": HERE, **{k.replace("_", "-"): v for k, v in headers.items()}}
    return client.post("/api/decisions", json=body, headers=given)


def test_the_index_lists_images_classes_and_sources(client, viewer):
    index = client.get("/api/index").json()
    assert index["sources"] == ["demo", "votes"]
    assert len(index["images"]) == len(viewer.gallery.images)
    assert {"name", "patient", "split"} <= index["images"][0].keys()
    assert {image.get("fold") for image in index["images"]} == {0, 1, None}
    assert index["classes"][0]["name"] == "finger-1"
    assert index["classes"][0]["colour"].startswith("rgb(")


def test_dice_that_nobody_noted_is_computed(client, viewer):
    before = client.get("/api/dice").json()
    assert not before["done"]
    assert set(map(bool, before["dice"][1])) == {False}
    viewer.score()
    after = client.get("/api/dice").json()
    assert after["done"]
    image = next(number for number, row in enumerate(after["dice"][1]) if row)
    assert after["dice"][1][image] == pytest.approx(
        after["dice"][0][image], abs=1e-4
    )  # the table holds the run's masks


def test_dice_of_masks_that_are_written_anew_is_computed_again(viewer, client):
    viewer.score()
    image = next(number for number, row in enumerate(client.get("/api/dice").json()["dice"][1]) if row)
    path = viewer.gallery.sources[1].tables[0].path
    write(path, [(row.image, row.label, "") for row in stream(path)])
    asked, deadline = client.get("/api/dice").json(), time.monotonic() + 60
    while not asked["done"] and time.monotonic() < deadline:
        time.sleep(0.05)
        asked = client.get("/api/dice").json()
    assert asked["done"]
    assert set(asked["dice"][1][image]) <= {0.0, 1.0}


def test_a_picture_is_of_the_size_that_is_asked_for_and_tiles_are_its_own_pixels(client, viewer):
    answer = client.get("/image/0/128")
    assert answer.headers["content-type"] == "image/jpeg"
    assert max(cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED).shape) == 128
    tile = cv2.imdecode(np.frombuffer(client.get("/tile/0/0/0").content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (tile == viewer.gallery.grey(0)).all()  # 256 pixels: one tile
    assert client.get("/tile/0/1/0").status_code == 422
    assert client.get("/image/0/129").status_code == 404
    assert client.get("/image/9999/128").status_code == 404


def test_outlines_come_as_paths_with_dice(client):
    masks = client.get("/api/masks/0/0").json()
    assert (masks["height"], masks["width"], masks["known"]) == (256, 256, True)
    radius = masks["classes"]["27"]
    assert radius["path"].startswith("M")
    assert 0 < radius["dice"] < 1
    truth = client.get("/api/masks/0/truth").json()["classes"]["27"]
    assert "dice" not in truth
    assert radius["box"][1] > truth["box"][1]  # it was moved to the right
    assert client.get("/api/differences/0/0").json()["classes"]["27"].keys() == {"missed", "excess"}
    assert client.get("/api/masks/0/7").status_code == 404


def test_an_accepted_candidate_is_in_the_file_that_data_corrections_takes(client, viewer):
    candidates = client.get("/api/candidates").json()["candidates"]
    assert candidates[0]["actions"] == ["permute", "drop-image", "keep"]
    answer = post(client, viewer)
    assert answer.status_code == 200
    assert answer.json()["candidates"][0]["state"] == {"action": "permute", "by": "decided"}
    names = [image.name for image in viewer.gallery.images]
    read = corrections.read(viewer.review.path, viewer.gallery.spec.classes, names)
    assert read[candidates[0]["image"]].moved == {0: 1, 1: 0}
    assert post(client, viewer, {"rank": 2, "action": "replace"}).status_code == 200
    taken = corrections.read(viewer.review.path, viewer.gallery.spec.classes, names)[candidates[1]["image"]]
    assert taken.replaced[27] == viewer.gallery.sources[0].codes(candidates[1]["image"])["Radius"]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/..\\app.py", "/../../etc/passwd",
        "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/..%2f..%2f..%2f..%2f..%2fetc/passwd", "/static/%00",
        "/image/../../etc/128", "/image/-1/128", "/tile/0/-1/0", "/api/masks/0/..", "/api/masks/0/%2e%2e%2fapp.py",
        "/api/masks/0/truth/../../x", "/app.py", "/static/", "/runs", "/api/masks/0/²",
    ],
)  # fmt: skip
def test_nothing_outside_of_the_static_files_is_served(client, path):
    answer = client.get(path)
    assert answer.status_code in (404, 422)
    assert "import" not in answer.text
    assert "root:" not in answer.text


def test_a_link_out_of_the_static_files_is_not_followed(client, viewer, tmp_path, monkeypatch):
    from starlette.staticfiles import StaticFiles

    (tmp_path / "static").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "static" / "link.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "static" / "own.txt").write_text("own")
    monkeypatch.setattr("bonepipe.report.view.app.STATIC", tmp_path / "static")
    served = TestClient(application(viewer), base_url=HERE)
    assert served.get("/static/own.txt").text == "own"
    assert served.get("/static/link.txt").status_code == 404
    assert StaticFiles(directory=tmp_path).follow_symlink is False


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8321", "127.0.0.1.evil.example", "192.168.0.7", "", "0.0.0.0"]
)
def test_a_request_that_names_another_host_is_refused(client, host):
    assert client.get("/api/index", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1:8321", "localhost:9000", "LOCALHOST", "[::1]:8321"])
def test_this_machine_may_be_named_in_any_way(client, host):
    assert client.get("/api/index", headers={"Host": host}).status_code == 200


def test_no_other_origin_may_read_or_frame_anything(client):
    for path in ("/", "/api/index", "/image/0/128", "/static/main.js"):
        answer = client.get(path, headers={"Origin": "http://evil.example"})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.options("/api/index", headers={"Origin": "http://evil.example"}).status_code == 405
    for site in ("cross-site", "same-site"):
        assert (
            client.get("/image/0/128", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}).status_code == 403
        )
        assert client.get("/", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}).status_code == 200


def test_a_decision_needs_the_token_of_a_page_from_here(client, viewer):
    refused = [
        post(client, viewer, X_Bonepipe_Token=""),
        post(client, viewer, X_Bonepipe_Token="x" * 43),
        post(client, viewer, Origin="http://evil.example"),
        post(client, viewer, Origin="http://127.0.0.1:9999"),
        post(client, viewer, Sec_Fetch_Site="cross-site"),
    ]
    assert {answer.status_code for answer in refused} == {403}
    form = {"X-Bonepipe-Token": viewer.token, "Content-Type": "text/plain"}
    assert client.post("/api/decisions", content='{"rank": 1, "action": "keep"}', headers=form).status_code == 415
    assert client.get("/api/decisions").status_code == 405
    assert not viewer.review.path.exists()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ([], 400), ({}, 400), ({"rank": "1", "action": "keep"}, 400), ({"rank": True, "action": "keep"}, 400),
        ({"rank": 1, "action": ["keep"]}, 400), ({"rank": 77, "action": "keep"}, 422),
        ({"rank": 1, "action": "rm -rf"}, 422), ({"rank": 1, "action": "x" * 5000}, 413),
    ],
)  # fmt: skip
def test_a_decision_that_is_none_is_refused(client, viewer, body, status):
    assert post(client, viewer, body).status_code == status
    assert not viewer.review.path.exists()


def test_what_is_wrong_with_an_image_is_told_and_the_others_are_shown(client, viewer):
    broken = viewer.gallery.sources[0].tables[0]
    rows = broken.path.read_text().splitlines()
    name = rows[1].split(",")[0]
    broken.path.write_text("\n".join([rows[0], f"{name},Radius,999999 5", *rows[40:]]) + "\n")
    number = viewer.gallery.numbers[name]
    answer = client.get(f"/api/masks/{number}/0")
    assert answer.status_code == 422
    assert f"{name}, Radius: run 1: ends at pixel 1000003, beyond the image's 65536 pixels" in answer.json()["error"]
    assert client.get(f"/api/masks/{number}/truth").status_code == 200
