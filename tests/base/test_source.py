"""What tells one state of code from another, whatever it is called."""

from __future__ import annotations

import hashlib
from pathlib import Path

from robustkit.base import source


def test_a_link_that_leads_nowhere_is_no_code(tmp_path: Path):
    (tmp_path / "package.py").mkdir()
    (tmp_path / "package.py" / "one.py").write_bytes(b"a = 1\n")
    before = source.of_folder(tmp_path)
    (tmp_path / ".#one.py").symlink_to("somebody@somewhere.123:456")
    assert source.of_folder(tmp_path) == before


def test_names_and_contents_tell_but_line_ends_do_not(tmp_path: Path):
    file = tmp_path / "one.py"
    file.write_bytes(b"a = 1\n")
    before = source.of_folder(tmp_path)
    file.write_bytes(b"a = 1\r\n")
    assert source.of_folder(tmp_path) == before
    file.write_bytes(b"a = 2\n")
    changed = source.of_folder(tmp_path)
    file.rename(tmp_path / "two.py")
    assert len({before, changed, source.of_folder(tmp_path)}) == 3


def test_the_digest_of_a_file(tmp_path: Path):
    (tmp_path / "one.py").write_bytes(b"a = 1\n")
    assert source.of_file(tmp_path / "one.py") == hashlib.sha256(b"a = 1\n").hexdigest()
    assert source.of_file(tmp_path / "none.py") == source.of_file(tmp_path) == ""
