"""Scores that people give: how familiar a team is with a framework, and scores stated outright."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from paddle_tk.decide.formulas import TOP
from paddle_tk.decide.parts import number
from paddle_tk.errors import BadInput
from paddle_tk.evidence import Option
from paddle_tk.registry import closest
from paddle_tk.types import Measurement, Score

FAMILIARITY = "team_familiarity"
_ORIGIN = "stated by the user"


def stated_score(option: str, criterion: str, value: float, of: str) -> Score:
    """Returns a score that the user has given.

    Args:
        option: Whose.
        criterion: Which.
        value: 0..5.
        of: Name under which the answer was given.
    """
    evidence = Measurement(criterion, value, "of 5", 1, "stated by the user", device="", conditions={"answer_for": of})
    formula = f"{number(value)} ({_ORIGIN} for {of})"
    return Score(option, criterion, value, value, value, formula, (evidence,))


def missing_score(option: str, criterion: str, why: str) -> Score:
    """Returns a score of which nothing is known: anything from 0 to 5."""
    return Score(option, criterion, None, 0.0, TOP, f"0 to 5 ({why})", (), (f"{criterion} ({why})",))


def familiarity_scores(familiarity: Mapping[str, float], options: Sequence[Option]) -> tuple[Score, ...]:
    """Scores the team's familiarity: the answer for an option by its name, or else that for its framework.

    Raises:
        BadInput: An answer for something else, or not from 0 to 5.
    """
    known = {o.name for o in options} | {o.framework for o in options}
    check_scores(familiarity, known, "decide.familiarity")
    return tuple(_familiarity(familiarity, o) for o in options)


def _familiarity(familiarity: Mapping[str, float], option: Option) -> Score:
    of = next((k for k in (option.name, option.framework) if k in familiarity), None)
    if of is None:
        return missing_score(option.name, FAMILIARITY, f"no answer for {option.framework} in decide.familiarity")
    return stated_score(option.name, FAMILIARITY, float(familiarity[of]), of)


def check_stated(stated: Mapping[str, Mapping[str, float]], options: Sequence[Option], criteria: Sequence[str]) -> None:
    """Refuses stated scores of options or criteria that are not there, or outside 0..5.

    Raises:
        BadInput: There is one.
    """
    names = {o.name for o in options}
    for option, scores in stated.items():
        if option not in names:
            raise unknown_name("stated scores", "option", option, names)
        check_scores(scores, set(criteria), f"stated scores of {option}")


def check_scores(scores: Mapping[str, float], known: set[str], where: str) -> None:
    """Refuses a key that is not known and a score outside 0..5.

    Raises:
        BadInput: There is one.
    """
    for key, value in scores.items():
        if key not in known:
            raise unknown_name(where, "name", key, known)
        if isinstance(value, bool) or not 0 <= value <= TOP:  # NaN too
            raise BadInput(f"{where}: {key} is {value}", "give a number from 0 to 5")


def unknown_name(where: str, kind: str, name: str, known: Iterable[str]) -> BadInput:
    """Returns the error for a name that is none of the known ones."""
    names = sorted(known)
    near = closest(name, names)
    hint = f"did you mean {near!r}? " if near else ""
    return BadInput(f"{where}: unknown {kind} {name!r}", f"{hint}one of {', '.join(names)}")
