"""The torch twin of ``paddle_tk.models.yolov10`` in size n, with its training loss."""
