"""Quantize a model to INT8: ``python tools/quantize.py --model runs/resnet18 --output int8``; see --help."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from paddle_tk.commands.quantize import main

if __name__ == "__main__":
    sys.exit(main())
