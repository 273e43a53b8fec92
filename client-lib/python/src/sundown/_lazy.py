"""Imports that are made when they are needed, and forks.

A child that is forked while another thread of its parent imports a module waits for that import for ever. So whoever forks waits until the imports of
this library are through.
"""

from __future__ import annotations

import os
import threading

imports = threading.RLock()
"""Is held during an import within a function: `with imports: import email`."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=imports.acquire, after_in_parent=imports.release, after_in_child=imports.release)
