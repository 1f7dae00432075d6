"""Label images: ``python tools/predict.py --model runs/resnet18 IMAGES --output labelled``; see --help."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from paddle_tk.commands.predict import main

if __name__ == "__main__":
    sys.exit(main())
