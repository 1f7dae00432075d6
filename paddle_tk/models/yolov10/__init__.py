"""YOLOv10 (Wang et al., arXiv 2405.14458), written from the paper. Importing this package loads Paddle."""

from paddle_tk.models.yolov10.network import YOLOv10, build_yolov10

__all__ = ["YOLOv10", "build_yolov10"]
