"""Where a training is watched: one sink per viewer, made by name.

A sink is made as ``Sink(folder, name=..., config=..., replay=[...])``; see
``paddle_tk.training.loggers.base``.
"""

from paddle_tk.registry import Registry
from paddle_tk.training.loggers.base import Sink, record_scalars

LOGGERS = Registry("logger")
LOGGERS.add("visualdl", "paddle_tk.training.loggers.visualdl_sink:VisualDLSink")
LOGGERS.add("tensorboard", "paddle_tk.training.loggers.tensorboard_sink:TensorBoardSink")
LOGGERS.add("wandb", "paddle_tk.training.loggers.wandb_sink:WandbSink")

# The folder of each sink inside a run.
FOLDERS = {"visualdl": "vdl", "tensorboard": "tensorboard", "wandb": "wandb"}

__all__ = ["FOLDERS", "LOGGERS", "Sink", "record_scalars"]
