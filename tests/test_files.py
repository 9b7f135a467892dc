"""Whatever happens while a file or folder is written, readers find the old one or the new one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from captioner import files
from captioner.files import (
    locked,
    recover_folder,
    whole_file,
    whole_folder,
    whole_text,
    write_atomically,
)


class PowerCutError(Exception):
    pass


def content(folder: Path) -> dict[str, str]:
    """All files below a folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write_folder(path: Path, text: str) -> None:
    with whole_folder(path) as new:
        (new / "a").write_text(text)
        (new / "b").write_text(text)


def test_a_written_file_holds_its_text_and_nothing_lies_beside_it(tmp_path: Path):
    path = tmp_path / "new" / "a.json"
    for text in ("one", "größer"):
        write_atomically(path, text)
        assert content(tmp_path) == {"new/a.json": text}


@pytest.mark.parametrize("old", [None, "old"])
def test_a_file_whose_writing_fails_stays_as_it_was(tmp_path: Path, old: str | None):
    path = tmp_path / "a.txt"
    if old is not None:
        path.write_text(old)
    before = content(tmp_path)
    with pytest.raises(PowerCutError), whole_file(path) as temporary:
        temporary.write_text("half of the n")
        raise PowerCutError
    with pytest.raises(PowerCutError), whole_text(path) as opened:
        opened.write("half of the n")
        raise PowerCutError
    assert content(tmp_path) == before


def test_a_file_is_not_seen_before_it_is_whole(tmp_path: Path):
    path = tmp_path / "a.txt"
    with whole_text(path) as opened:
        opened.write("line\n")
        assert not path.exists()
    assert path.read_text() == "line\n"


def test_what_is_written_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch):
    path, seen = tmp_path / "a.txt", []

    def fsync(descriptor: int) -> None:
        seen.append((os.pread(descriptor, 100, 0), path.exists()))

    monkeypatch.setattr(files.os, "fsync", fsync)
    write_atomically(path, "text")
    assert seen == [(b"text", False)]


def test_a_folder_takes_the_place_of_the_old_one_whole(tmp_path: Path):
    with whole_folder(tmp_path / "x" / "last") as new:
        (new / "only in the old one").touch()
    write_folder(tmp_path / "x" / "last", "new")
    assert content(tmp_path) == {"x/last/a": "new", "x/last/b": "new"}


@pytest.mark.parametrize("old", [False, True])
def test_a_folder_whose_writing_fails_stays_as_it_was(tmp_path: Path, old: bool):
    if old:
        write_folder(tmp_path / "last", "old")
    before = content(tmp_path)
    with pytest.raises(PowerCutError), whole_folder(tmp_path / "last") as new:
        (new / "a").write_text("new")
        raise PowerCutError
    assert content(tmp_path) == before
    assert list(tmp_path.iterdir()) == [tmp_path / "last"] * old


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_folder_survives_a_kill_at_any_rename(tmp_path: Path, monkeypatch, renames: int):
    """After the first rename nothing stands at the path, and recovery brings the old one back."""
    path, real, left = tmp_path / "last", Path.replace, renames
    write_folder(path, "old")

    def replace(source: Path, target: Path) -> Path:
        nonlocal left
        if left == 0:
            raise PowerCutError
        left -= 1
        return real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        patch.setattr(files.shutil, "rmtree", lambda *_, **__: None)  # the dead do not tidy up
        if renames < 2:
            with pytest.raises(PowerCutError):
                write_folder(path, "new")
            assert path.exists() == (renames == 0)
    recover_folder(path)
    assert content(path) == {"a": "old", "b": "old"}
    write_folder(path, "newer")  # what was left lying about does not hinder the next one
    assert content(tmp_path) == {"last/a": "newer", "last/b": "newer"}


def test_recovery_never_replaces_what_is_there(tmp_path: Path):
    write_folder(tmp_path / "last", "new")
    (tmp_path / ".last.old").mkdir()
    recover_folder(tmp_path / "last")
    recover_folder(tmp_path / "nothing")
    assert content(tmp_path / "last") == {"a": "new", "b": "new"}
    assert not (tmp_path / "nothing").exists()


# Others at the same file or folder.


def in_a_child(call) -> int:
    """The exit status of a process that calls: 0, or 3 for a ValueError."""
    child = os.fork()
    if not child:
        try:
            call()
        except ValueError:
            os._exit(3)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_file_that_another_process_is_writing_is_refused(tmp_path: Path):
    path = tmp_path / "a.txt"
    with whole_text(path) as opened:
        opened.write("ours")
        assert in_a_child(lambda: write_atomically(path, "theirs")) == 3
    assert content(tmp_path) == {"a.txt": "ours"}
    assert in_a_child(lambda: write_atomically(path, "theirs")) == 0
    assert content(tmp_path) == {"a.txt": "theirs"}


@pytest.mark.parametrize("text", ["", "new", "a longer text than there was"])
def test_what_a_killed_writer_left_is_written_over(tmp_path: Path, text: str):
    (tmp_path / ".a.partial.txt").write_text("half of something")
    with whole_file(tmp_path / "a.txt") as temporary:
        if text:
            temporary.write_text(text)
    assert content(tmp_path) == {"a.txt": text}


def test_a_folder_is_locked_for_others_as_long_as_the_block_lasts(tmp_path: Path):
    def take() -> None:
        with locked(tmp_path):
            pass

    with locked(tmp_path):
        assert in_a_child(take) == 3
        assert in_a_child(take) == 3  # which has not opened the lock by closing it
    assert in_a_child(take) == 0


def test_one_that_waits_gets_the_folder_when_it_is_free(tmp_path: Path):
    done = tmp_path / "done"

    def wait() -> None:
        with locked(tmp_path, wait=True):
            done.touch()

    with locked(tmp_path):
        child = os.fork()
        if not child:
            wait()
            os._exit(0)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        assert not done.exists()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and done.exists()


@pytest.mark.skipif(files.fcntl is None, reason="this system has no such locks")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_keeps_nobody_out(tmp_path: Path, monkeypatch, number: int):
    def refuse(*_: object) -> None:
        raise OSError(number, "no locks here")

    for name in ("flock", "lockf"):
        monkeypatch.setattr(files.fcntl, name, refuse)
    with locked(tmp_path):
        write_atomically(tmp_path / "a.txt", "text")
    assert (tmp_path / "a.txt").read_text() == "text"


def test_what_cannot_be_written_is_named_and_what_was_there_kept(tmp_path: Path, monkeypatch):
    write_atomically(tmp_path / "a.txt", "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    said = r"a.txt can't be written: No space left on device; what stood there is kept$"
    with pytest.raises(OSError, match=said):
        write_atomically(tmp_path / "a.txt", "new")
    with pytest.raises(OSError, match=r"last can't be written: No space left on device$"):
        write_folder(tmp_path / "last", "new")
    assert content(tmp_path) == {"a.txt": "old"}
