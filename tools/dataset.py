"""Work on datasets: ``python tools/dataset.py convert --data coco128 --to voc --output D``; see --help."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from paddle_tk.commands.dataset import main

if __name__ == "__main__":
    sys.exit(main())
