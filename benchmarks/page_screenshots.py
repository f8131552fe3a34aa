"""Pictures of a report's page: desktop and phone, light and dark.

``python benchmarks/page_screenshots.py REPORT OUT``; needs Chromium, its driver and ``selenium``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver

QUIET = (
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip
WIDTHS = {"desktop": 1280, "phone": 390}


@contextmanager
def chromium(*more: str) -> Iterator[webdriver.Chrome]:
    """Start a headless Chromium with an empty profile, and end it."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        own = ("--no-sandbox",) if os.geteuid() == 0 else ()
        for word in (*QUIET, *own, f"--user-data-dir={profile}", *more):
            options.add_argument(word)
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        driver = webdriver.Chrome(options=options, service=service)
        try:
            yield driver
        finally:
            driver.quit()


def show_as(driver: webdriver.Chrome, width: int, height: int, scheme: str) -> None:
    """Set the size of the window and the colour scheme that the reader prefers."""
    phone = width < 600
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, help="a report's folder, or an index.html")
    parser.add_argument("out", type=Path, help="folder of the pictures")
    parser.add_argument("--height", type=int, help="cut off the pictures at this many pixels")
    args = parser.parse_args()
    page = args.report / "index.html" if args.report.is_dir() else args.report
    args.out.mkdir(parents=True, exist_ok=True)
    with chromium() as driver:
        for scheme in ("light", "dark"):
            for name, width in WIDTHS.items():
                show_as(driver, width, 900, scheme)
                driver.get(page.resolve().as_uri())
                # A click shows what a reader would look at: the images of a cell.
                driver.execute_script("document.querySelector('.pairs button')?.click()")
                time.sleep(0.5)
                height = driver.execute_script("return document.documentElement.scrollHeight")
                show_as(driver, width, min(height, args.height or 16_000), scheme)
                driver.save_screenshot(str(args.out / f"page-{name}-{scheme}.png"))


if __name__ == "__main__":
    main()
