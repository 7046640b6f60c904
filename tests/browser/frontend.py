"""ComfyUI's real frontend in a headless Chromium, driven by Playwright. Knows nothing about music.

One ``Frontend`` is one page. It keeps what the page complained about, so that a test can
ask for silence.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Locator, Page, Response, sync_playwright

from .scripts import (
    ACTIVE,
    CANVAS,
    CONVERT,
    DROP,
    END,
    ENTER,
    FILM,
    FIT,
    LISTEN,
    LOAD,
    LOADED,
    NODES,
    OPENED,
    PLAYER,
    PROMPT,
    READY,
    RUNNING,
    SEARCH,
    SELECT,
    SET,
    SHOW,
    SOCKETS,
    TOGGLE_APP,
    WATCH,
    WIRES,
)

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
)
# What a fresh user directory has none of, and the translations of a help page that has none.
ABSENT_BY_DESIGN = re.compile(r"/(api/userdata\b|user\.css$|extensions/[^/]+/docs/[^/]+/\w+\.md$)")

# ComfyUI's own first workflow looks for its models outside, and complains about that, sooner or later; ours name none.
NOT_OURS = re.compile(r"/missingModel\w+-[\w-]+\.js")
# The page's own preview of a film comes from a place that `--disable-api-nodes` forbids.
PREVIEW_OF_FILM = re.compile(r"^Loading media from\s+'blob:")

PLAYERS = {"audioUI", "video-preview"}  # widgets that show a file, which a page adds when it comes to it


def find_chromium() -> str:
    """The path of a Chromium; FileNotFoundError with the remedy when there is none."""
    for name in NAMES:
        path = shutil.which(name)
        if path:
            return path
    raise FileNotFoundError(f"The browser tests need one of {', '.join(NAMES)} on the PATH.")


@contextmanager
def open_frontend(url: str, node_type: str, width: int = 1600, height: int = 1000) -> Iterator[Frontend]:
    """A page of the ComfyUI at ``url``, ready and quiet, once it knows ``node_type``."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(ARGUMENTS))
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            frontend = Frontend(page)
            page.goto(url)
            page.wait_for_function(READY, arg=node_type, timeout=180_000)
            page.wait_for_load_state("networkidle")
            frontend.complaints.clear()
            yield frontend
        finally:
            browser.close()


