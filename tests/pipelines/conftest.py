from tests.tiny_run import models  # noqa: F401
