"""What the tests share: the package from the source tree, unless SUNDOWN_PYTHON_INSTALLED says that the installed one is meant."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent
ROOT = PACKAGE.parent.parent
if not os.environ.get("SUNDOWN_PYTHON_INSTALLED"):
    sys.path.insert(0, str(PACKAGE / "src"))


def in_tree(path: str) -> Path:
    """A file of the source tree, beside which these tests are."""
    return ROOT / path
