"""Train a model: ``python tools/train.py -c configs/resnet18.yaml``; see --help."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from paddle_tk.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
