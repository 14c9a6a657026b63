"""The page in a real browser: it opens, sorts, filters, and draws skeletons where people are."""

from __future__ import annotations

import base64
import io
import shutil
import threading

import numpy as np
import pytest
from pages import content, labels_of, poses
from PIL import Image

from posepipe.io.images import ImageFile
from posepipe.viewing.content import Content
from posepipe.viewing.server import make_server
from posepipe.viewing.site import Site, write_site

pytestmark = pytest.mark.browser
HOSTILE = "<script>document.title='hacked'</script><img src=x onerror=alert(1)>.jpg"


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("needs Chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1200,800"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    made.implicitly_wait(5)
    yield made
    made.quit()


@pytest.fixture
def page(browser):
    """Opens the page of some content, served."""
    servers = []

    def opened(shown, fragment=""):
        server = make_server(Site(shown))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        browser.get("about:blank")
        browser.get(f"http://127.0.0.1:{server.server_port}/{fragment}")
        return browser

    yield opened
    log = browser.get_log("browser")
    complaints = [entry["message"] for entry in log if entry["level"] == "SEVERE"]
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()
    assert complaints == []


def names(browser):
    return browser.execute_script(
        "return Array.from(document.querySelectorAll('.cell'), (cell) => cell.title)"
    )


def choose(browser, field, value):
    browser.execute_script(
        "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
        "field.dispatchEvent(new Event('input'));",
        field,
        value,
    )


def crowd():
    """Three pictures with 1, 3 and 2 people; in the second one's label everybody is elsewhere."""
    images = [
        ImageFile(n, None, f"{n}.jpg", pixels=np.full((200, 300, 3), 90, np.uint8))
        for n in range(3)
    ]
    found = [poses(0, 50), poses(1, 50, 100, 150, score=0.5), poses(2, 50, 150)]
    labelled = [labels_of(found[0]), labels_of(poses(1, 56, 106, 156)), labels_of(found[2])]
    return Content("kps.json", images, found, labelled)


def test_pictures_are_sorted(page):
    browser = page(crowd())
    assert names(browser) == ["0.jpg", "1.jpg", "2.jpg"]
    choose(browser, "sort", "people")
    assert names(browser) == ["1.jpg", "2.jpg", "0.jpg"]
    choose(browser, "sort", "oks")
    assert names(browser)[0] == "1.jpg"


@pytest.mark.parametrize(
    ("field", "value", "left"),
    [
        ("name", "2", ["2.jpg"]),
        ("least", "2", ["1.jpg", "2.jpg"]),
        ("most", "1", ["0.jpg"]),
        ("error", "jitter", ["1.jpg"]),
        ("size", "large", []),
    ],
)
def test_pictures_are_filtered(page, field, value, left):
    browser = page(crowd())
    choose(browser, field, value)
    assert names(browser) == left
    assert browser.find_element("id", "count").text == f"{len(left)} of 3 pictures"


def test_people_under_the_score_do_not_count(page):
    browser = page(crowd())
    choose(browser, "score", "0.7")
    choose(browser, "least", "3")
    assert names(browser) == []


def pixels_of(browser):
    """(h, w, 4) of the drawing over the large picture, once there is one."""
    script = """
        const [done] = arguments; const canvas = document.getElementById("drawing");
        const look = () => {
          const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          if (data.some((value) => value)) done(canvas.toDataURL().split(",")[1]);
          else setTimeout(look, 20);
        };
        look();"""
    png = base64.b64decode(browser.execute_async_script(script))
    return np.array(Image.open(io.BytesIO(png)).convert("RGBA"))


def test_a_skeleton_is_drawn_where_the_person_is(page):
    browser = page(content(names=["a.jpg"]), "#picture=0")
    drawing = pixels_of(browser)
    scale = drawing.shape[1] / 300
    drawn = drawing[..., 3] > 0
    columns = np.flatnonzero(drawn.any(axis=0)) / scale
    assert abs(columns.min() - 50.5) < 5
    assert abs(columns.max() - 150.5) < 5
    for row in range(17):  # each keypoint of both people is a dot
        for left in (50.5, 150.5):
            assert drawn[int((10 * row + 0.5) * scale), int(left * scale)]
    assert not drawn[:, int(100 * scale)].any()


def test_keys_turn_pages_and_switch_layers(page):
    browser = page(crowd(), "#picture=0")
    pixels_of(browser)
    body = browser.find_element("tag name", "body")
    heading = browser.find_element("id", "large-name")
    assert heading.text == "0.jpg (1 of 3)"
    body.send_keys("\ue014")  # right arrow
    assert heading.text == "1.jpg (2 of 3)"
    coloured = pixels_of(browser)
    body.send_keys("l")
    both = pixels_of(browser)
    white = (both[..., :3] == 255).all(axis=2) & (both[..., 3] == 255)
    assert white.any()
    assert not ((coloured[..., :3] == 255).all(axis=2) & (coloured[..., 3] == 255)).any()
    body.send_keys("\ue00c")  # Escape
    assert not browser.find_element("id", "large").get_attribute("open")


def test_names_with_markup_are_text(page):
    browser = page(content(names=[HOSTILE, "b.jpg"]), "#picture=0")
    pixels_of(browser)
    assert browser.title == "posepipe view"
    assert browser.find_element("id", "large-name").text.startswith(HOSTILE)
    assert len(browser.find_elements("css selector", "script")) == 2


def test_a_folder_opens_without_a_server(browser, tmp_path):
    write_site(Site(content()), tmp_path / "page")
    browser.get((tmp_path / "page" / "index.html").as_uri() + "#picture=1")
    assert pixels_of(browser).any()
    assert browser.get_log("browser") == []


def test_of_5000_pictures_only_those_in_view_are_there(page):
    image = np.zeros((20, 30, 3), np.uint8)
    images = [ImageFile(n, None, f"{n:04}.jpg", pixels=image) for n in range(5000)]
    browser = page(Content("kps.json", images, [poses(n, 5) for n in range(5000)]))
    assert browser.find_element("id", "count").text == "5000 of 5000 pictures"
    assert len(names(browser)) < 60
    browser.execute_script("document.getElementById('grid').scrollTop = 1e9")
    browser.execute_async_script(
        "const [done] = arguments; requestAnimationFrame(() => requestAnimationFrame(done));"
    )
    assert "4999.jpg" in names(browser)
    assert len(names(browser)) < 60
