"""Several batches in flight on one predictor, for throughput; results come in the order of the batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from paddle_tk.runtime.base import Array, Predictor


def run_stream(predictor: Predictor, batches: Iterable[Array], *, in_flight: int = 2) -> Iterator[tuple[Array, ...]]:
    """Predicts a stream of batches with up to ``in_flight`` of them at work.

    OpenVINO has its own queue for this. ONNX Runtime is called by as many threads, since its sessions release Python's
    lock and may be shared. Paddle's and TensorRT's predictors, and any that keeps its buffers, hold one request at a
    time: they predict one batch after the other.

    Args:
        predictor: Any.
        batches: Images float32 (B, 3, H, W); taken only as fast as they are predicted.
        in_flight: At least 1.

    Yields:
        What ``predict`` returns for each batch.

    Raises:
        ValueError: ``in_flight`` is below 1, or a batch has another type or shape.
    """
    if in_flight < 1:
        raise ValueError(f"in_flight must be at least 1, got {in_flight}")
    own = getattr(predictor, "stream", None)
    if own is not None:
        return iter(own(batches, in_flight))
    if in_flight > 1 and getattr(predictor, "reentrant", False):
        return _by_threads(predictor, batches, in_flight)
    return (predictor.predict(batch) for batch in batches)


def requests_in_flight(predictor: Predictor, in_flight: int) -> int:
    """Returns how many batches ``run_stream`` really has at work."""
    several = hasattr(predictor, "stream") or getattr(predictor, "reentrant", False)
    return in_flight if several else 1


def _by_threads(predictor: Predictor, batches: Iterable[Array], in_flight: int) -> Iterator[tuple[Array, ...]]:
    with ThreadPoolExecutor(in_flight) as pool:
        waiting: deque[Future[tuple[Array, ...]]] = deque()
        for batch in batches:
            if len(waiting) == in_flight:
                yield waiting.popleft().result()
            waiting.append(pool.submit(predictor.predict, batch))
        while waiting:
            yield waiting.popleft().result()
