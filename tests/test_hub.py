"""A checkpoint goes to Hugging Face's Hub and comes from it; here a folder stands for the Hub."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from tiny import build_tiny, write_picture

from captioner.captioner import Captioner
from captioner.checkpoint import FILES
from captioner.hub import find_folder, upload


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build_tiny().save(tmp_path / "best", **{"epoch": 3, "bleu-4": 12.345, "loss": 1.5})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """huggingface_hub's cache, empty, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


class FakeHub:
    """Keeps repositories as folders of huggingface_hub's cache, as if they had been fetched."""

    def __init__(self, cache: Path):
        self.cache = cache

    def create_repo(self, name: str, private: bool, exist_ok: bool) -> str:
        assert exist_ok
        return f"https://hub/{name}"

    def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> None:
        repository = self.cache / f"models--{repo_id.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        shutil.copytree(folder_path, repository / "snapshots" / ("0" * 40))


def test_what_was_published_is_loaded_by_its_name(
    folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: FakeHub(cache))
    captioner = Captioner.load(folder, "cpu")
    assert captioner.push_to_hub("somebody/shapes") == "https://hub/somebody/shapes"
    picture = write_picture(tmp_path / "a.png")
    fetched = Captioner.load("somebody/shapes", "cpu")
    assert fetched.origin.folder.is_relative_to(cache)
    assert fetched(picture).words == captioner(picture).words
    assert fetched(picture).log_prob == pytest.approx(captioner(picture).log_prob)
    assert (fetched.origin.folder / "README.md").is_file()


def test_a_folder_comes_first_and_a_path_is_never_asked_for(tmp_path: Path, monkeypatch):
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", asked)
    (tmp_path / "runs" / "best").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for path in ("runs/best", "a/b/c", "/runs/other", "../other/best", "other", tmp_path / "x"):
        assert find_folder(path, FILES) == Path(path)


def test_only_a_checkpoint_s_files_are_fetched(tmp_path: Path, monkeypatch):
    def fetched(name: str, allow_patterns: list[str]) -> str:
        assert (name, allow_patterns) == ("owner/name", list(FILES))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    assert find_folder("owner/name", FILES) == tmp_path


def test_without_a_network_one_line_says_so(cache: Path, folder: Path):
    unknown = r"^nobody/nothing is no folder here, and could not be fetched .* Hub: "
    with pytest.raises(ValueError, match=unknown) as told:
        Captioner.load("nobody/nothing")
    assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match=r"^nobody/nothing could not be published on .* Hub: "):
        Captioner.load(folder, "cpu").push_to_hub("nobody/nothing")
    with pytest.raises(ValueError, match="'nothing' is no name on the Hub"):
        upload(folder, "nothing", private=False)
