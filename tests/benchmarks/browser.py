"""A headless browser without a driver: open a file, run a script in it, read what the page is then."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome-headless-shell")


def after_script(page: Path, script: str, folder: Path) -> str:
    """The page's HTML after its own scripts and then `script` have run; skips where no browser is installed."""
    browser = next((found for name in NAMES if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no headless browser installed (one of {', '.join(NAMES)})")
    html = page.read_text(encoding="utf-8")
    copy = folder / "with-script.html"
    late = f'<script>document.addEventListener("DOMContentLoaded", () => {{ {script} }});</script>'
    copy.write_text(html.replace("</body>", f"{late}</body>"), encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", copy.resolve().as_uri()], capture_output=True, text=True, timeout=180
    )
    assert "</html>" in done.stdout, done.stderr[-2000:]
    return done.stdout
