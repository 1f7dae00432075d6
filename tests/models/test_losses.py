import numpy as np
import paddle
import pytest

from paddle_tk.models.losses import ClassificationLoss

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 5)).astype("float32") * 3
LABELS = np.array([0, 4, 2, 2, 1, 3])
ONE_HOT = np.eye(5, dtype="float32")[LABELS]
MIXED = (0.7 * ONE_HOT + 0.3 * ONE_HOT[::-1]).astype("float32")


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits.astype("float64") - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def reference(logits: np.ndarray, targets: np.ndarray, smoothing: float) -> float:
    smoothed = (1 - smoothing) * targets + smoothing / logits.shape[1]
    return float(-(smoothed * np.log(softmax(logits))).sum(axis=1).mean())


def loss_of(*arrays: np.ndarray, smoothing: float = 0.0) -> float:
    return float(ClassificationLoss(smoothing)(*(paddle.to_tensor(array) for array in arrays)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_loss_equals_the_reference_for_hard_and_soft_labels(smoothing: float) -> None:
    expected = reference(LOGITS, ONE_HOT, smoothing)
    assert loss_of(LOGITS, LABELS, smoothing=smoothing) == pytest.approx(expected, rel=1e-5)
    assert loss_of(LOGITS, LABELS[:, None], smoothing=smoothing) == pytest.approx(expected, rel=1e-5)
    assert loss_of(LOGITS, ONE_HOT, smoothing=smoothing) == pytest.approx(expected, rel=1e-5)
    mixed = reference(LOGITS, MIXED, smoothing)
    assert loss_of(LOGITS, MIXED, smoothing=smoothing) == pytest.approx(mixed, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("targets", [LABELS, MIXED], ids=["hard", "soft"])
def test_gradient_is_probability_minus_target_over_batch(smoothing: float, targets: np.ndarray) -> None:
    logits = paddle.to_tensor(LOGITS, stop_gradient=False)
    ClassificationLoss(smoothing)(logits, paddle.to_tensor(targets)).backward()
    soft = ONE_HOT if targets.ndim == 1 else targets
    expected = (softmax(LOGITS) - ((1 - smoothing) * soft + smoothing / 5)) / len(LOGITS)
    np.testing.assert_allclose(logits.grad.numpy(), expected, atol=1e-6)


def test_auxiliary_logits_weigh_three_tenths_each() -> None:
    first, second = LOGITS[::-1].copy(), LOGITS * 0.5
    expected = loss_of(LOGITS, LABELS) + 0.3 * (loss_of(first, LABELS) + loss_of(second, LABELS))
    assert loss_of(LOGITS, first, second, LABELS) == pytest.approx(expected, rel=1e-6)


def test_loss_is_float32_and_finite_when_logits_are_large_half_precision() -> None:
    logits = paddle.to_tensor([[6e4, -6e4], [-6e4, 6e4]]).astype("float16")
    loss = ClassificationLoss()(logits, paddle.to_tensor([1, 1]))
    assert loss.dtype == paddle.float32
    assert float(loss) == pytest.approx(float(logits.astype("float32").max()), rel=1e-3)


@pytest.mark.skipif(paddle.device.cuda.device_count() == 0, reason="Paddle's autocast does nothing on CPU")
@pytest.mark.parametrize("label", [LABELS, MIXED], ids=["hard", "soft"])
@pytest.mark.parametrize("level", ["O1", "O2"])
def test_loss_keeps_full_precision_when_called_under_autocast(level: str, label: np.ndarray) -> None:
    with paddle.amp.auto_cast(level=level, dtype="bfloat16"):
        loss = ClassificationLoss(0.1)(paddle.to_tensor(LOGITS), paddle.to_tensor(label))
    targets = ONE_HOT if label.ndim == 1 else label
    assert loss.dtype == paddle.float32
    assert float(loss) == pytest.approx(reference(LOGITS, targets, 0.1), rel=1e-5)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_label_smoothing_is_refused_when_out_of_range(smoothing: float) -> None:
    with pytest.raises(ValueError, match=str(smoothing)):
        ClassificationLoss(smoothing)


WEIGHTS = (0.5, 2.0, 0.0, 1.0, 3.0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weights", [(), WEIGHTS], ids=["even", "weighted"])
@pytest.mark.parametrize("targets", [LABELS, MIXED], ids=["hard", "soft"])
def test_weighted_and_focal_loss_equal_the_reference(
    smoothing: float, gamma: float, weights: tuple[float, ...], targets: np.ndarray
) -> None:
    soft = ONE_HOT if targets.ndim == 1 else targets
    smoothed = (1 - smoothing) * soft + smoothing / 5
    log_p = np.log(softmax(LOGITS))
    factor = soft @ np.array(weights or [1.0] * 5) * (1 - np.exp((soft * log_p).sum(axis=1))) ** gamma
    expected = float((-(smoothed * log_p).sum(axis=1) * factor).mean())
    loss = ClassificationLoss(smoothing, class_weights=weights, focal_gamma=gamma)
    assert float(loss(paddle.to_tensor(LOGITS), paddle.to_tensor(targets))) == pytest.approx(expected, rel=1e-4)


def test_focal_loss_has_a_finite_gradient_when_the_answer_is_certain() -> None:
    logits = paddle.to_tensor([[100.0, -100.0], [-100.0, 100.0]], stop_gradient=False)
    ClassificationLoss(focal_gamma=0.5)(logits, paddle.to_tensor([0, 0])).backward()
    assert np.isfinite(logits.grad.numpy()).all()


def test_loss_refuses_negative_weights_and_gamma() -> None:
    for changes in ({"class_weights": (1.0, -1.0)}, {"focal_gamma": -1.0}):
        with pytest.raises(ValueError, match="at least 0"):
            ClassificationLoss(**changes)
