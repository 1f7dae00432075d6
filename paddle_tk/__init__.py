"""paddle_tk: from one YAML config to a trained, measured, deployable PaddlePaddle model.

Importing this package imports no framework: CPU threads must be set before Paddle is loaded.
"""

from paddle_tk.errors import BadInput, CheckFailed, PaddleTkError
from paddle_tk.types import InputSpec, Measurement, ModelArtifact, Preprocessing, Task, TrainResult

__version__ = "0.1.0"

__all__ = [
    "BadInput",
    "CheckFailed",
    "InputSpec",
    "Measurement",
    "ModelArtifact",
    "PaddleTkError",
    "Preprocessing",
    "Task",
    "TrainResult",
    "__version__",
]