class Frontend:
    """One page of ComfyUI and the words the tests are written in."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self._answered: set[str] = set()
        page.on("console", self._on_console)
        page.on("response", self._on_response)
        page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        page.on("requestfailed", lambda request: self._on_failure(request.url, request.failure))

    def _on_console(self, message: ConsoleMessage) -> None:
        url = message.location.get("url", "")
        missing = message.text.startswith("Failed to load resource") and ABSENT_BY_DESIGN.search(_path(url))
        if (
            message.type == "error"
            and not missing
            and not (NOT_OURS.search(_path(url)) or PREVIEW_OF_FILM.match(message.text))
        ):
            self.complaints.append(f"console: {message.text} ({url})")

    def _on_response(self, response: Response) -> None:
        self._answered.add(response.url)
        if response.status >= 400 and not ABSENT_BY_DESIGN.search(_path(response.url)):
            self.complaints.append(f"{response.status}: {response.url}")

    def _on_failure(self, url: str, failure: str | None) -> None:
        # The page may leave an answer unread: a player does that with a file whose head is enough.
        if url not in self._answered:
            self.complaints.append(f"{failure}: {url}")

    def reload(self, node_type: str) -> None:
        """Load the page anew, for settings that it reads at its start."""
        self.page.reload(timeout=180_000)
        self.page.wait_for_function(READY, arg=node_type, timeout=180_000)
        self.page.wait_for_load_state("networkidle")

    def replace_missing_nodes(self) -> None:
        """Accept the replacements that ComfyUI offers for nodes of packs that are not installed."""
        self.troubles()
        self.page.get_by_role("button", name="Replace All").first.click()
        self.page.wait_for_timeout(500)

    def open(self, graph: dict, name: str) -> None:
        """Open a workflow in the UI format."""
        self.page.evaluate(LOAD, [graph, name])

    def convert(self, prompt: dict, name: str, edits: list[dict[str, Any]], bends: list[list[Any]]) -> dict:
        """Open a workflow in the API format, apply edits, and return it in the UI format.

        An edit has ``id`` of a node (a new one of ``type`` is made when there is none), ``pos``,
        ``size`` and perhaps ``title``, ``widgets`` and ``properties``. A bend has the node that a wire leaves,
        the slot, the node that it reaches, and the points between.
        """
        return self.page.evaluate(CONVERT, [prompt, name, edits, bends])

    def open_template(self, name: str, pack: str) -> None:
        """Open a workflow of a pack as a user does, by its card in the template browser."""
        self.page.get_by_role("button", name="Templates").first.click()
        self.page.get_by_text(pack, exact=True).first.click()
        card = self.page.get_by_test_id(f"template-workflow-{name}")
        card.scroll_into_view_if_needed()  # the pictures of cards further down are not loaded before
        self.page.wait_for_function(LOADED, arg=card.locator("img").first.element_handle())
        before = self.page.evaluate(ACTIVE)
        card.click()
        self.page.wait_for_function(OPENED, arg=[name, before])
        card.wait_for(state="hidden")

    def add_from_search(self, name: str) -> None:
        """Add a node as a user does: the search box, its name, Enter, and a click for its place."""
        self.page.evaluate(SEARCH)
        box = self.page.get_by_role("combobox").first
        box.wait_for()
        box.fill(name)
        self.page.get_by_role("option").filter(has_text=name).first.wait_for()
        self.page.keyboard.press("Enter")
        self.page.mouse.click(500, 300)
        self.page.wait_for_function("title => app.graph.nodes.some(node => node.title === title)", arg=name)
        self.page.wait_for_timeout(500)  # it follows the pointer until the click has come through

    def sockets(self, title: str) -> dict[str, list[str]]:
        """The labels of a node's inputs and outputs."""
        return self.page.evaluate(SOCKETS, title)

    def enter(self, title: str) -> None:
        """Open the graph inside a node, which ``nodes``, ``wires`` and pictures then show, without its two ends."""
        self.page.evaluate(ENTER, title)
        self.page.wait_for_timeout(500)

    def help(self, node_type: str) -> str:
        """The text of a node's help page, opened by the node's info button."""
        self.page.evaluate(SELECT, node_type)
        self.page.get_by_test_id("info-button").click()
        table = self.page.locator(".node-help-content table").first
        table.wait_for()
        return self.page.locator(".node-help-content").first.inner_text()

    def troubles(self) -> str:
        """What ComfyUI shows as wrong with the open workflow: its error tab, "" when there is none."""
        self.page.wait_for_timeout(300)  # it looks for missing files after the workflow has opened
        tab = self.page.get_by_test_id("panel-tab-errors")
        overlay = self.page.get_by_test_id("error-overlay-see-errors")
        if not (tab.is_visible() or overlay.is_visible()):
            return ""
        (tab if tab.is_visible() else overlay).click()
        self.page.wait_for_timeout(300)
        return self.page.get_by_test_id("properties-panel").inner_text()

    def prompt(self) -> dict:
        """The open workflow in the API format, as Run would send it, without marks that newer frontends add."""
        prompt = self.page.evaluate(PROMPT)
        for node in prompt.values():
            node["_meta"] = {"title": node["_meta"]["title"]}
            node["inputs"] = {name: value for name, value in node["inputs"].items() if name not in PLAYERS}
        return prompt

    def nodes(self) -> list[dict]:
        """Every node's type, title, whether it is known, whether it is marked red, pictures, box."""
        return self.page.evaluate(NODES)

    def wires(self) -> list[dict]:
        """Every wire: the indices of its two nodes among ``nodes``, and the points that it passes."""
        return self.page.evaluate(WIRES)

    def fit(self) -> float:
        """Fit the graph into the window as its button does; the zoom that this takes."""
        self.page.evaluate(FIT)
        self.page.wait_for_timeout(500)
        return self.page.evaluate("() => app.canvas.ds.scale")

    def run(self, seconds: int = 240) -> None:
        """Press Run and wait for the end; Playwright's Error with the reason when it fails."""
        end = self.watch_end(seconds)
        self.page.get_by_test_id("queue-button").click()
        end()

    def watch_end(self, seconds: int) -> Callable[[], object]:
        """Watch for the end of the next run; a call that waits for it."""
        end = self.page.evaluate_handle(f"(seconds) => ({{end: ({END})(seconds)}})", seconds)
        return lambda: end.evaluate("({end}) => end")

    @contextmanager
    def nodes_2(self) -> Iterator[None]:
        """Show nodes as ComfyUI's newer, HTML kind ("Nodes 2.0") for a while."""
        self.page.evaluate(SET, ["Comfy.VueNodes.Enabled", True])
        try:
            yield
        finally:
            self.page.evaluate(SET, ["Comfy.VueNodes.Enabled", False])

    @contextmanager
    def app_mode(self) -> Iterator[Locator]:
        """Show the open workflow as a page of its most important inputs; the panel with these."""
        self.page.evaluate(TOGGLE_APP)
        try:
            panel = self.page.get_by_test_id("linear-widgets")
            panel.wait_for()
            yield panel
        finally:
            self.page.evaluate(TOGGLE_APP)

    def listen(self) -> dict:
        """Play the saved sound on the page; what the player shows and what the file holds."""
        return self._player().evaluate(LISTEN)

    def watch(self) -> dict:
        """Play the saved film on the page; its length, width, and the peak of its sound."""
        self.page.wait_for_function(FILM, timeout=90_000)
        return self.page.evaluate(WATCH)

    def drop_saved_sound(self) -> None:
        """Drop the saved sound file on the page, which opens the workflow inside it."""
        self._player().evaluate(DROP)

    def _player(self) -> Any:
        return self.page.wait_for_function(PLAYER, timeout=90_000)

    @contextmanager
    def running(self, seconds: int = 240) -> Iterator[Callable[[], bool]]:
        """Press Run; a question whether the run has ended."""
        end = self.page.evaluate_handle(RUNNING.format(end=END), seconds)
        self.page.get_by_test_id("queue-button").click()
        yield lambda: end.evaluate("run => run.over")

    def shot(self) -> bytes:
        """A PNG of the graph, fitted into the window, without menus."""
        self.fit()
        boxes = [node["box"] for node in self.nodes()]
        scale, (x, y) = self.page.evaluate("() => [app.canvas.ds.scale, Array.from(app.canvas.ds.offset)]")
        left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
        right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
        across, down = self.page.evaluate(CANVAS)
        clip = {
            "x": across + (left + x) * scale - 8,
            "y": down + (top + y) * scale - 8,
            "width": (right - left) * scale + 16,
            "height": (bottom - top) * scale + 16,
        }
        return self.page.screenshot(clip=clip)

    def picture(self, path: Path, margin: int = 24) -> None:
        """Write a screenshot of the graph alone, one pixel of the page per unit of the graph."""
        boxes = [node["box"] for node in self.nodes()]
        left, top = min(box[0] for box in boxes) - margin, min(box[1] for box in boxes) - margin
        right = max(box[0] + box[2] for box in boxes) + margin
        bottom = max(box[1] + box[3] for box in boxes) + margin
        x, y = 80, 140  # right of the side bar, below the menus
        before = self.page.viewport_size
        # Below and right of the graph there is room for what floats there.
        size = {"width": round(right - left) + x + 40, "height": round(bottom - top) + y + 300}
        self.page.set_viewport_size(size)
        self.page.evaluate(SHOW, [x - left, y - top])
        self.page.wait_for_timeout(1000)
        clip = {"x": x, "y": y, "width": right - left, "height": bottom - top}
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, clip=clip)
        self.page.set_viewport_size(before)


def read_json(path: Path) -> dict:
    """The object in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def _path(url: str) -> str:
    return re.sub(r"^\w+://[^/]+", "", url).partition("?")[0]
