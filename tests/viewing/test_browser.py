"""The page in a real browser: it opens, sorts, filters, and draws skeletons where people are."""

from __future__ import annotations

import base64
import io
import shutil
import threading
from dataclasses import replace

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


def press(browser, *keys):
    for key in keys:
        browser.switch_to.active_element.send_keys(key)


def until(browser, condition):
    """Waits, bounded by the driver's timeout for scripts, until JavaScript holds."""
    browser.execute_async_script(
        "const [done] = arguments; const look = () => "
        f"(({condition}) ? done() : setTimeout(look, 20)); look();"
    )


LEFT, RIGHT, ESCAPE, ENTER, END = "\ue012", "\ue014", "\ue00c", "\ue007", "\ue010"


def crowd():
    """Images of 1, 3, 2 and 1 people; those of the second are off, the last is about nobody."""
    images = [
        ImageFile(n, None, f"{n}.jpg", pixels=np.full((200, 300, 3), 90, np.uint8))
        for n in range(4)
    ]
    found = [
        poses(0, 50),
        poses(1, 50, 100, 150, score=0.5),
        poses(2, 50, 150),
        poses(3, 20),
    ]
    labelled = [
        labels_of(found[0]),
        labels_of(poses(1, 56, 106, 156)),
        labels_of(found[2]),
        labels_of(poses(3, 280)),
    ]
    return Content("kps.json", images, found, labelled)


def test_images_are_sorted(page):
    browser = page(crowd())
    assert names(browser) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    choose(browser, "sort", "people")
    assert names(browser) == ["1.jpg", "2.jpg", "0.jpg", "3.jpg"]
    choose(browser, "sort", "oks")
    assert names(browser)[:2] == ["3.jpg", "1.jpg"]


def test_names_are_sorted_as_people_count(page):
    shown = content(names=["10.jpg", "9.jpg"])
    assert names(page(shown)) == ["9.jpg", "10.jpg"]


@pytest.mark.parametrize(
    ("field", "value", "left"),
    [
        ("name", "2", ["2.jpg"]),
        ("least", "2", ["1.jpg", "2.jpg"]),
        ("most", "1", ["0.jpg", "3.jpg"]),
        ("error", "jitter", ["1.jpg"]),
        ("error", "false positive", ["3.jpg"]),
        ("error", "false negative", ["3.jpg"]),
        ("size", "large", []),
    ],
)
def test_images_are_filtered(page, field, value, left):
    browser = page(crowd())
    choose(browser, field, value)
    assert names(browser) == left
    assert browser.find_element("id", "count").text == f"{len(left)} of 4 images"


def test_people_under_the_score_do_not_count(page):
    browser = page(crowd())
    choose(browser, "score", "0.7")
    choose(browser, "least", "3")
    assert names(browser) == []


def pixels_of(browser, canvas="#drawing", image="#picture"):
    """(h, w, 4) of what is drawn over an image, once something is."""
    script = """
        const [canvasName, pictureName, done] = arguments;
        const look = () => {
          const canvas = document.querySelector(canvasName);
          const data = canvas?.width ?
            canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data : [];
          if (!data.some((value) => value)) { setTimeout(look, 20); return; }
          const [all, picture] = [canvas, document.querySelector(pictureName)]
            .map((element) => element.getBoundingClientRect());
          done([canvas.toDataURL().split(",")[1], canvas.width / all.width, picture.left - all.left,
                picture.top - all.top, picture.width, picture.height]);
        };
        look();"""
    encoded, sharp, *place = browser.execute_async_script(script, canvas, image)
    left, top, width, height = (sharp * side for side in place)
    drawn = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA")
    return np.array(drawn.crop([round(left), round(top), round(left + width), round(top + height)]))


def white(drawing):
    return (drawing[..., :3] == 255).all(axis=2) & (drawing[..., 3] == 255)


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


def test_a_zoomed_skeleton_stays_on_the_person(page):
    browser = page(content(names=["a.jpg"]), "#picture=0")
    small = pixels_of(browser)
    press(browser, "+", "+")
    large = pixels_of(browser)
    assert large.shape[1] > 2 * small.shape[1]
    scale = large.shape[1] / 300
    for row in range(7, 13):  # those near the middle are in view
        assert large[int((10 * row + 0.5) * scale), int(150.5 * scale), 3]
    press(browser, "0")
    assert (pixels_of(browser) == small).all()


def test_skeletons_are_drawn_on_the_small_images(page):
    browser = page(content(names=["a.jpg"]))
    drawing = pixels_of(browser, ".cell canvas", ".cell .frame")
    columns = np.flatnonzero(drawing[..., 3].any(axis=0))
    scale = min(drawing.shape[1] / 300, drawing.shape[0] / 200)
    left = (drawing.shape[1] - 300 * scale) / 2
    assert abs(columns.min() - (left + 50.5 * scale)) < 3
    assert abs(columns.max() - (left + 150.5 * scale)) < 3
    press(browser, "s")
    assert browser.execute_script("return document.querySelector('.cell canvas').width") == 0


