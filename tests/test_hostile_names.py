"""Names that speak to the browser are shown as they are and ask nobody, on all pages, in a real browser."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Locator, Page, expect

from tests.conftest import open_page, running_app
from tests.hostile_names import HOST, NAMES, REPORTED, TEMPLATE, shown
from tests.journeys import build_index, settle
from tests.onnx_files import node, numbers, write
from tests.picture_files import archive, save
from tests.test_browser import expect_heatmap, upload_model

#: What would have come of a name: the elements within a part of a page that no text of ours has there.
MADE = """place => [...document.querySelectorAll(place)].flatMap(part => [...part.querySelectorAll(
  'a:not([data-testid=stHeaderActionElements] *), img:not([src^=data], [src*="/media/"]), em, code, pre, del, ul, ' +
  'ol, blockquote, hr, .katex, sup, [role=img], [class*=stMarkdownColored], [class*=stMarkdownBadge]')]
  ).map(one => one.outerHTML.slice(0, 200))"""

#: Elements that point elsewhere, and text that became a style, wherever they are.
ELSEWHERE = """() => [...document.querySelectorAll('[href], [src]')].filter(one =>
  /^(https?|wss?|ftp|mailto|xmpp):/.test(one.href || one.src) && !(one.href || one.src).startsWith(location.origin)
  ).map(one => one.outerHTML.slice(0, 200))"""

#: What outsiders call folders (which label pictures), pictures, classes, layers, concepts, themselves, models.
LABELS = ("**benign** :red[x] $a$ <b>b</b>", "1. www.example.com -> &amp; a_b_c")
PICTURES = [f"{LABELS[number % 2]}/{name}" for number, name in enumerate(REPORTED)]
CLASSES = (*LABELS, f"![c](http:&#47;&#47;{HOST}&#47;c.png)", ":material/home: # x@example.com")
LAYERS = (f"![l](http:&#47;&#47;{HOST}&#47;l.png) <b>x<b>", "a_*b*__c :smile: %{x} $y$", "- ~~x~~ www.example.com")
CONCEPT, AUTHOR, MODEL = f"[n](http://{HOST}) <b>x</b> %{{y}}", "*Ada* <ada@example.com>", f"![m](http://{HOST}/m.png)"
BROKEN = f"![e](http:&#47;&#47;{HOST}&#47;e.png) `x`.png"


class Listener(ThreadingHTTPServer):
    """Another host, as far as a browser is concerned, that counts who asks it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *about: object) -> None:
        pass


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    listener = Listener()
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    yield listener
    listener.shutdown()
    listener.server_close()
    thread.join()


