"""Run the command line as ``python -m reluctant``."""

from __future__ import annotations

from reluctant.cli import main

if __name__ == "__main__":
    main()
