"""Downloads from a hub on this machine: whole or not at all, whatever happens in between.

Each runs in a process of its own, since huggingface_hub reads its endpoint from the environment once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from musicgen import load_model
from musicgen.checkpoints.discovery import find_models
from tests.conftest import GOLDEN, ROOT
from tests.hub import Hub, serve

CHECKPOINTS = GOLDEN / "checkpoints"
SMALL = "facebook/musicgen-small"
WANTED = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
# The package without its __init__, so that a child needs no torch.
CHILD = """
import json, os, resource, sys, types
package = types.ModuleType("musicgen")
package.__path__ = [sys.argv[1]]
sys.modules["musicgen"] = package
from pathlib import Path
from musicgen.hub import download, releases

def fetch(repo, root, stop, limit):
    seen, said = [], []
    def on_progress(progress):
        seen.append((progress.done, progress.total))
        said.append(progress.file)
        if stop and progress.done >= stop:
            raise KeyboardInterrupt
    release = next(r for r in releases.RELEASES if r.repo == repo)
    places = {kind: [Path(root, kind)] for kind in ("text_encoders", "audio_encoders")}
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit or hard, hard))
    try:
        path = download.fetch(release, Path(root, "musicgen"), places, on_progress)
        return {"path": str(path), "seen": seen, "said": said}
    except FileNotFoundError as error:
        return {"error": str(error)}
    except KeyboardInterrupt:
        return {"cancelled": True}
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

for line in sys.stdin:
    print(json.dumps(fetch(*json.loads(line))), flush=True)
