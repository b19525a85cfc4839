"""Downloads one file with a progress bar; an interrupted download goes on where it stopped."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from urllib.parse import urljoin

import httpx
from tqdm import tqdm

from ..errors import RunError
from .verify import file_sha256

TIMEOUT = httpx.Timeout(60.0, connect=8.0)


def _client() -> httpx.Client:
    # pip's own settings for a private index and its certificate hold here too.
    certificate = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    verify: bool | str = certificate if certificate and Path(certificate).is_file() else True
    return httpx.Client(timeout=TIMEOUT, follow_redirects=True, verify=verify)  # type: ignore[arg-type]


def index_url(package: str, wheel: str) -> str:
    """Address of a wheel on the package index (`$PIP_INDEX_URL`, else PyPI).

    Raises:
        RunError: If the index does not list it.
    """
    base = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    page = f"{base}/{package}/"
    with _client() as client:
        response = client.get(page, headers={"Accept": "text/html"})
        response.raise_for_status()
    for target in re.findall(r'href="([^"]+)"', response.text):
        # A page may name its files with a path or without one.
        address = urljoin(str(response.url), html.unescape(target)).split("#")[0]
        if address.endswith("/" + wheel):
            return address
    raise RunError(f"The package index does not list {wheel}. Got {page}; check `PIP_INDEX_URL`.")


def download(url: str, target: Path, sha256: str) -> None:
    """Fetches `url` into `target`, through `target` + `.part`, and checks it.

    Raises:
        RunError: If the content is not what the manifest pins; the part is removed then.
    """
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.is_file() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with _client() as client, client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            pass  # the part is complete already
        else:
            response.raise_for_status()
            resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
            total = int(response.headers.get("Content-Length", 0)) + (have if resumed else 0)
            with (
                part.open("ab" if resumed else "wb") as file,
                tqdm(
                    total=total or None, initial=have if resumed else 0, unit="B", unit_scale=True, desc=target.name
                ) as bar,
            ):
                for chunk in response.iter_bytes(1 << 18):
                    file.write(chunk)
                    bar.update(len(chunk))
    found = file_sha256(part)
    if found != sha256:
        part.unlink()
        raise RunError(f"{target.name} is not the pinned file. Got sha256 {found}, expected {sha256}; fetch it again.")
    os.replace(part, target)
