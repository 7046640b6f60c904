"""One real ComfyUI server and one page of its frontend for all browser tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.comfy_server import ComfyServer, prepare_base
from dev.media import make_media

from .frontend import Frontend, open_frontend
from .make_workflows import ROOT

PACK = "musicgen"  # the name of the pack's folder in custom_nodes
SCREENSHOTS = ROOT / ".host" / "screenshots"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


def frontend_arguments() -> tuple[str, ...]:
    """ComfyUI's arguments for the frontend in the folder COMFYUI_FRONTEND, where that is set."""
    folder = os.environ.get("COMFYUI_FRONTEND")
    return ("--front-end-root", folder) if folder else ()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, comfyui: Path) -> Iterator[ComfyServer]:
    base = tmp_path_factory.mktemp("browser")
    prepare_base(base, ROOT)
    with ComfyServer(base, comfyui, frontend_arguments()) as server:
        yield server


@pytest.fixture(scope="module")
def shared_frontend(server: ComfyServer) -> Iterator[Frontend]:
    # For one module only: while Playwright lives, no other test could start an event loop.
    make_media(server.base / "input")
    with open_frontend(server.url, "MusicGenLoader") as frontend:
        yield frontend


@pytest.fixture
def frontend(shared_frontend: Frontend) -> Frontend:
    """The page, with no complaints yet."""
    shared_frontend.complaints.clear()
    return shared_frontend