os._exit(0)
"""


class Child:
    """A process that fetches, one model after the other, from the hub at an address."""

    def __init__(self, address: str, home: Path, **environment: str) -> None:
        values = {
            "HF_ENDPOINT": address,
            "HF_HOME": str(home),
            "HF_HUB_DOWNLOAD_TIMEOUT": "5",
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": "secret",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(ROOT / "musicgen")],
            env={**os.environ, **values, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, repo: str, root: Path, stop: int = 0, limit: int = 0) -> None:
        self.process.stdin.write(json.dumps([repo, str(root), stop, limit]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> SimpleNamespace:
        result: dict[str, Any] = {"error": None, "path": None, "seen": [], "cancelled": False}
        return SimpleNamespace(**result | json.loads(self.process.stdout.readline()))

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class Bench:
    """A hub, a models folder, and processes that fetch from the one into the other."""

    def __init__(self, hub: Hub, child: Child, root: Path) -> None:
        self.hub, self.child, self.root, self.models = hub, child, root, root / "musicgen"

    def fetch(self, repo: str = SMALL, child: Child | None = None, **options: int) -> SimpleNamespace:
        child = child or self.child
        child.ask(repo, self.root, **options)
        return child.answer()

    def fail(self, *words: str, repo: str = SMALL, **options: Any) -> str:
        """A fetch that must be refused in a sentence that tells how to do it by hand; nothing is taken for a model."""
        error = self.fetch(repo, **options).error
        assert error is not None
        by_hand = (f"of {self.hub.address}/{repo} into {self.models / repo.split('/')[1]}", "could not be downloaded")
        assert [word for word in (*words, *by_hand) if word not in error] == [], error
        assert "\n" not in error and error.endswith(".")
        assert find_models(self.models) == {}
        return error

    def partial_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.models.glob(".downloads/*/*.part"))

    def assert_whole(self) -> None:
        assert list(find_models(self.models)) == ["musicgen-small"]
        folder = self.models / "musicgen-small"
        assert sorted(path.name for path in folder.iterdir()) == WANTED
        for name in WANTED:
            assert (folder / name).read_bytes() == self.hub.repositories[SMALL][name]
        assert not list(self.models.glob(".downloads/*"))


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serve() as hub:
        yield hub


@pytest.fixture
def children(hub, tmp_path) -> Iterator[Callable[..., Child]]:
    """Start further processes."""
    started: list[Child] = []

    def start(address: str = hub.address, **environment: str) -> Child:
        started.append(Child(address, tmp_path / "home", **environment))
        return started[-1]

    yield start
    for child in started:
        child.end()


@pytest.fixture(scope="module")
def child(hub, tmp_path_factory) -> Iterator[Child]:
    child = Child(hub.address, tmp_path_factory.mktemp("home"))
    yield child
    child.end()


@pytest.fixture
def bench(hub, child, tmp_path) -> Bench:
    hub.mend()
    hub.repositories.clear()
    hub.add(SMALL, CHECKPOINTS / "hf-text", README__md=b"#", state_dict__bin=b"x", compression_state_dict__bin=b"x",
            pytorch_model__bin=b"x", __gitattributes=b"x")  # fmt: skip
    return Bench(hub, child, tmp_path)


def test_a_model_is_fetched_in_one_layout_and_loads(bench):
    result = bench.fetch()
    assert result.path == str(bench.models / "musicgen-small")
    bench.assert_whole()
    assert sorted(bench.hub.fetched()) == WANTED
    total = sum(len(bench.hub.repositories[SMALL][name]) for name in WANTED)
    assert result.seen[-1] == [total, total] and result.seen == sorted(result.seen)
    assert load_model(bench.models / "musicgen-small").config.lm.dim == 48


def test_the_token_of_the_environment_goes_to_the_hub_and_no_further(bench):
    bench.fetch()
    assert bench.hub.tokens == {("api", "Bearer secret"), ("facebook", "Bearer secret"), ("cdn", None)}


def test_what_is_there_is_not_asked_for_again(bench):
    bench.fetch()
    bench.hub.mend()
    assert bench.fetch().path == str(bench.models / "musicgen-small")
    assert bench.hub.requests == []


def test_shards_are_fetched_with_their_index(bench):
    bench.hub.add(SMALL, CHECKPOINTS / "hf-text-sharded", pytorch_model__bin=b"x")
    bench.fetch()
    assert load_model(bench.models / "musicgen-small").config.lm.dim == 48
    assert "pytorch_model.bin" not in bench.hub.fetched()


def test_a_stalled_download_is_cancelled_and_goes_on_where_it_stopped(bench):
    bench.hub.stall_after = 400_000
    assert bench.fetch(stop=300_000).cancelled
    assert find_models(bench.models) == {}
    bench.hub.go_on.set()
    bench.hub.mend()
    bench.fetch()
    bench.assert_whole()
    assert len(bench.hub.resumed()) == 1 and int(bench.hub.resumed()[0][6:-1]) >= 250_000


def test_a_slow_download_reports_its_bytes_as_they_come(bench):
    bench.hub.rate = 3_000_000
    seen = [done for done, _ in bench.fetch().seen]
    assert len(set(seen)) > 3
    bench.assert_whole()


def test_a_connection_that_breaks_is_taken_up_again_at_once(bench):
    bench.hub.cuts = [300_000, 200_000, 100_000]
    assert bench.fetch().path
    bench.assert_whole()
    assert len(bench.hub.resumed()) == 3


def test_a_server_that_knows_no_ranges_sends_the_file_again(bench):
    bench.hub.ranges, bench.hub.cuts = False, [300_000]
    assert bench.fetch().path
    bench.assert_whole()


def test_a_connection_that_stays_broken_is_refused_and_later_goes_on(bench):
    bench.hub.cuts = [400_000, *[0] * 20]
    bench.fail("connection failed", "goes on where it stopped")
    kept = bench.partial_bytes()
    assert kept > 300_000
    bench.hub.mend()
    bench.fetch()
    bench.assert_whole()
    assert bench.hub.resumed() == [f"bytes={kept}-"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_with_another_hash_is_thrown_away(bench, name):
    bench.hub.damage = name
    bench.fail(f"{name} arrived damaged")
    assert bench.partial_bytes() == 0
    bench.hub.mend()
    bench.fetch()
    bench.assert_whole()


def test_a_file_longer_than_stated_is_refused(bench):
    bench.hub.lengthen = "model.safetensors"
    bench.fail("model.safetensors is longer than")


@pytest.mark.parametrize(
    ("place", "status", "words"),
    [
        ("/api/", 401, "the hub answers 401, no permission"),
        ("/api/", 403, "the hub answers 403, no permission"),
        ("/api/", 404, "the hub answers 404, not found"),
        ("/api/", 500, "the hub answers 500"),
        ("/resolve/.*/config.json", 401, "the hub answers 401, no permission"),
        ("/cdn/", 403, "the hub answers 403, no permission"),
        ("/cdn/", 404, "the hub answers 404, not found"),
    ],
)
def test_what_the_hub_refuses_is_told_with_the_way_by_hand(bench, place, status, words):
    bench.hub.refuse = {place: status}
    error = bench.fail(words, "config.json", "tokenizer.json", "model.safetensors")
    if place == "/cdn/":
        assert "put config.json, tokenizer_config.json, tokenizer.json, model.safetensors of" in error


class TestAPageInsteadOfAFile:
    """A hotel's network, a filter or a mirror answers 200 with HTML: nothing of it is kept, and later all is well."""

    @pytest.mark.parametrize(
        ("place", "words"),
        [
            ("/cdn/", "a web page (text/html) came in place of model.safetensors"),
            ("config.json", "a web page (text/html) came in place of config.json"),
            ("/api/", "something else than its list of files"),
        ],
    )
    def test_it_is_refused_in_words_and_nothing_of_it_is_kept(self, bench, place, words):
        for _ in range(2):
            bench.hub.pages = place
            bench.fail(words, "log")
            assert bench.partial_bytes() == 0
        bench.hub.mend()
        bench.fetch()
        bench.assert_whole()

    def test_it_leaves_the_bytes_that_were_there(self, bench):
        bench.hub.cuts = [400_000, *[0] * 20]
        bench.fail("connection failed")
        kept = bench.partial_bytes()
        bench.hub.mend()
        bench.hub.pages = "/cdn/"
        bench.fail("web page")
        assert bench.partial_bytes() == kept
        bench.hub.mend()
        bench.fetch()
        bench.assert_whole()
        assert bench.hub.resumed() == [f"bytes={kept}-"]


