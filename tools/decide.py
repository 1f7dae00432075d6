"""Needs and measurements -> a decision and a technical specification: ``python tools/decide.py --help``."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from paddle_tk.commands.decide import main

if __name__ == "__main__":
    sys.exit(main())
