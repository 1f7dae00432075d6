"""Which candidate is taken: the most accurate one inside all limits, and why each of the others lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from paddle_tk.errors import CheckFailed, PaddleTkError
from paddle_tk.pipelines.latency_bench import ALONE, CAREFUL, SCREENING, Accuracy, Bench
from paddle_tk.pipelines.latency_candidates import (
    Candidate,
    ModelFile,
    combined,
    for_rate,
    other_threads,
    refinements,
    starters,
)
from paddle_tk.pipelines.latency_limits import LatencyLimits
from paddle_tk.pipelines.latency_trial import Trial, nothing_fits

Say = Callable[[str], None]
Stage = Literal["screening", "careful", "alone"]
_EFFORTS = {"screening": SCREENING, "careful": CAREFUL, "alone": ALONE}
_FINALISTS = 4  # measured with care side by side
_KEPT = 2  # of those that compute the same, how many the screening lets through
_BEHIND = 3.0  # an engine so many times slower than another one is not tried any further
_SLACK = 1.2  # the screening's few runs may be wrong by this
_REACH = 2.0  # what breaks a limit by more than this no graph optimisation brings inside it
_HELPED = 0.97  # a change that brings less than 3 % is noise


@dataclass(frozen=True)
class Choice:
    """What was found.

    Attributes:
        chosen: The best candidate.
        trials: All candidates, it among them.
        reference: Accuracy of the given model.
    """

    chosen: Trial
    trials: tuple[Trial, ...]
    reference: Accuracy


@dataclass
class Search:
    """Finds the most accurate candidate inside all limits.

    Args:
        bench: Measures.
        limits: What is promised.
        cores: Cores that may be used.
        cpus: Their numbers, the preferred ones first.
        allow_slow: INT8 may be slower than FP32 in the same engine with the same settings.
        say: Told what is done.
    """

    bench: Bench
    limits: LatencyLimits
    cores: int
    cpus: Sequence[int]
    allow_slow: bool = False
    say: Say = lambda line: None
    trials: list[Trial] = field(default_factory=list)

    def run(self, models: Sequence[ModelFile], reference: Accuracy, hints: tuple[str, ...] = ()) -> Choice:
        """Screens all candidates, then measures the best with care until one keeps all limits.

        Args:
            models: Files to choose from.
            reference: Accuracy of the given model.
            hints: What to try where nothing fits.

        Raises:
            CheckFailed: None keeps all limits; the closest one and its figures are in the message.
        """
        self._screen_all(models)
        chosen = self._choose(self._survivors(), reference) or self._choose(self._second_look(), reference)
        if chosen is None:
            raise self._failure(hints)
        self._explain(chosen)
        return Choice(chosen, tuple(self.trials), reference)

    def _screen_all(self, models: Sequence[ModelFile]) -> None:
        starts = [start for model in models if model.batch_size in (None, 1) for start in starters(model, self.cores)]
        self.say(f"screening {len(starts)} combinations of model file and engine, then variations of the best")
        first = self._screen(starts)
        more: list[Candidate] = []
        for trial in first:
            quicker = self._far_quicker(trial, first)
            if quicker is not None:
                trial.reason = (
                    f"more than {_BEHIND:g} times as slow as {quicker.told}, which computes the same; nothing else was "
                    "tried with it"
                )
                continue
            more += other_threads(trial.candidate, self.cores)
            if self.limits.min_fps is not None:
                more += for_rate(trial.candidate, models, self.cores)
        self._screen(more)
        self._drop_slow_int8()
        for best in self._worth_refining():
            tried = self._screen(refinements(best.candidate, self.cpus))
            better = sorted((t for t in tried if self._cost(t) < _HELPED * self._cost(best)), key=self._cost)
            together = combined(best.candidate, [t.candidate for t in better])
            self._screen([together] if together is not None else [])

    def _screen(self, candidates: Sequence[Candidate]) -> list[Trial]:
        """Times candidates that were not tried yet; returns those that could be."""
        known = {trial.candidate.settings for trial in self.trials}
        trials = [Trial(candidate) for candidate in candidates if candidate.settings not in known]
        self._time(trials, "screening")
        self.trials += trials
        return [trial for trial in trials if trial.screening is not None]

    def _time(self, trials: Sequence[Trial], stage: Stage) -> None:
        """Times trials; one that fails is told so."""
        found = self.bench.times([trial.candidate for trial in trials], _EFFORTS[stage])
        for trial, times in zip(trials, found, strict=True):
            if isinstance(times, str):
                trial.reason = f"failed: {times}"
            else:
                setattr(trial, stage, times)

    def _far_quicker(self, trial: Trial, others: Sequence[Trial]) -> Trial | None:
        """Returns what makes more tries with an engine useless; nothing does where time is not all that counts."""
        if self.limits.max_memory_mib is not None or self.limits.max_cpu_share is not None:
            return None
        best = min((other for other in others if other.group == trial.group), key=self._cost)
        return best if self._cost(trial) > _BEHIND * self._cost(best) else None

    def _cost(self, trial: Trial) -> float:
        """Returns what is to be small: the median time, or seconds per image where only a rate is asked for."""
        if self._for_rate:
            return 1 / max(trial.times.images_per_second, 1e-9)
        return trial.p50_ms

    def _drop_slow_int8(self) -> None:
        """INT8 that is slower than FP32 in the same engine has lost its purpose."""
        if self.allow_slow:
            return
        measured = [trial for trial in self._in_play() if not trial.reason]
        floats = {trial.pairing: trial for trial in measured if trial.candidate.settings.precision == "fp32"}
        for trial in measured:
            other = floats.get(trial.pairing)
            if other is None or trial is other or self._cost(trial) <= _SLACK * self._cost(other):
                continue
            trial.reason = f"{self._compared(trial, other, ' than FP32 in the same engine')} in the screening"

    def _in_play(self) -> list[Trial]:
        """Returns the trials that were timed and that accuracy does not rule out."""
        return [trial for trial in self.trials if trial.screening is not None and not trial.unfit]

    def _worth_refining(self) -> list[Trial]:
        """Returns the quickest of each group, as far as it is near the limits."""
        kept: dict[tuple[Any, ...], Trial] = {}
        for trial in sorted(self._in_play(), key=self._cost):
            if not trial.reason and trial.far_off(self.limits) <= _REACH:
                kept.setdefault(trial.group, trial)
        return list(kept.values())

    def _survivors(self) -> list[Trial]:
        """Returns what is measured with care; every other trial is told why it is not."""
        kept: list[Trial] = []
        for trial in self._ordered([trial for trial in self._in_play() if not trial.reason]):
            broken = [breach for breach in trial.breaches(self.limits) if breach.factor > _SLACK]
            same = [other for other in kept if other.group == trial.group and not other.breaches(self.limits)]
            if broken:
                trial.reason = "; ".join(breach.told for breach in broken) + " in the screening"
            elif len(same) < _KEPT or all(_engine(trial) != _engine(other) for other in same):
                kept.append(trial)  # engines differ in their slowest runs and in memory too
            else:
                compared = self._compared(trial, same[0], f" than {same[0].told}, which computes the same")
                trial.reason = f"{compared} in the screening"
        return kept

    def _choose(self, survivors: Sequence[Trial], reference: Accuracy) -> Trial | None:
        for trial in survivors:
            try:
                trial.accuracy = self.bench.accuracy(trial.candidate)
            except PaddleTkError as error:
                trial.reason, trial.unfit = f"failed: {error.problem}", True
                continue
            trial.reason = unfit(trial.accuracy, reference, self.limits)
            trial.unfit = bool(trial.reason)
        queue = self._ordered([trial for trial in survivors if not trial.reason])
        while queue:
            finalists, queue = queue[:_FINALISTS], queue[_FINALISTS:]
            chosen = self._final(finalists)
            if chosen is not None:
                return chosen
        return None

    def _ordered(self, trials: Sequence[Trial]) -> list[Trial]:
        """Returns trials as they are preferred: the most accurate, then the quickest, then the plainest first."""
        rest, ordered = list(trials), []
        while rest:
            best = max(trial.worth for trial in rest)
            accurate = [trial for trial in rest if trial.worth >= best - self.limits.same_accuracy]
            quickest = min(self._cost(trial) for trial in accurate)
            equal = [trial for trial in accurate if _HELPED * self._cost(trial) <= quickest]
            ordered.append(min(equal, key=lambda trial: (trial.candidate.settings.extras, self._cost(trial))))
            rest.remove(ordered[-1])
        return ordered

    def _final(self, finalists: Sequence[Trial]) -> Trial | None:
        """Measures finalists with care and the best of them alone; returns the first that keeps all limits."""
        fitting = self._measured_with_care(finalists)
        for trial in self._ordered(fitting):
            self._time([trial], "alone")
            if not trial.reason and self._keeps_all(trial):
                return trial
        return None

    def _measured_with_care(self, trials: Sequence[Trial]) -> list[Trial]:
        """Measures trials in turn; returns those that keep all limits."""
        self.say(f"measuring {len(trials)} candidate(s) with care, in fresh processes")
        self._time(trials, "careful")
        for trial in trials:
            if trial.reason:
                continue
            try:
                trial.process = self.bench.process(trial.candidate)
            except PaddleTkError as error:
                trial.reason = f"failed: {error.problem}"
        return [trial for trial in trials if not trial.reason and self._keeps_all(trial)]

    def _keeps_all(self, trial: Trial) -> bool:
        trial.reason = "; ".join(breach.told for breach in trial.breaches(self.limits))
        return not trial.reason

    def _second_look(self) -> list[Trial]:
        """Measures the closest candidates with care where the screening ruled out everything; returns what does fit."""
        pool = self._in_play()
        if not pool or any(trial.careful is not None for trial in pool):
            return []
        closest = sorted(pool, key=lambda trial: trial.far_off(self.limits))[:_KEPT]
        for trial in closest:
            trial.reason = ""
        return self._measured_with_care(closest)

    def _explain(self, chosen: Trial) -> None:
        """Says of every candidate that keeps the limits why another one is better."""
        for trial in self.trials:
            if trial is chosen or trial.reason:
                continue
            if trial.accuracy is not None and trial.worth < chosen.worth - self.limits.same_accuracy:
                trial.reason = f"less accurate: {trial.worth:.4f} against {chosen.worth:.4f} (n={trial.accuracy.n})"
            else:
                trial.reason = f"equally accurate and {self._compared(trial, chosen)}"

    def _compared(self, trial: Trial, other: Trial, told: str = "") -> str:
        """Returns how a trial that lost compares with another one in time, or in rate where only that counts."""
        n = trial.times.latency.n
        verdict = ("slower" if self._cost(trial) >= self._cost(other) else "hardly quicker") + told
        if self._for_rate:
            rates = trial.times.images_per_second, other.times.images_per_second
            return f"{verdict}: {rates[0]:.4g} (n={n}) against {rates[1]:.4g} images/s"
        return f"{verdict}: p50 {trial.p50_ms:.3g} (n={n}) against {other.p50_ms:.3g} ms"

    @property
    def _for_rate(self) -> bool:
        return self.limits.target_latency_ms is None and self.limits.min_fps is not None

    def _failure(self, hints: tuple[str, ...]) -> CheckFailed:
        careful = [trial for trial in self._in_play() if trial.careful is not None]
        if careful:
            return nothing_fits(min(careful, key=lambda trial: trial.far_off(self.limits)), self.limits, hints)
        reasons = "; ".join(dict.fromkeys(f"{trial.told}: {trial.reason}" for trial in self.trials if trial.reason))
        return CheckFailed(
            f"no candidate can be used: {reasons or 'there is none'}",
            "; ".join(hints) or "allow more engines and precisions, or raise --max-drop",
        )


def _engine(trial: Trial) -> str:
    return trial.candidate.settings.engine


def unfit(found: Accuracy, reference: Accuracy, limits: LatencyLimits) -> str:
    """Returns why a candidate's accuracy rules it out, "" where it does not."""
    if found.value is None or reference.value is None:
        return (
            "" if found.same else "its outputs differ from the given model's and no labelled images tell what it costs"
        )
    drop = reference.value - found.value
    if drop <= limits.max_drop:
        return ""
    return (
        f"accuracy {found.value:.4f} (n={found.n}), {100 * drop:.2f} points below the given model's "
        f"{reference.value:.4f}; {100 * limits.max_drop:g} are allowed"
    )
