"""The page's files: by number only, names from files as data, a folder whole or not at all."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from dataclasses import replace

import pytest
from pages import K, content, poses

from posepipe.errors import DocumentError, OptionError
from posepipe.io.images import ImageFile
from posepipe.viewing.content import Content
from posepipe.viewing.server import make_server
from posepipe.viewing.site import Site, write_site


def value_of(javascript):
    """What a script assigns, or the last argument of its call."""
    text = javascript.decode()
    start = text.index("= ") + 2 if " = " in text else text.index("(") + 1
    if " = " not in text:
        start = text.index(", ") + 2
    return json.loads(text[start : text.rindex("}") + 1])


def test_the_index_lists_every_image_with_what_sorts_and_filters_it():
    index = value_of(Site(content()).file("index.js"))
    first, second = index["pictures"]
    assert (first["name"], first["size"], first["scores"]) == ("a.jpg", [300, 200], [0.9, 0.9])
    assert (first["oks"], first["sizes"]) == (1.0, ["medium"])
    assert first["errors"] == {"good": list(range(K))}
    assert second["thumbnail"] == "thumbnails/1.jpg"
    assert index["has"] == ["keypoints", "labels", "judged"]


def test_people_without_labels_are_not_judged():
    whole = content()
    alone = Site(Content("kps.json", whole.images, whole.poses))
    index = value_of(alone.file("index.js"))
    assert index["has"] == ["keypoints"]
    assert "oks" not in index["pictures"][0]
    assert "oks" not in value_of(alone.file("people/0.js"))["poses"][0]


def test_boxes_are_not_judged_by_keypoints():
    whole = replace(content(), of_boxes=True)
    index = value_of(Site(whole).file("index.js"))
    assert index["has"] == ["labels"]
    assert "oks" not in index["pictures"][0]
    people = value_of(Site(whole).file("people/0.js"))
    assert "errors" not in people["poses"][0]
    assert not any(label["missed"] for label in people["labels"])


def test_poses_about_nobody_and_people_without_a_pose_are_told():
    whole = content(names=["a.jpg"])
    elsewhere = replace(whole, poses=[poses(0, 50, 290)])
    index = value_of(Site(elsewhere).file("index.js"))
    assert {"false positive", "false negative"} < index["pictures"][0]["errors"].keys()
    assert index["pictures"][0]["missed"] == 1
    people = value_of(Site(elsewhere).file("people/0.js"))
    assert people["poses"][1]["errors"] == {"false positive": []}
    assert people["poses"][0]["label"] == 0
    assert [label["missed"] for label in people["labels"]] == [False, True]


def test_errors_are_those_of_the_person():
    whole = content(names=["a.jpg"])
    whole.poses[0].keypoints.flags.writeable = True
    whole.poses[0].keypoints[1, 9] = [290, 190, 1]
    people = value_of(Site(whole).file("people/0.js"))
    assert people["poses"][0]["errors"] == {"good": list(range(K))}
    assert people["poses"][1]["errors"]["miss"] == [9]
    assert people["poses"][1]["oks"] < 1


@pytest.mark.parametrize(
    "route",
    [
        "../setup.cfg",
        "people/2.js",
        "people/-1.js",
        "people/0.jpg",
        "images/0.js",
        "images/a.jpg",
        "images/99999999999999999999.jpg",
        "page/view.js",
        "",
        "/etc/passwd",
        "view.js/../../site.py",
    ],
)
def test_nothing_but_the_page_s_files_is_given(route):
    assert Site(content()).file(route) is None


def test_every_route_leads_to_a_file():
    site = Site(content())
    assert all(site.file(route) for route in site.routes())


def test_an_image_that_cannot_be_read_is_grey(tmp_path):
    image = ImageFile(0, tmp_path / "gone.jpg", "gone.jpg")
    site = Site(Content("kps.json", [image], [poses(0, 50)]))
    assert value_of(site.file("index.js"))["pictures"][0]["size"] == [70, 160]
    assert site.file("images/0.jpg").startswith(b"\xff\xd8")


def test_names_stay_data():
    name = "</script><script>alert(1)</script>.jpg"
    site = Site(content(names=[name]))
    assert b"</script>" not in site.file("index.js")
    assert value_of(site.file("index.js"))["pictures"][0]["name"] == name


def test_a_folder_appears_whole(tmp_path):
    site = Site(content())
    written = []
    write_site(site, tmp_path / "page", progress=written.append)
    assert len(written) == len(site.routes())
    for route in site.routes():
        assert (tmp_path / "page" / route).read_bytes() == site.file(route)
    with pytest.raises(DocumentError, match="not empty"):
        write_site(site, tmp_path / "page")


def test_a_folder_that_fails_leaves_nothing(tmp_path):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_site(Site(content()), tmp_path / "page", progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def server():
    made = make_server(Site(content()))
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def answer(server, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_the_server_listens_on_loopback_and_gives_the_page(server):
    assert server.server_address[0] == "127.0.0.1"
    response, body = answer(server, "/")
    assert response.status == 200
    assert response.getheader("Content-Type") == "text/html; charset=utf-8"
    assert b"posepipe view" in body


@pytest.mark.parametrize("path", ["/../setup.cfg", "/%2e%2e/setup.cfg", "/people/77.js", "/x"])
def test_the_server_gives_nothing_else(server, path):
    assert answer(server, path)[0].status == 404


def test_a_browser_that_goes_away_is_no_error(server, capfd):
    whole = threading.Event()
    close = server.shutdown_request
    server.shutdown_request = lambda request: (close(request), whole.set())
    with socket.create_connection(server.server_address, timeout=10) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"GET /index.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)
    assert whole.wait(10)
    assert capfd.readouterr().err == ""


def test_a_foreign_name_for_this_machine_is_refused(server):
    assert answer(server, "/index.js", Host="evil.example")[0].status == 403
    assert answer(server, "/index.js", Host="localhost:1")[0].status == 200


def test_a_port_that_is_taken_is_one_line(server):
    with pytest.raises(OptionError, match=f"port {server.server_port}"):
        make_server(Site(content()), port=server.server_port)
