# ruff: noqa: RUF001 (Chinese punctuation, and en dashes between numbers)
"""The report's own sentences, in English and in Chinese: a key always has both."""

from __future__ import annotations

from paddle_tk.report import names
from paddle_tk.report.names import LANGUAGES, Language
from paddle_tk.report.numbers import number, percent

TEXTS: dict[str, tuple[str, str]] = {
    "title": ("Framework comparison", "深度学习框架对比报告"),
    "team": ("Team", "团队"),
    "created": ("Created", "生成时间"),
    "contents": ("Contents", "目录"),
    "skip": ("Skip to the verdict", "跳到结论"),
    "theme": ("Light / dark", "浅色 / 深色"),
    "colon": (": ", "："),
    "comma": (", ", "、"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    "none": ("none", "无"),
    "unknown": ("open", "未定"),
    # Headings of the sections, in their order.
    "verdict": ("Verdict", "结论"),
    "matrix": ("Decision matrix", "决策矩阵"),
    "comparisons": ("Comparisons", "两两对比"),
    "curves": ("Training curves", "训练曲线"),
    "latency": ("Latency distributions", "推理时延分布"),
    "memory": ("Memory", "内存占用"),
    "sensitivity": ("Sensitivity", "敏感性分析"),
    "figures": ("All figures", "全部指标"),
    "not_measured": ("Not measured", "未测量"),
    "parity": ("Parity", "一致性校验"),
    "environment": ("Environment", "运行环境"),
    "settings": ("Settings", "实验设置"),
    "raw": ("Raw samples", "原始样本"),
    "repeat": ("Repeat it", "复现命令"),
    # The verdict.
    "choose": ("Choose {label}", "推荐 {label}"),
    "no_verdict": ("No verdict", "无结论"),
    "only_measured": ("Measurements only", "仅测量，未决策"),
    "only_measured_why": (
        "No decision was made from these measurements: they are shown without a verdict.",
        "本报告仅列出测量结果，未据此作出决策，因此不给出结论。",
    ),
    "nothing_follows": (
        "No option is recommended on this evidence. The sums below are what it allows.",
        "依据现有证据不推荐任何方案。下列加权总分仅表示证据所允许的结果。",
    ),
    "sum_passes": (
        "{label} has a weighted sum of {score} of 5, at or above the threshold of {threshold}.",
        "{label} 的加权总分为 {score}（满分 5 分），达到采用阈值 {threshold}。",
    ),
    "sum_fails": (
        "{label} has a weighted sum of {score} of 5, below the threshold of {threshold}.",
        "{label} 的加权总分为 {score}（满分 5 分），低于采用阈值 {threshold}。",
    ),
    "sum_range": (
        "The weighted sum of {label} lies between {low} and {high} of 5; the threshold is {threshold}.",
        "{label} 的加权总分介于 {low} 与 {high} 之间（满分 5 分）；采用阈值为 {threshold}。",
    ),
    "lead": ("It is {gap} ahead of {label}.", "领先 {label} {gap} 分。"),
    "flip_score": (
        "The smallest change of one score that flips it: {criterion} of {option} from {current} to {needed}, "
        "then {to} is chosen.",
        "足以改变结论的最小单项评分变化：{option} 的“{criterion}”由 {current} 变为 {needed}，届时将选择 {to}。",
    ),
    "flip_weight": (
        "The smallest change of one weight that flips it: {criterion} from {current} to {needed}, then {to} is chosen.",
        "足以改变结论的最小单项权重变化：“{criterion}”由 {current} 变为 {needed}，届时将选择 {to}。",
    ),
    "flip_never": (
        "No change of a single weight or score within its range flips it.",
        "任何单项权重或评分在取值范围内变化，都不会改变结论。",
    ),
    "flip_no_weight": (
        "No change of a single weight flips it.",
        "任何单项权重的变化都不会改变结论。",
    ),
    "firm": (
        "It has the highest sum in {share} of {samples} randomly drawn weightings.",
        "在随机抽取的 {samples} 组权重中，有 {share} 的情形其总分最高。",
    ),
    "reason": ("Reason given", "依据"),
    "missing": ("What is missing, and widens the result", "缺失的证据（使结果区间变宽）"),
    "option": ("Option", "方案"),
    "sum": ("Weighted sum", "加权总分"),
    "range": ("Range", "区间"),
    "threshold": ("Threshold", "采用阈值"),
    "threshold_at": ("threshold {threshold}", "阈值 {threshold}"),
    "passes": ("passes", "达标"),
    "fails": ("fails", "未达标"),
    "sums": ("Weighted sums against the threshold", "加权总分与采用阈值"),
    "sums_caption": (
        "Bars: weighted sum of 0 to 5. Bracket: from the least to the largest sum the evidence allows. "
        "Dashed line: threshold.",
        "条形：加权总分（0–5）。括线：证据允许的最低至最高总分。虚线：采用阈值。",
    ),
    # The matrix.
    "criterion": ("Criterion", "评价准则"),
    "weight": ("Weight", "权重"),
    "scores": ("Scores by criterion", "各准则评分"),
    "scores_caption": (
        "0 to 5, more is better. Bracket: from the least to the largest score the evidence allows.",
        "0–5 分，越高越好。括线：证据允许的最低至最高评分。",
    ),
    "derivation": ("How each score follows", "评分推导"),
    "score": ("Score", "评分"),
    "formula": ("Formula", "计算公式"),
    "evidence": ("Evidence", "证据"),
    "matrix_hint": (
        "Every score links to what it stands on. A missing score widens the sum; it is never made up.",
        "每项评分均链接到其证据。缺失的评分只会使总分区间变宽，不会被臆造。",
    ),
    # Comparisons.
    "figure": ("Figure", "指标"),
    "ratio": ("Ratio", "比值"),
    "interval_of": ("{confidence} interval", "{confidence} 置信区间"),
    "rounds": ("Rounds", "轮数"),
    "finding": ("Finding", "判定"),
    "no_difference": ("no difference", "无差异"),
    "undecided": ("undecided", "无法判定"),
    "is_better": ("{label} is better", "{label} 更优"),
    "note": ("Note", "说明"),
    "pair": ("{a} / {b}", "{a} / {b}"),
    "ratios": ("Ratios with their intervals", "比值及其置信区间"),
    "ratios_caption": (
        "Point: median over paired rounds, logarithmic axis; line: interval of that median. "
        "Coloured for the better option; hollow and grey where there is no difference.",
        "点：配对轮次比值的中位数（对数轴）；线段：该中位数的置信区间。颜色与标记表示更优方案，灰色空心表示无差异。",
    ),
    "band": ("Grey band: within {share} of 1, which counts as equal.", "灰带：与 1 相差不超过 {share}，视为相等。"),
    # Curves, latency, memory.
    "curve_caption": (
        "One line per option; they differ in colour, dashes and markers. Where lines coincide, both show.",
        "每个方案一条曲线，以颜色、线型和标记区分；重合处两条曲线均可见。",
    ),
    "log_axis": ("logarithmic", "对数轴"),
    "target": ("target {value}", "目标 {value}"),
    "latency_caption": (
        "Bars: histogram of all samples. Dots: single inferences{thinned}. "
        "Solid line: p50 (median), dashed: p95, dotted: p99.",
        "柱：全部样本的直方图。点：单次推理{thinned}。实线：p50（中位数），虚线：p95，点线：p99。",
    ),
    "thinned": (" (evenly thinned to {shown} per option)", "（每个方案均匀抽取 {shown} 个）"),
    "samples": ("n", "样本数"),
    "memory_peaks": ("Peak memory", "峰值内存"),
    "memory_caption": ("Peak of a process, in MiB (2^20 bytes).", "单个进程的峰值内存，单位 MiB（2^20 字节）。"),
    "memory_parts": (
        "Dark: peak of inference; light: what the peak of training takes beyond it. "
        "Behind the bar: inference / training.",
        "深色：推理峰值；浅色：训练峰值超出推理峰值的部分。条形后的数字：推理 / 训练。",
    ),
    # Sensitivity.
    "win_shares": ("Share of weightings won", "随机权重胜出率"),
    "win_caption": (
        "Share of {samples} weightings, drawn uniformly from all possible ones (seed {seed}), in which an option has "
        "the highest sum.",
        "从全部可能的权重中均匀抽取 {samples} 组（种子 {seed}），各方案总分最高的比例。",
    ),
    "flips": ("What flips the choice", "改变结论的条件"),
    "change": ("Change", "变化项"),
    "change_weight": ("Weight of {criterion}", "“{criterion}”的权重"),
    "change_score": ("Score of {option}: {criterion}", "{option} 的“{criterion}”评分"),
    "now": ("Now", "当前值"),
    "needed": ("Tie at", "持平值"),
    "then": ("Then chosen", "届时选择"),
    "never": ("no value in range", "范围内无解"),
    "pareto": ("Pareto view", "帕累托视图"),
    "pareto_hint": (
        "An option is dominated when another one equals or beats it in every criterion.",
        "若另一方案在所有准则上都不逊于某方案，则该方案被支配。",
    ),
    "on_front": ("not dominated", "非支配"),
    "dominated": ("dominated by {label}", "被 {label} 支配"),
    "standing": ("Standing", "状态"),
    # Figures.
    "value": ("Value", "数值"),
    "spread": ("Least – largest", "最小 – 最大"),
    "origin": ("Origin", "来源"),
    "conditions": ("Conditions", "条件"),
    "higher": ("higher is better", "越高越好"),
    "lower": ("lower is better", "越低越好"),
    "same_conditions": ("Same for all: ", "共同条件："),
    "no_evidence": ("No figures: nothing was measured for this report.", "本报告没有测量任何指标。"),
    "why": ("Reason", "原因"),
    "item": ("Item", "项目"),
    # Raw samples.
    "raw_hint": (
        "{samples} samples of {figures} figures are inside this file.",
        "本文件内含 {figures} 项指标的 {samples} 个原始样本。",
    ),
    "download_json": ("Download JSON", "下载 JSON"),
    "download_csv": ("Download CSV", "下载 CSV"),
    "raw_list": ("Show all samples as text", "以文本显示全部样本"),
    "repeat_hint": ("This command repeats everything above:", "以下命令可复现上述全部结果："),
    "plot_alt": ("Plot: {title}", "图：{title}"),
    "raw_elsewhere": ("Raw samples: measurements.json.", "原始样本见 measurements.json。"),
}  # fmt: skip


class Texts:
    """Looks up sentences and names in one language.

    Args:
        language: "en" or "zh".
    """

    def __init__(self, language: Language) -> None:
        self.language = language
        self._at = LANGUAGES.index(language)

    def __call__(self, key: str, **values: object) -> str:
        """Returns a sentence with ``values`` filled in.

        Raises:
            KeyError: There is no such sentence, or a value is missing.
        """
        text = TEXTS[key][self._at]
        return text.format(**values) if values else text

    def figure(self, name: str) -> str:
        """Returns a figure's title."""
        return names.figure_name(name, self.language)

    def criterion(self, name: str) -> str:
        """Returns a criterion's title."""
        return names.criterion_name(name, self.language)

    def curve(self, name: str) -> str:
        """Returns a curve's title."""
        return names.curve_name(name, self.language)

    def axis(self, label: str) -> str:
        """Returns an axis' title."""
        return names.axis_name(label, self.language)

    def origin(self, origin: str) -> str:
        """Returns where a figure comes from, in words."""
        return names.origin_name(origin, self.language)

    def value(self, value: float, unit: str) -> str:
        """Returns a figure with its unit: "412 images/s", "97.8 %", "yes"."""
        if unit == "share":
            return percent(value)
        if unit == "0/1" and value in (0, 1):
            return self("yes" if value else "no")
        return f"{number(value)} {names.unit_name(unit, self.language)}".rstrip()
