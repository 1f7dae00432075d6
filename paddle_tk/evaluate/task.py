"""Evaluates a model of any task."""

from __future__ import annotations

from collections.abc import Callable

from paddle_tk.data.box_transforms import BoxEvalTransform
from paddle_tk.data.boxes import AnnotatedSplit
from paddle_tk.data.bundle import ImageSplit
from paddle_tk.data.loader import EvalLoader
from paddle_tk.data.transforms import EvalTransform
from paddle_tk.evaluate.classification import ClassificationEvaluation, evaluate_classifier
from paddle_tk.evaluate.detection import DetectionEvaluation, evaluate_detector
from paddle_tk.runtime.base import Predictor

Evaluation = ClassificationEvaluation | DetectionEvaluation


def evaluate(
    predictor: Predictor,
    split: ImageSplit,
    *,
    batch_size: int,
    label_smoothing: float = 0.0,
    limit_batches: int | None = None,
    num_workers: int = 0,
    prefetch_factor: int = 2,
    advance: Callable[[int], None] = lambda n: None,
) -> Evaluation:
    """Evaluates a model on a split, with the pre- and post-processing of its manifest.

    Args:
        predictor: The model.
        split: Annotated images in the model's classes.
        batch_size: Images per batch.
        label_smoothing: As in the training whose loss this one is compared with; without effect for a detector.
        limit_batches: Only the first batches; None: all.
        num_workers: Loader processes.
        prefetch_factor: Batches each worker prepares ahead.
        advance: Called with the number of images done since the last call.

    Raises:
        DataError: An image cannot be decoded.
        ArtifactError: The model returns NaN or infinite values.
    """
    preprocessing = predictor.artifact.preprocessing
    detects = isinstance(split, AnnotatedSplit)
    loader = EvalLoader(
        split,
        BoxEvalTransform(preprocessing) if detects else EvalTransform(preprocessing),
        batch_size=batch_size,
        limit_batches=limit_batches,
        num_workers=num_workers,
        prefetch_factor=prefetch_factor,
    )
    if isinstance(split, AnnotatedSplit):
        return evaluate_detector(predictor, loader, split, advance=advance)
    return evaluate_classifier(predictor, loader, label_smoothing=label_smoothing, advance=advance)
