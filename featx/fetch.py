"""Fetch a file: verified before it is believed, published under its name only when whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

from featx.errors import DownloadError, DownloadNeeded

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0

_refused: ContextVar[bool] = ContextVar("refused", default=False)


@contextlib.contextmanager
def no_downloads() -> Iterator[None]:
    """Raise `DownloadNeeded` inside wherever something would be downloaded."""
    token = _refused.set(True)
    try:
        yield
    finally:
        _refused.reset(token)


def downloads_allowed() -> bool:
    """Return whether this is outside of `no_downloads`."""
    return not _refused.get()


def check_allowed(what: str, source: str, place: str = "") -> None:
    """Refuse a download inside of `no_downloads`.

    Raises
    ------
    DownloadNeeded
        Says what would come from where.
    """
    if not downloads_allowed():
        to = f" to {place}" if place else ""
        raise DownloadNeeded(f"{what} would be downloaded from {source}{to}.")


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the hex digest of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def verify(
    path: Path,
    *,
    sha256: str | None = None,
    sha256_prefix: str | None = None,
    md5: str | None = None,
) -> str | None:
    """Compare a file with what is known of it.

    Returns
    -------
    str or None
        What does not agree, or None when everything that is known agrees.
    """
    if md5 and (found := file_digest(path, "md5")) != md5:
        return f"its MD5 is {found}, expected {md5}"
    wanted = sha256 or sha256_prefix
    if wanted and not (found := file_digest(path)).startswith(wanted.lower()):
        return f"its SHA-256 is {found}, expected {wanted}{'' if sha256 else '...'}"
    return None


def fetch(
    url: str,
    dest: Path,
    *,
    sha256: str | None = None,
    sha256_prefix: str | None = None,
    md5: str | None = None,
    what: str = "",
    by_hand: str = "",
    progress: bool = True,
) -> Path:
    """Return `dest`, downloaded from `url` unless a right file is there already.

    Parameters
    ----------
    url : str
        Where the file is.
    dest : Path
        Where it goes; its folder is made.
    sha256, sha256_prefix, md5 : str, optional
        What is known of the content, as lowercase hex.
    what : str
        What the file is, for messages: ``"CIFAR-10"``.
    by_hand : str
        The last sentence of an error: how to do without the download.
    progress : bool
        Whether to draw a progress bar where there is a terminal.

    Raises
    ------
    DownloadError
        When the file cannot be fetched or is not the right one; nothing is left under `dest`.
    DownloadNeeded
        Inside of `no_downloads`, when it is not there.
    """
    what = what or dest.name
    known = {"sha256": sha256, "sha256_prefix": sha256_prefix, "md5": md5}
    if dest.is_file():
        wrong = verify(dest, **known)
        if wrong is None:
            return dest
        raise DownloadError(
            f"{what}: the file at {dest} is not the right one: {wrong}. Delete or replace it."
        )
    check_allowed(what, url, str(dest))
    hint = by_hand or f"Download {url} by hand and put it at {dest}."
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        part = dest.with_name(f"{dest.name}.{uuid.uuid4().hex}.part")
        try:
            with _progress(what, show=progress) as update:
                _download(url, part, update)
            wrong = verify(part, **known)
            if wrong is not None:
                raise DownloadError(
                    f"{what}: what came from {url} is not the file: {wrong}. {hint}"
                )
            part.replace(dest)
        finally:
            part.unlink(missing_ok=True)
    except (urllib.error.URLError, OSError, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        reason = getattr(error, "reason", None) or error
        raise DownloadError(f"{what} could not be fetched from {url}: {reason}. {hint}") from error
    return dest


@contextlib.contextmanager
def _progress(what: str, *, show: bool) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a callback (bytes done, bytes in all) that draws a bar where there is a terminal."""
    if not show or not sys.stderr.isatty():
        if show:
            print(f"Downloading {what} ...", file=sys.stderr)
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"Downloading {what}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _download(url: str, part: Path, update: Callable[[int, int | None], None]) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "featx"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer, part.open("xb") as file:
        length = answer.headers.get("Content-Length")
        total = int(length) if length else None
        done = 0
        while block := answer.read(CHUNK_BYTES):
            file.write(block)
            done += len(block)
            update(done, total)
        if total is not None and done != total:
            raise OSError(f"the connection ended after {done} of {total} bytes")
        file.flush()
        os.fsync(file.fileno())
