"""Training through ``paddle.Model.prepare`` and ``fit``: exact resume, averaged accumulation, EMA, AMP."""
