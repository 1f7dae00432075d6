"""Which matrix kernels Paddle takes on a CPU. Chosen before Paddle is imported: its MKL looks once."""

from __future__ import annotations

import os
from pathlib import Path

from paddle_tk.environment.processor import CPUINFO, cpu_features, cpu_maker

# Paddle's wheels bring an old MKL (libmklml_intel.so). On processors of other makers it takes kernels of two or four
# lanes, whatever the processor can do; told this number it takes those for AVX2. A 2000 x 2000 float32 product on a
# Zen 4 took 30 GFLOP/s so and 78 with it (1 thread), a training of ResNet-18 made 42 and 80 images/s
# (benchmarks/matrix_kernels.py). Newer MKLs, torch's for one, know the variable no more. Source of name and number:
# https://danieldk.eu/Posts/2020-08-31-MKL-Zen.html; the slowness: https://github.com/PaddlePaddle/Paddle/issues/75760
KERNELS = "MKL_DEBUG_CPU_TYPE"
AVX2_KERNELS = "5"
OTHER_MAKERS = {"AuthenticAMD", "HygonGenuine"}


def choose_matrix_kernels(cpuinfo: Path = CPUINFO) -> str | None:
    """Makes Paddle use AVX2 where its MKL would not find it, for this process and its children.

    A value that the user has set stays. Where the system does not tell the processor (no Linux), nothing is set.

    Args:
        cpuinfo: The kernel's description of the processors.

    Returns:
        What is in effect; None: MKL chooses.
    """
    if cpu_maker(cpuinfo) in OTHER_MAKERS and {"avx2", "fma"} <= cpu_features(cpuinfo):
        os.environ.setdefault(KERNELS, AVX2_KERNELS)
    return os.environ.get(KERNELS) or None