def test_a_beginning_that_proves_wrong_is_fetched_once_more_from_the_start_in_the_same_run(bench):
    bench.hub.cuts = [400_000, *[0] * 20]
    bench.fail("connection failed")
    (part,) = bench.models.glob(".downloads/*/*.part")
    part.write_bytes(b"<html>" + part.read_bytes()[6:])
    bench.hub.mend()
    bench.fetch()
    bench.assert_whole()


def test_an_answer_of_another_length_is_refused_before_a_byte_is_kept(bench):
    bench.hub.repositories[SMALL]["model.safetensors"] += b"more"
    bench.hub.sizes = {"model.safetensors": 10_000_000}
    bench.fail("model.safetensors is shorter than the 10000000 bytes that the hub states")
    assert bench.partial_bytes() == 0


def test_a_list_without_hashes_is_refused(bench):
    bench.hub.bare = True
    bench.fail("states no size and hash of config.json")


def test_where_the_hub_asks_to_wait_the_download_waits_and_says_so(bench):
    bench.hub.busy = ["1", "1"]
    result = bench.fetch()
    assert any("the hub asks to wait 1 s" in text for text in result.said)
    bench.assert_whole()


def test_where_the_hub_asks_to_wait_for_long_the_user_is_told(bench):
    bench.hub.busy = ["3600"]
    bench.fail("the hub answers 429, too many requests; run it again in 3600 s")


def test_a_range_that_the_hub_cannot_satisfy_is_asked_from_the_start(bench):
    bench.hub.cuts = [400_000, *[0] * 20]
    bench.fail("connection failed")
    bench.hub.mend()
    bench.hub.no_ranges = True
    bench.fetch()
    bench.assert_whole()


def test_offline_mode_asks_nobody(bench, children):
    bench.fail("offline mode is on", "config.json", child=children(HF_HUB_OFFLINE="1"))
    assert bench.hub.requests == []


def test_a_hub_that_is_not_there_is_told(bench, children):
    error = bench.fetch(child=children("http://127.0.0.1:9")).error
    assert "the connection failed (Connect" in error and "of http://127.0.0.1:9/facebook/musicgen-small" in error


def test_a_repository_without_a_whole_model_is_refused(bench):
    del bench.hub.repositories[SMALL]["config.json"], bench.hub.repositories[SMALL]["state_dict.bin"]
    bench.fail("holds no whole model in a layout that is known here")


def test_a_disk_that_takes_no_more_is_told_and_the_download_goes_on_later(bench):
    bench.fail("cannot be written (File too large)", limit=500_000)
    assert bench.partial_bytes() == 500_000
    bench.fetch()
    bench.assert_whole()
    assert bench.hub.resumed() == ["bytes=500000-"]


