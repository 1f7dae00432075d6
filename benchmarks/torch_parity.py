"""Do the torch twins compute what our networks compute? Outputs, loss curves, accuracy after five epochs.

    python benchmarks/torch_parity.py [--skip-training]

Every part runs in fresh processes, through the workers that ``tools/compare.py`` starts.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._report import Claim, finish, parser
from paddle_tk.compare.rounds import Effort, Workers
from paddle_tk.config.load import configs_folder, load_config
from paddle_tk.config.schema import Config
from paddle_tk.console import Output

NETWORKS = ("resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "yolov10n")
FRAMEWORKS = ("paddle", "torch")
STEPS, EPOCHS = 50, 5
# Single precision magnifies its rounding at any useful rate, within either framework as between them.
GENTLE = ["trainer.learning_rate=0.00003", "trainer.momentum=0", "trainer.schedule=constant", "trainer.warmup_epochs=0"]


def _workers(config: Config, folder: Path, threads: int, epochs: int) -> Workers:
    from paddle_tk.compare.shared_inputs import build_shared_inputs

    inputs = build_shared_inputs(config, folder / "inputs", epochs=epochs, output=Output(quiet=True))
    effort = Effort(
        rounds=2, warmup=1, train_steps=2, inference_repeats=5, throughput_batch=8, throughput_repeats=2, epochs=epochs,
        curve_steps=STEPS, threads=threads, device="cpu", timeout_seconds=1800,
    )  # fmt: skip
    return Workers(inputs.folder, folder / "arrays", effort)


def _both(workers: Workers, phase: str) -> dict[str, Mapping[str, Any]]:
    return {f: workers.run(f, (phase,), name=f)[phase] for f in FRAMEWORKS}


def _config(network: str, overrides: Sequence[str] = ()) -> Config:
    if network == "yolov10n":
        return load_config(configs_folder() / "compare" / "yolov10n.yaml", overrides).config
    return load_config(configs_folder() / "compare" / "resnet18.yaml", [f"model={network}", *overrides]).config


def _outputs(network: str, folder: Path, threads: int) -> float:
    few = ["trainer.limit_train_batches=2", "data.image_size=64"]
    found = _both(_workers(_config(network, few), folder, threads, 1), "outputs")
    worst = 0.0
    for name in found["paddle"]["files"]:
        ours, theirs = (np.load(found[f]["files"][name]) for f in FRAMEWORKS)
        scale = max(1.0, float(np.abs(ours).max()))
        worst = max(worst, float(np.abs(ours - theirs).max()) / scale)
    print(f"{network}: outputs differ by {worst:.1e} (n={found['paddle']['images']} images)")
    return worst


def _curves(name: str, found: Mapping[str, Mapping[str, Any]], key: str) -> list[Claim]:
    ours, theirs = (np.array(found[f][key]) for f in FRAMEWORKS)
    apart = np.abs(ours - theirs) / np.abs(ours)
    print(f"resnet18, {name}: {apart[:10].max():.1e} in 10 steps, {apart.max():.1e} in {len(apart)}")
    return [
        Claim(f"torch_parity losses, {name}, 10 steps", float(apart[:10].max()), "relative", 1e-4),
        Claim(f"torch_parity losses, {name}, {STEPS} steps", float(apart.max()), "relative", 1e-2),
    ]


def main() -> int:
    """Measures and compares."""
    arguments = parser(__doc__ or "", "torch_parity")
    arguments.add_argument("--skip-training", action="store_true", help="leave out the five epochs")
    given = arguments.parse_args()
    from paddle_tk.environment.start import start_paddle

    threads = start_paddle("auto")
    claims, samples = [], {}
    with tempfile.TemporaryDirectory(prefix="torch_parity-") as name:
        for network in NETWORKS:
            worst = _outputs(network, Path(name) / network, threads)
            claims.append(Claim(f"torch_parity outputs, {network}", worst, "of the largest output or 1", 1e-5))
        workers = _workers(_config("resnet18"), Path(name) / "curves", threads, EPOCHS)
        found = _both(workers, "losses")
        claims += _curves("float64, as configured", found, "losses")
        samples = {f"float64 {f}": found[f]["losses"] for f in FRAMEWORKS}
        gentle = _both(_workers(_config("resnet18", GENTLE), Path(name) / "gentle", threads, EPOCHS), "losses")
        claims += _curves("float32, plain SGD at 3e-5", gentle, "losses_float32")
        samples |= {f"float32 {f}": gentle[f]["losses_float32"] for f in FRAMEWORKS}
        if not given.skip_training:
            trained = _both(workers, "train")
            points = {f: 100 * trained[f]["test_metric"] for f in FRAMEWORKS}
            print(f"{EPOCHS} epochs, test top-1 in points (n={trained['paddle']['test_n']}): {points}")
            apart = abs(points["paddle"] - points["torch"])
            claims.append(Claim(f"torch_parity top-1 after {EPOCHS} epochs", apart, "points", 1.5))
    return finish(claims, samples, given.json, {"threads": threads, "rate": GENTLE})


if __name__ == "__main__":
    sys.exit(main())
