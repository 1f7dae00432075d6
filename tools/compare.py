"""Compare Paddle and torch: ``python tools/compare.py -c configs/compare/resnet18.yaml --output out``; see --help."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from paddle_tk.commands.compare import main

if __name__ == "__main__":
    sys.exit(main())