def test_a_disk_without_room_is_told_before_anything_is_fetched(bench):
    bench.hub.sizes = {"model.safetensors": 10**17}
    bench.fail("1e+08 GB are missing and")
    assert bench.hub.fetched() == []


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_a_killed_download_leaves_nothing_that_passes_for_a_model_and_goes_on_later(bench, children):
    bench.hub.stall_after = 600_000
    child = children()
    child.ask(SMALL, bench.root)
    deadline = time.monotonic() + 30
    while bench.partial_bytes() < 500_000 and time.monotonic() < deadline:
        time.sleep(0.02)
    child.process.send_signal(signal.SIGKILL)
    child.process.wait()
    assert find_models(bench.models) == {}
    kept = bench.partial_bytes()
    bench.hub.go_on.set()
    bench.hub.mend()
    bench.fetch()
    bench.assert_whole()
    assert kept >= 500_000 and bench.hub.resumed() == [f"bytes={kept}-"]


def test_a_later_revision_does_not_go_on_from_an_earlier_one(bench):
    stale = bench.models / ".downloads" / "musicgen-small-0123456789ab"
    stale.mkdir(parents=True)
    (stale / "model.safetensors.part").write_bytes(b"old")
    (stale / "config.json").write_bytes(b"old")
    bench.fetch()
    bench.assert_whole()


def test_two_processes_fetch_a_model_once(bench, children):
    pair = children(), bench.child
    for child in pair:
        child.ask(SMALL, bench.root)
    assert {child.answer().path for child in pair} == {str(bench.models / "musicgen-small")}
    bench.assert_whole()
    assert sorted(bench.hub.fetched()) == WANTED


def test_a_folder_in_the_way_is_left_alone(bench):
    (bench.models / "musicgen-small").mkdir(parents=True)
    (bench.models / "musicgen-small" / "notes.txt").write_text("mine")
    bench.fail("holds something else")
    assert (bench.models / "musicgen-small" / "notes.txt").read_text() == "mine"


def test_an_empty_folder_of_the_name_is_filled(bench):
    (bench.models / "musicgen-small").mkdir(parents=True)
    bench.fetch()
    bench.assert_whole()


@pytest.fixture
def style(bench) -> Bench:
    hub = bench.hub
    hub.repositories["facebook/musicgen-style"] = {"state_dict.bin": b"s" * 5000, "README.md": b"#"}
    hub.repositories["facebook/musicgen-style"]["compression_state_dict.bin"] = b"c" * 200_000
    hub.add("google-t5/t5-base", CHECKPOINTS / "hf-text", rust_model__ot=b"x", pytorch_model__bin=b"x")
    hub.repositories["m-a-p/MERT-v1-95M"] = {"config.json": b"{}", "pytorch_model.bin": b"m", "modeling_MERT.py": b"#"}
    hub.add("facebook/encodec_32khz", CHECKPOINTS / "hf-text")
    return bench


def test_a_model_comes_with_what_it_needs_and_does_not_hold(style):
    assert style.fetch("facebook/musicgen-style").path
    t5, mert = style.root / "text_encoders" / "t5-base", style.root / "audio_encoders" / "MERT-v1-95M"
    assert sorted(path.name for path in t5.iterdir()) == WANTED
    assert sorted(path.name for path in mert.iterdir()) == ["config.json", "pytorch_model.bin"]
    names = sorted(path.name for path in (style.models / "musicgen-style").iterdir())
    assert names == ["compression_state_dict.bin", "state_dict.bin"]
    assert list(find_models(style.models)) == ["musicgen-style"]


def test_a_companion_that_is_there_is_not_fetched(style):
    for place in ("text_encoders/t5-base", "audio_encoders/MERT-v1-95M"):
        (style.root / place).mkdir(parents=True)
        (style.root / place / "config.json").touch()
    assert style.fetch("facebook/musicgen-style").path
    assert sorted(style.hub.fetched()) == ["compression_state_dict.bin", "state_dict.bin"]


def test_a_model_is_not_there_before_its_companions_are(style):
    style.hub.refuse = {"/cdn/m-a-p/": 403}
    error = style.fail("the hub answers 403", repo="facebook/musicgen-style")
    assert "google-t5/t5-base" not in error  # that one has come
    assert "m-a-p/MERT-v1-95M into" in error and "state_dict.bin, compression_state_dict.bin of" in error


def test_a_codec_that_is_only_named_is_fetched_into_the_model_s_folder(style):
    style.hub.repositories["facebook/musicgen-style"]["compression_state_dict.bin"] = b"pointer"
    assert style.fetch("facebook/musicgen-style").path
    codec = style.models / "musicgen-style" / "encodec_32khz"
    assert (codec / "config.json").is_file() and (codec / "model.safetensors").is_file()
    assert list(find_models(style.models)) == ["musicgen-style"]
