"""The parts of quickstart.py and dev/ that work without a network and without ComfyUI."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import tarfile

import pytest
import yaml

import quickstart
from dev import comfy_server, setup

PACK = setup.ROOT


def make_archive(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


def test_the_host_is_unpacked_without_the_rest_of_its_package(tmp_path):
    files = {"p-1/vendor/ComfyUI/main.py": "run", "p-1/vendor/ComfyUI/a/b.py": "b", "p-1/setup.py": "no"}
    setup.extract_host(make_archive(tmp_path / "p.tar.gz", files), tmp_path / "ComfyUI")
    found = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "ComfyUI").rglob("*") if path.is_file()}
    assert found == {"ComfyUI/main.py", "ComfyUI/a/b.py", "ComfyUI/quickstart.sha256"}


@pytest.mark.parametrize("path", ["../../evil.py", "/etc/evil.py", "a/../../../evil.py", "c:evil.py", "..\\evil.py"])
def test_a_path_that_leads_out_of_the_archive_is_refused_and_nothing_stays(tmp_path, path):
    files = {"p-1/vendor/ComfyUI/main.py": "run", "p-1/vendor/ComfyUI/" + path: "evil"}
    archive = make_archive(tmp_path / "p.tar.gz", files)
    with pytest.raises(setup.SetupError, match="unsafe"):
        setup.extract_host(archive, tmp_path / "ComfyUI")
    assert list(tmp_path.iterdir()) == [archive]


def test_an_archive_without_the_host_is_refused_and_the_old_host_stays(tmp_path):
    old = tmp_path / "ComfyUI"
    old.mkdir()
    with pytest.raises(setup.SetupError, match=r"main\.py"):
        setup.extract_host(make_archive(tmp_path / "p.tar.gz", {"p-1/setup.py": "no"}), old)
    assert old.is_dir() and len(list(tmp_path.iterdir())) == 2


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with requirement files and a fake pip that records its calls."""
    for name in ("requirements.txt", "requirements-test.txt", "comfyui/requirements.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".venv").mkdir()
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "STAMP", tmp_path / ".venv" / "quickstart.json")
    calls = []
    monkeypatch.setattr(setup, "run_logged", lambda command, log, what: calls.append(command))
    return tmp_path, calls


def test_packages_are_installed_once_and_again_when_a_requirement_changes(project):
    root, calls = project
    install = lambda with_tests: setup.install(root / "comfyui", with_tests)  # noqa: E731
    install(True)
    install(True)
    install(False)
    assert len(calls) == 1
    (root / "requirements.txt").write_text("more")
    install(False)
    install(False)
    assert len(calls) == 2 and not any("requirements-test" in word for word in calls[1])
    install(True)
    assert len(calls) == 3 and any("requirements-test" in word for word in calls[2])


def test_an_interrupted_install_is_repeated(project, monkeypatch):
    root, calls = project
    setup.install(root / "comfyui", False)
    (root / "requirements.txt").write_text("more")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(setup, "run_logged", interrupted)
        with pytest.raises(KeyboardInterrupt):
            setup.install(root / "comfyui", False)
    (root / "requirements.txt").write_text("requirements.txt")
    setup.install(root / "comfyui", False)
    assert len(calls) == 2


def test_only_large_downloads_are_shown(tmp_path, capsys):
    lines = ["(270 kB)", "(99.5 MB)", "(530.6 MB)", "(1.2 GB)"]
    script = ";".join(f"print('  Downloading https://x/{size[1:4]}.whl {size}')" for size in lines)
    setup.run_logged([sys.executable, "-c", script], tmp_path / "x.log", "it")
    assert capsys.readouterr().out == "  downloading 530.whl (530.6 MB)\n  downloading 1.2.whl (1.2 GB)\n"


def test_a_python_without_ensurepip_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(setup, "HOST", tmp_path / ".host")
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(setup.SetupError, match=r"apt-get install python3\.\d+-venv"):
        setup.make_venv()


def test_a_failing_command_shows_the_end_of_its_output(tmp_path):
    script = "print('first'); print('last words'); raise SystemExit(3)"
    with pytest.raises(setup.SetupError, match=r"the step failed \(exit code 3\)(.|\n)*last words"):
        setup.run_logged([sys.executable, "-c", script], tmp_path / "log" / "x.log", "the step")
    assert "first" in (tmp_path / "log" / "x.log").read_text()


def test_a_model_is_found_by_its_name_and_by_its_folder_s_name():
    known = ["bundled/small", "family/small", "other"]
    assert quickstart.choose_model("family/small", known) == "family/small"
    assert quickstart.choose_model("small", known) == "bundled/small"
    with pytest.raises(setup.SetupError, match=r"'none'.*bundled/small, family/small, other"):
        quickstart.choose_model("none", known)


