"""One real ComfyUI server and one page of its frontend for all browser tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.comfy_server import ComfyServer, prepare_base
from quickstart import record_tunes

from .frontend import Frontend, open_frontend
from .make_workflows import ROOT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, comfyui: Path) -> Iterator[ComfyServer]:
    base = tmp_path_factory.mktemp("browser")
    prepare_base(base, ROOT)
    with ComfyServer(base, comfyui) as server:
        yield server


@pytest.fixture(scope="module")
def shared_frontend(server: ComfyServer) -> Iterator[Frontend]:
    # For one module only: while Playwright lives, no other test could start an event loop.
    record_tunes(server.base / "input")
    with open_frontend(server.url, "MusicGenLoader") as frontend:
        yield frontend


@pytest.fixture
def frontend(shared_frontend: Frontend) -> Frontend:
    """The page, with no complaints yet."""
    shared_frontend.complaints.clear()
    return shared_frontend
