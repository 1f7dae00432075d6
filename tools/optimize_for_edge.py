"""Make a bundle for an edge device: ``python tools/optimize_for_edge.py --target-device NAME ...``; see --help."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from paddle_tk.commands.optimize_for_edge import main

if __name__ == "__main__":
    sys.exit(main())
