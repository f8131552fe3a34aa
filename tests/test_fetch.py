"""Downloads: verified, atomic, and clear when they fail. Served by a local server."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from featx.errors import DownloadError, DownloadNeeded
from featx.fetch import fetch, file_digest, no_downloads, verify

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        # /short promises more than it sends: a connection that breaks off.
        length = len(CONTENT) + (100 if self.path == "/short" else 0)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *args: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "known", [{"sha256": SHA256}, {"sha256_prefix": SHA256[:8]}, {"md5": MD5}, {}]
)
def test_a_file_that_agrees_lands_whole(url: str, tmp_path: Path, known: dict[str, str]) -> None:
    dest = tmp_path / "made" / "file.bin"
    assert fetch(f"{url}/file", dest, **known) == dest
    assert dest.read_bytes() == CONTENT
    assert [p.name for p in dest.parent.iterdir()] == ["file.bin"]


@pytest.mark.parametrize(
    "known", [{"sha256": "0" * 64}, {"sha256_prefix": "beef"}, {"md5": "0" * 32}]
)
def test_a_file_that_differs_is_refused_and_not_left_behind(
    url: str, tmp_path: Path, known: dict[str, str]
) -> None:
    with pytest.raises(DownloadError, match="is not the file") as caught:
        fetch(f"{url}/file", tmp_path / "file.bin", what="ResNet-50", **known)
    assert str(caught.value).startswith("ResNet-50")
    assert f"put it at {tmp_path / 'file.bin'}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "reason"), [("missing", "Not Found"), ("short", "ended after 7000")]
)
def test_a_failed_download_says_why_and_how_to_do_without(
    url: str, tmp_path: Path, path: str, reason: str
) -> None:
    with pytest.raises(DownloadError, match=reason) as caught:
        fetch(f"{url}/{path}", tmp_path / "file.bin", by_hand="Use --weights FILE.")
    assert "Use --weights FILE." in str(caught.value)
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_no_server_is_a_download_error(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="could not be fetched"):
        fetch("http://127.0.0.1:9/file", tmp_path / "file.bin")


def test_a_right_file_is_not_fetched_again(tmp_path: Path) -> None:
    dest = tmp_path / "file.bin"
    dest.write_bytes(CONTENT)
    assert fetch("http://127.0.0.1:9/never", dest, sha256=SHA256) == dest


def test_a_wrong_file_that_is_there_is_refused_and_kept(tmp_path: Path) -> None:
    dest = tmp_path / "file.bin"
    dest.write_bytes(b"other")
    with pytest.raises(DownloadError, match="Delete or replace it"):
        fetch("http://127.0.0.1:9/never", dest, sha256=SHA256)
    assert dest.read_bytes() == b"other"


def test_verify_and_digest_agree_with_hashlib(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT)
    assert file_digest(path) == SHA256
    assert verify(path, sha256=SHA256, md5=MD5) is None
    assert "expected dead" in (verify(path, sha256_prefix="dead") or "")


def test_where_nothing_is_downloaded_a_file_must_be_there(url: str, tmp_path: Path) -> None:
    dest = tmp_path / "made" / "file.bin"
    said = f"It would be downloaded from {url}/file to {dest}."
    with no_downloads(), pytest.raises(DownloadNeeded, match=f"^{re.escape(said)}$"):
        fetch(f"{url}/file", dest, what="It")
    assert not dest.parent.exists()
    # Behind it everything is as before, and what is there needs no download.
    fetch(f"{url}/file", dest)
    with no_downloads():
        assert fetch("nowhere", dest, sha256=SHA256) == dest
