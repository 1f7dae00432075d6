# ruff: noqa: RUF001 (Chinese punctuation)
"""What figures, criteria, units and origins are called, in English and in Chinese."""

from __future__ import annotations

from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
Better = Literal["higher", "lower"]

# Name of a figure -> how it is called, and which direction is better. The order is that of the report.
FIGURES: dict[str, tuple[str, str, Better]] = {
    "training_throughput": ("Training throughput", "训练吞吐", "higher"),
    "training_throughput_bare": ("Training throughput, bare loop", "训练吞吐（裸循环）", "higher"),
    "fit_overhead": ("Overhead of the high-level API", "高层 API 开销", "lower"),
    "time_to_target": ("Time to target accuracy", "达到目标精度用时", "lower"),
    "final_accuracy": ("Final accuracy", "最终精度", "higher"),
    "inference_latency": ("Inference latency", "推理时延", "lower"),
    "inference_throughput": ("Inference throughput", "推理吞吐", "higher"),
    "onnx_latency": ("Inference latency, ONNX Runtime", "推理时延（ONNX Runtime）", "lower"),
    "onnx_throughput": ("Inference throughput, ONNX Runtime", "推理吞吐（ONNX Runtime）", "higher"),
    "peak_memory_training": ("Peak memory, training", "训练峰值内存", "lower"),
    "peak_memory_inference": ("Peak memory, inference", "推理峰值内存", "lower"),
    "import_time": ("Import time", "框架导入时间", "lower"),
    "cold_start": ("Cold start", "冷启动时间", "lower"),
    "installed_size": ("Installed size", "安装体积", "lower"),
    "onnx_export": ("ONNX export", "ONNX 导出", "higher"),
    "onnx_parity": ("Largest difference, ONNX to native", "ONNX 与原生输出最大差异", "lower"),
    "int8_available": ("INT8 available", "支持 INT8", "higher"),
    "int8_latency_ratio": ("Latency, INT8 / FP32", "INT8 / FP32 时延比", "lower"),
    "int8_accuracy": ("Accuracy, INT8", "INT8 精度", "higher"),
    "int8_size_ratio": ("File size, INT8 / FP32", "INT8 / FP32 体积比", "lower"),
    "recipe_lines": ("Lines of the recipe", "训练代码行数", "lower"),
    "gpu_utilisation": ("GPU utilisation", "GPU 利用率", "higher"),
    "gpu_memory_share": ("Share of GPU memory", "GPU 显存占用率", "lower"),
    "github_stars": ("GitHub stars", "GitHub 星标数", "higher"),
    "github_contributors": ("GitHub contributors", "GitHub 贡献者数", "higher"),
    "github_commits_90_days": ("Commits in 90 days", "近 90 天提交数", "higher"),
    "github_releases": ("GitHub releases", "GitHub 发布次数", "higher"),
    "github_dependents": ("Dependent repositories on GitHub", "GitHub 依赖仓库数", "higher"),
    "downloads_per_month": ("Downloads per month", "月下载量", "higher"),
}
_BY_TIME = "_by_time"
LATENCIES = ("inference_latency", "onnx_latency")
MEMORIES = ("peak_memory_training", "peak_memory_inference")

CRITERIA: dict[str, tuple[str, str]] = {
    "team_familiarity": ("Team familiarity", "团队熟悉度"),
    "deployment_ease": ("Ease of deployment", "部署便利性"),
    "performance": ("Performance", "性能"),
    "community": ("Community", "社区生态"),
}
CURVES: dict[str, tuple[str, str]] = {
    "train_loss": ("Training loss", "训练损失"),
    "val_loss": ("Validation loss", "验证损失"),
    "val_top1": ("Validation accuracy (top-1)", "验证精度（top-1）"),
    "val_top5": ("Validation accuracy (top-5)", "验证精度（top-5）"),
    "val_map50_95": ("Validation mAP50-95", "验证 mAP50-95"),
}
AXES: dict[str, tuple[str, str]] = {
    "update": ("update", "更新步"),
    "epoch": ("epoch", "轮次"),
    "time (s)": ("time (s)", "时间（s）"),
    "loss": ("loss", "损失"),
    "top1": ("top-1 accuracy", "top-1 精度"),
    "top5": ("top-5 accuracy", "top-5 精度"),
    "map50_95": ("mAP50-95", "mAP50-95"),
}
UNITS: dict[str, tuple[str, str]] = {
    "images/s": ("images/s", "张/s"),
    "lines": ("lines", "行"),
    "ratio": ("", ""),
    "0/1": ("", ""),
    "score": ("of 5", "/ 5"),
}
ORIGINS: dict[str, tuple[str, str]] = {
    "measured": ("measured", "实测"),
    "estimated": ("estimated", "估算"),
    "cited": ("cited", "引用"),
    "stated by the user": ("stated by the user", "用户陈述"),
}


def figure_name(name: str, language: Language) -> str:
    """Returns a figure's title, or that of the criterion it answers; a name that is not listed is spelled out."""
    return FIGURES[name][_at(language)] if name in FIGURES else criterion_name(name, language)


def better(name: str) -> Better | None:
    """Returns which direction of a figure is better; None where it has none."""
    return FIGURES[name][2] if name in FIGURES else None


def criterion_name(name: str, language: Language) -> str:
    """Returns a criterion's title; users may weigh criteria of their own, which are spelled out."""
    return _told(CRITERIA, name, language, spelled(name))


def curve_name(name: str, language: Language) -> str:
    """Returns a curve's title; "val_top1_by_time" is "val_top1" on another axis."""
    stem = name.removesuffix(_BY_TIME)
    told = _told(CURVES, stem, language, spelled(stem))
    return told if stem == name else f"{told}{(' by time', '，按时间')[_at(language)]}"


def axis_name(label: str, language: Language) -> str:
    """Returns an axis' title; a label that is not listed stays as it is."""
    return _told(AXES, label, language, label)


def unit_name(unit: str, language: Language) -> str:
    """Returns how a unit is written behind a number, "" for none."""
    return _told(UNITS, unit, language, unit)


def origin_name(origin: str, language: Language) -> str:
    """Returns how it is said where a figure comes from."""
    return _told(ORIGINS, origin, language, origin)


def spelled(name: str) -> str:
    """Returns an identifier as words: "team_familiarity" -> "Team familiarity"."""
    words = " ".join(name.replace("_", " ").split())
    return words[:1].upper() + words[1:]


def _at(language: Language) -> int:
    return LANGUAGES.index(language)


def _told(table: dict[str, tuple[str, str]], key: str, language: Language, otherwise: str) -> str:
    return table[key][_at(language)] if key in table else otherwise