def watch(page: Page, address: str) -> list[str]:
    """Note from now on what a page asks others than the app for."""
    foreign: list[str] = []
    own = (f"{address}/", f"{address.replace('http', 'ws')}/", "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(own) else foreign.append(request.url))
    return foreign


def texts(page: Page, selector: str) -> list[str]:
    return [" ".join(text.split()) for text in page.locator(selector).all_text_contents()]


def test_every_name_is_shown_as_it_is_in_every_element_and_chart(browser: Browser, tmp_path: Path) -> None:
    with running_app(tmp_path, "tests/hostile_names.py") as address:
        page = browser.new_page()
        foreign = watch(page, address)
        page.goto(address)
        expect(page.locator(".st-key-hovered .bars path")).to_have_count(1)
        expected = [(f"It is {shown(name)} they say.", shown(name), shown(name)) for name in NAMES]
        assert texts(page, "[class*=st-key-name-] p") == [text for three in expected for text in three]
        worst = " ".join(shown(name) for name in REPORTED)
        for part in page.locator("[class*=st-key-kind-]").all():
            kind = str(part.get_attribute("class")).partition("st-key-kind-")[2].split()[0]
            if kind == "picker":
                expect(part.get_by_role("combobox")).to_have_value(worst)
            elif kind == "help":
                part.get_by_test_id("stTooltipIcon").hover()
                expect(page.get_by_test_id("stTooltipContent")).to_have_text(worst)
            else:
                place = page.get_by_test_id("stToast") if kind == "toast" else part
                expect(place).to_contain_text(worst)
        assert page.evaluate(MADE, "[class*=st-key-name-], [class*=st-key-kind-], [role=tooltip]") == []
        assert texts(page, ".textpoint text") == [shown(name) for name in NAMES]
        page.locator(".st-key-hovered .bars path").hover(force=True)
        expect(page.locator(".st-key-hovered .hovertext")).to_have_text(f"{shown(NAMES[0])} {TEMPLATE}")
        expect(page.locator(".js-plotly-plot :is(text a, :is(.textpoint, .hovertext) [style*=bold])")).to_have_count(0)
        assert foreign == []
        page.close()


def draw_pictures() -> FilePayload:
    """A zip archive of pictures under reported names, in folders that label them."""
    files = {
        name: save(Image.new("RGB", (32, 32), (40 * number, 90, 20)), "PNG") for number, name in enumerate(PICTURES)
    }
    return {"name": "p.zip", "mimeType": "application/zip", "buffer": archive(files)}


def write_network() -> bytes:
    """A network of two convolutions and a dense layer under hostile names."""
    nodes = (
        node("Conv", ["image", "kernel", "shift"], ["first"], name=LAYERS[0], pads=[1, 1, 1, 1]),
        node("Relu", ["first"], ["active"], name="relu"),
        node("Conv", ["active", "second"], ["deep"], name=LAYERS[1], pads=[1, 1, 1, 1]),
        node("Relu", ["deep"], ["lively"], name=LAYERS[2]),
        node("GlobalAveragePool", ["lively"], ["pooled"], name="pool"),
        node("Flatten", ["pooled"], ["flat"], name="flatten"),
        node("Gemm", ["flat", "dense"], ["scores"], transB=1, name="dense"),
    )
    weights = {
        "kernel": numbers(5, 3, 3, 3),
        "shift": numbers(5),
        "second": numbers(6, 5, 3, 3),
        "dense": numbers(4, 6),
    }
    return write(*nodes, shape=("batch", 3, 32, 32), **weights)


def expect_names(page: Page, place: str | Locator, *names: str) -> None:
    """Wait until a part of the page shows names as they are, and see to it that nothing points elsewhere."""
    for name in names:
        expect((page.locator(place) if isinstance(place, str) else place).first).to_contain_text(shown(name))
    assert page.evaluate(ELSEWHERE) == []


def add_pictures(page: Page) -> None:
    """Upload the pictures, and a broken one whose name is quoted."""
    broken: FilePayload = {"name": BROKEN, "mimeType": "image/png", "buffer": b"no picture"}
    page.get_by_test_id("stSidebar").locator("input[type=file]").first.set_input_files([draw_pictures(), broken])
    expect_names(page, "[data-testid=stSidebar] [data-testid=stAlertContentError]", BROKEN)


def bring(page: Page) -> None:
    """Upload a model, test it on pictures and accept it."""
    page.get_by_role("heading", name="Bring your own").wait_for()
    add_pictures(page)
    upload_model(page, write_network(), "net.onnx", "\n".join(CLASSES))
    page.get_by_role("textbox", name="Name", exact=True).fill(MODEL)
    page.get_by_role("button", name="Test this model").click()
    expect(page.get_by_test_id("stImageCaption")).to_have_text(re.compile(r"\S\.png, as the model sees it$"))
    page.get_by_role("button", name="Use this model").click()
    expect_heatmap(page)
    add_pictures(page)
    settle(page)


def expect_pictures(page: Page) -> None:
    """See that the strip shows the names of the pictures, and the page the label of the first one."""
    thumbnails = "[class*=st-key-thumbnail-]"
    expect(page.locator(f"{thumbnails} p").first).to_have_text(PICTURES[3])
    expect(page.locator(f".st-key-thumbnail-{len(PICTURES)}")).to_have_count(0)  # which go at the end of the run
    assert set(texts(page, f"{thumbnails} p")) == set(PICTURES)
    page.locator(f"{thumbnails} button:visible").first.hover()
    expect(page.get_by_test_id("stTooltipContent")).to_have_text(f"{PICTURES[3]} · {LABELS[1]}")
    expect_names(page, "[data-testid=stMain]", f"The picture's own label is {LABELS[1]}.")
    assert page.evaluate(MADE, f"{thumbnails}, h1, [role=tooltip], [data-testid=stAlert]") == []


def expect_class(page: Page) -> None:
    """See that a page's headline shows the name of a class."""
    settle(page)
    assert any(klass in page.locator("h1").inner_text() for klass in CLASSES)
    assert page.evaluate(ELSEWHERE) == []


def name_concept(page: Page) -> None:
    """Name the first concept; see the name on its card and bar, in its view, and where it comes from."""
    open_page(page, "What did it use?")
    card = page.locator("[class*=st-key-card-]").first
    card.get_by_role("button", name="Name").click()
    dialog = page.get_by_role("dialog")
    expect_names(page, dialog, LAYERS[2])
    dialog.get_by_role("textbox", name="Name", exact=True).fill(CONCEPT)
    dialog.get_by_role("textbox", name="Your name").fill(AUTHOR)
    dialog.get_by_role("button", name="Keep").click()
    expect_names(page, card, CONCEPT, AUTHOR)
    expect(page.locator(".js-plotly-plot .ytick text").first).to_contain_text(CONCEPT[:20])
    page.locator(".js-plotly-plot .bars path").first.hover(force=True)
    expect_names(page, ".hovertext", CONCEPT)
    build_index(page)
    card.get_by_role("button", name="Origin").click()
    expect_names(page, "h2", CONCEPT)
    expect_names(page, page.get_by_test_id("stAlert").filter(has_text="no earlier layer"), LAYERS[2])
    page.get_by_role("button", name="Back to the decision").click()
    card.get_by_role("button", name="Open").click()
    expect_names(page, "h2", CONCEPT, LAYERS[2])
    expect_names(page, "[data-testid=stMain]", AUTHOR)
    file = b"layer,concept,name\n![i](b.example) <b>i,0,x\n"
    importer = page.get_by_test_id("stFileUploader").filter(has_text="Import names").locator("input[type=file]")
    importer.set_input_files({"name": "n.csv", "mimeType": "text/csv", "buffer": file})
    expect_names(page, page.get_by_test_id("stAlert").filter(has_text="Line 2"), "![i](b.example) <b>i")


def test_names_of_pictures_and_folders_are_shown_as_they_are_to_their_owner_and_to_others(
    open_app: Callable[..., Page], app_address: str
) -> None:
    page = open_app("?model=digits")
    foreign = watch(page, app_address)
    add_pictures(page)
    expect_pictures(page)
    page.get_by_role("button", name="Share with everybody on this server").click()
    expect(page.get_by_role("button", name="Take back")).to_be_visible()
    guest = open_app("?model=digits&source=Shared")
    asked = watch(guest, app_address)
    guest.reload()
    expect_pictures(guest)
    assert foreign == asked == []


@pytest.mark.exhaustive
def test_names_within_a_model_and_those_that_people_give_are_shown_as_they_are_on_all_pages(
    open_app: Callable[..., Page], app_address: str
) -> None:
    page = open_app("model?model=digits")
    foreign = watch(page, app_address)
    bring(page)
    expect_class(page)
    name_concept(page)
    for title in ("Is it ordinary?", "How does it decide?"):
        open_page(page, title)
        expect_class(page)
    open_page(page, "Model")
    expect_names(page, "h1", MODEL)
    assert foreign == []


def test_no_page_asks_another_host_whatever_it_holds(open_app: Callable[..., Page], listener: Listener) -> None:
    page = open_app("model")
    page.get_by_role("heading", name="Bring your own").wait_for()
    place = f"127.0.0.1:{listener.server_port}"
    blocked = page.evaluate(
        """async place => {
            const blocked = [];
            document.addEventListener('securitypolicyviolation', event => blocked.push(event.effectiveDirective));
            document.body.insertAdjacentHTML('beforeend', `<img src="http://${place}/image"><iframe
                src="http://${place}/frame"></iframe><video src="http://${place}/video"></video><link rel="stylesheet"
                href="http://${place}/style"><p style="background: url(http://${place}/ground)">x</p>`);
            const script = document.createElement('script');
            script.src = `http://${place}/script`;
            document.body.append(script);
            await fetch(`http://${place}/fetch`).catch(() => 0);
            navigator.sendBeacon(`http://${place}/beacon`);
            try { new WebSocket(`ws://${place}/socket`); } catch { }
            await new Promise(resolve => setTimeout(resolve, 500));
            return blocked.sort();
        }""",
        place,
    )
    assert blocked == [
        *("connect-src", "connect-src", "connect-src", "frame-src", "img-src", "img-src"),
        *("media-src", "script-src-elem", "style-src-elem"),
    ]
    assert listener.asked == []