def test_keys_turn_pages_and_switch_layers(page):
    browser = page(crowd(), "#picture=0")
    pixels_of(browser)
    heading = browser.find_element("id", "large-name")
    assert heading.text == "0.jpg (1 of 4)"
    press(browser, RIGHT)
    assert heading.text == "1.jpg (2 of 4)"
    assert not white(pixels_of(browser)).any()
    press(browser, "l")
    assert white(pixels_of(browser)).any()
    press(browser, END)
    assert heading.text == "3.jpg (4 of 4)"
    press(browser, ESCAPE)
    assert not browser.find_element("id", "large").get_attribute("open")
    assert "picture" not in browser.current_url
    assert browser.switch_to.active_element.get_attribute("title") == "3.jpg"
    press(browser, LEFT, LEFT, ENTER)
    assert heading.text == "1.jpg (2 of 4)"


def test_the_space_bar_plays_to_the_end_and_stops(page):
    browser = page(crowd(), "#picture=0")
    pixels_of(browser)
    press(browser, " ")
    until(browser, "document.getElementById('large-name').textContent === '3.jpg (4 of 4)'")
    press(browser, LEFT)
    assert browser.find_element("id", "large-name").text == "2.jpg (3 of 4)"


def test_what_is_wrong_is_drawn_and_said(page):
    browser = page(crowd(), "#picture=3")
    drawing = pixels_of(browser)
    scale = drawing.shape[1] / 300
    red = (drawing[..., 0] > 200) & (drawing[..., 1] < 100) & (drawing[..., 3] > 200)
    columns = np.flatnonzero(red.any(axis=0)) / scale
    assert abs(columns.min() - 0) < 2  # the box of the pose about nobody
    assert abs(columns.max() - 300) < 2  # and that of the person who was missed
    said = browser.find_element("id", "people").text
    assert "false positive" in said
    assert "Missed person" in said
    press(browser, "e")
    drawing = pixels_of(browser)
    assert not ((drawing[..., 0] > 200) & (drawing[..., 1] < 100) & (drawing[..., 3] > 200)).any()


def test_boxes_alone_are_drawn(page):
    whole = content(names=["a.jpg"])
    points = whole.poses[0].keypoints * [1, 1, 0]
    boxes = replace(whole, poses=[replace(whole.poses[0], keypoints=points)], of_boxes=True)
    browser = page(boxes, "#picture=0")
    drawing = pixels_of(browser)
    columns = np.flatnonzero(drawing[..., 3].any(axis=0)) / (drawing.shape[1] / 300)
    assert abs(columns.min() - 30) < 2
    assert abs(columns.max() - 170) < 2
    assert not browser.find_element("id", "show-found").is_displayed()


def test_poses_of_before_are_a_layer_of_their_own(page):
    shown = content(names=["a.jpg"])
    before = [poses(0, 80, 150)]
    browser = page(replace(shown, before=before), "#picture=0")
    scale = pixels_of(browser).shape[1] / 300
    middle = int(80.5 * scale)
    assert not pixels_of(browser)[:, middle, 3].any()
    press(browser, "r")
    assert pixels_of(browser)[:, middle, 3].any()
    press(browser, ESCAPE)
    assert "OKS 100 (+" in browser.find_element("css selector", ".cell").text


def test_the_address_leads_elsewhere_on_an_open_page(page):
    browser = page(crowd())
    browser.execute_script("location.hash = 'error=jitter&picture=1'")
    until(browser, "document.getElementById('large').open")
    assert browser.find_element("id", "large-name").text == "1.jpg (1 of 1)"
    browser.execute_script("location.hash = 'sort=people'")
    until(browser, "!document.getElementById('large').open")
    assert names(browser)[0] == "1.jpg"
    assert len(names(browser)) == 4


def test_filters_are_cleared_at_once(page):
    browser = page(crowd(), "#name=zzz")
    assert names(browser) == []
    assert browser.find_element("id", "nothing").is_displayed()
    browser.find_element("id", "clear").click()
    assert len(names(browser)) == 4
    assert not browser.find_element("id", "clear").is_displayed()


def test_names_with_markup_are_text(page):
    browser = page(content(names=[HOSTILE, "b.jpg"]), "#picture=0")
    pixels_of(browser)
    assert browser.title == "posepipe view"
    assert browser.find_element("id", "large-name").text.startswith(HOSTILE)
    assert len(browser.find_elements("css selector", "script")) == 4


def test_a_folder_opens_without_a_server(browser, tmp_path):
    write_site(Site(content()), tmp_path / "page")
    browser.get((tmp_path / "page" / "index.html").as_uri() + "#picture=1")
    assert pixels_of(browser).any()
    assert browser.get_log("browser") == []


def test_of_5000_images_only_those_in_view_are_there(page):
    image = np.zeros((20, 30, 3), np.uint8)
    images = [ImageFile(n, None, f"{n:04}.jpg", pixels=image) for n in range(5000)]
    browser = page(Content("kps.json", images, [poses(n, 5) for n in range(5000)]))
    assert browser.find_element("id", "count").text == "5000 of 5000 images"
    assert len(names(browser)) < 60
    browser.execute_script("document.getElementById('grid').scrollTop = 1e9")
    browser.execute_async_script(
        "const [done] = arguments; requestAnimationFrame(() => requestAnimationFrame(done));"
    )
    assert "4999.jpg" in names(browser)
    assert len(names(browser)) < 60
