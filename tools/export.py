"""Export a model to ONNX: ``python tools/export.py --model runs/resnet18 --output exported``; see --help."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from paddle_tk.commands.export import main

if __name__ == "__main__":
    sys.exit(main())
