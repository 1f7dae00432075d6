"""Try the whole chain: ``python tools/validate.py --stage debug``; see --help."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from paddle_tk.commands.validate import main

if __name__ == "__main__":
    sys.exit(main())
