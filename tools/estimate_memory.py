import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from paddle_tk.commands.estimate_memory import main

if __name__ == "__main__":
    sys.exit(main())