def test_the_command_line_changes_the_job(tmp_path, monkeypatch):
    monkeypatch.setattr(quickstart, "BASE", tmp_path / "base")
    (tmp_path / "base" / "input").mkdir(parents=True)
    (tmp_path / "hum.wav").write_bytes(b"sound")
    line = ["--melody", str(tmp_path / "hum.wav"), "--text", "jazz", "--duration", "3.5", "--seed", "0"]
    prompt = quickstart.build_prompt(quickstart.parse_arguments(line), [])
    inputs = {node["class_type"]: node["inputs"] for node in prompt.values()}
    assert inputs["LoadAudio"]["audio"] == "hum.wav"
    assert (tmp_path / "base" / "input" / "hum.wav").read_bytes() == b"sound"
    assert inputs["MusicGenTextEncode"]["text"] == "jazz"
    assert (inputs["MusicGenSampleTokens"]["duration"], inputs["MusicGenSampleTokens"]["seed"]) == (3.5, 0)


def test_a_melody_file_that_is_not_there_is_told_before_anything_starts(capsys):
    with pytest.raises(SystemExit):
        quickstart.parse_arguments(["--melody", "nowhere.wav"])
    assert "no melody file nowhere.wav" in capsys.readouterr().err


def test_a_base_directory_links_the_pack_and_is_prepared_only_once(tmp_path):
    pack, moved, base = tmp_path / "pack", tmp_path / "moved", tmp_path / "base"
    pack.mkdir()
    moved.mkdir()
    comfy_server.prepare_base(base, pack)
    link = base / "custom_nodes" / "musicgen"
    settings = base / "user" / "default" / "comfy.settings.json"
    assert link.resolve() == pack and json.loads(settings.read_text())["Comfy.TutorialCompleted"]
    settings.write_text("{}")
    comfy_server.prepare_base(base, moved)
    assert link.resolve() == moved and settings.read_text() == "{}"


def test_a_folder_in_the_place_of_the_link_is_never_deleted(tmp_path):
    (tmp_path / "base" / "custom_nodes" / "musicgen").mkdir(parents=True)
    (tmp_path / "base" / "custom_nodes" / "musicgen" / "mine.txt").write_text("mine")
    with pytest.raises(comfy_server.ComfyError, match="in the way"):
        comfy_server.prepare_base(tmp_path / "base", tmp_path)
    assert (tmp_path / "base" / "custom_nodes" / "musicgen" / "mine.txt").exists()


def test_refusals_and_failures_become_one_sentence():
    refused = {"error": {"message": "m", "details": "d"}, "node_errors": {"1": {
        "class_type": "Loader", "errors": [{"message": "Value not in list", "details": "model:\n 'x'"}]}}}  # fmt: skip
    assert comfy_server.describe_refusal(refused) == "Loader: Value not in list: model: 'x'"
    assert comfy_server.describe_refusal({"error": refused["error"], "node_errors": {}}) == "m: d"
    failed = {"node_type": "Loader", "exception_message": "no\nfile\n", "exception_type": "ValueError"}
    entry = {"status": {"status_str": "error", "messages": [["execution_start", {}], ["execution_error", failed]]}}
    assert comfy_server.describe_failure(entry) == "Loader: no file"
    assert comfy_server.describe_failure({"status": {"status_str": "success", "messages": []}}) is None


def test_pictures_arrive_with_what_they_belong_to():
    head = json.dumps({"node_id": "3"}).encode()
    message = struct.pack(">II", 4, len(head)) + head + b"JPEG"
    assert comfy_server._parse_binary(message) == ("preview", {"node_id": "3", "image": b"JPEG"})
    assert comfy_server._parse_binary(struct.pack(">II", 1, 1) + b"JPEG") == ("preview", {"image": b"JPEG"})


def test_progress_is_one_line_per_quarter_where_no_terminal_shows_it(capsys):
    show = comfy_server.ProgressLine({"3": {"class_type": "Sampler"}})
    for value in range(1, 101):
        show("progress", {"node": "3", "value": value, "max": 100})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == ["0%", "25%", "50%", "75%", "100%"]


def test_nothing_but_the_standard_library_is_needed_before_there_is_an_environment():
    script = """
import sys
sys.path.insert(0, sys.argv[1])
import quickstart
quickstart.parse_arguments(["--duration", "3"])
ours = {"quickstart", "dev", "__main__"}
loaded = {name.partition(".")[0] for name in sys.modules} - ours
print(sorted(name for name in loaded if name not in sys.stdlib_module_names))
"""
    command = [sys.executable, "-I", "-S", "-c", script, str(PACK)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_hosted_ci_and_pre_commit_run_the_checks_of_the_second_command():
    read = lambda name: yaml.safe_load((PACK / name).read_text(encoding="utf-8"))  # noqa: E731
    steps = read(".github/workflows/test.yml")["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["python quickstart.py test"]
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert [hook["entry"] for hook in repository["hooks"]] == [f"python -m {check}" for check in quickstart.CHECKS]
    assert (PACK / ".ci" / "run").read_text(encoding="ascii").endswith("python3 quickstart.py test\n")
