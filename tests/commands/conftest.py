from tests.tiny_detection import detectors  # noqa: F401
from tests.tiny_run import models  # noqa: F401
