"""What makes one sample: a function of (seed, epoch, sample, batch step), for images with a label and with boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from paddle_tk.data.box_transforms import BoxedImages, BoxEvalTransform, BoxTrainTransform
from paddle_tk.data.bundle import ImageSplit
from paddle_tk.data.streams import Streamed
from paddle_tk.data.transforms import EvalTransform, TrainTransform

Split = ImageSplit | BoxedImages
Transform = TrainTransform | EvalTransform | BoxTrainTransform | BoxEvalTransform
Sample = tuple[np.ndarray, Any]
Reader = Callable[[int, int, int], Sample]


class SampleRandom:
    """A random generator that is set to the start of any sample's own stream.

    Philox (Salmon et al. 2011) is counter-based: (seed, epoch) is its key and the sample's index the upper
    half of its counter, so each sample has 2^128 draws of its own, and setting it costs 1 microsecond.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.Philox(key=np.array([seed, 0], np.uint64))
        self._start: Any = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def at(self, epoch: int, index: int) -> np.random.Generator:
        """Returns the generator, set to the first draw of a sample."""
        self._start["state"]["key"][1] = epoch
        self._start["state"]["counter"][:] = (0, 0, index, 0)
        self._bits.state = self._start
        return self._generator


def sample_reader(split: Split, transform: Transform, seed: int) -> Reader:
    """Returns what makes the sample of (epoch, step, draw), see ``epoch_order``; for one thread at a time.

    Args:
        split: The images.
        transform: One that belongs to the split; it decides what a sample is: the image as float32 (3, H, W) with its
            label, or with its targets, float32 (n, 5).
        seed: The training's seed.

    Raises:
        ValueError: A transform for boxes meets a split without them, or the other way round.
    """
    random, n = SampleRandom(seed), len(split)
    if isinstance(split, BoxedImages):
        if isinstance(transform, BoxTrainTransform):
            return lambda epoch, step, draw: transform(
                split, draw % n, random.at(epoch, draw), epoch=epoch, size=transform.size_at(seed, epoch, step)
            )
        if isinstance(transform, BoxEvalTransform):
            return lambda epoch, step, draw: transform(split.image(draw), split.boxes(draw))
    else:
        image_and_label = _image_and_label(split)
        if isinstance(transform, TrainTransform):

            def augmented(epoch: int, _: int, draw: int) -> Sample:
                image, label = image_and_label(draw % n)
                return transform(image, random.at(epoch, draw)), label

            return augmented
        if isinstance(transform, EvalTransform):

            def prepared(_: int, __: int, index: int) -> Sample:
                image, label = image_and_label(index)
                return transform(image), label

            return prepared
    raise ValueError(f"{type(transform).__name__} is no transform for a {type(split).__name__}")


def _image_and_label(split: ImageSplit) -> Callable[[int], tuple[np.ndarray, int]]:
    """Returns what gives the image and the label at an index.

    What is streamed has each label beside its image; all labels together may be more than memory holds.
    """
    if isinstance(split, Streamed):
        return split.labelled
    image, labels = split.image, split.labels
    return lambda index: (image(index), labels[index])
