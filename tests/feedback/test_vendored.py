"""What others wrote and the pages load: every file is listed with its digest, and each package has its licence."""

import hashlib
import json
from pathlib import Path

from baro.feedback.server import pages

VENDOR = pages.PACKAGE / "static" / "vendor"
MANIFEST = json.loads((VENDOR / "manifest.json").read_text("utf-8"))


def digests(folder: Path) -> dict[str, str]:
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_the_manifest_says_what_is_there():
    assert {name: digest for one in MANIFEST.values() for name, digest in one["files"].items()} == digests(VENDOR)


def test_each_package_has_its_licence_and_version():
    for name, one in MANIFEST.items():
        assert "MIT License" in (VENDOR / name / "LICENSE").read_text("utf-8")
        assert one["licence"].startswith("MIT")
        assert any(one["version"].encode() in (VENDOR / file).read_bytes() for file in one["files"] if "." in file)
    assert "SIL OPEN FONT LICENSE" in (VENDOR / "katex/fonts/OFL.txt").read_text("utf-8")


def test_what_is_served_is_listed():
    served = {name.removeprefix("vendor/") for name in pages.load_assets().files if name.startswith("vendor/")}
    assert {"katex/katex.min.js", "katex/katex.min.css", "katex/fonts/KaTeX_Main-Regular.woff2"} <= served
    assert served <= set(MANIFEST["katex"]["files"])
