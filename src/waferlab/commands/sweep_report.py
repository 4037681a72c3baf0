"""The part of a report that is about sweeps: what they found, and what mattered."""

import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from waferlab.commands import markdown
from waferlab.tracking.sweeps import SweepRun
from waferlab.whole_file import write_whole

SWEEPS = "sweeps.md"
BEST: Final = 10
EXPLANATION = (
    "Values are of the validation part, in percent; trials do not touch the test part. Importance: a parameter's "
    "share in what sets the best trials apart (PED-ANOVA)."
)


def write_sweeps(study: str, sweeps: Sequence[SweepRun], folder: Path) -> list[Path]:
    """Write ``sweeps.md`` with a section for each sweep, and its figures beside it; return what was written."""
    lines = [f"# Sweeps of {markdown.text(study)}", "", f"Written by `waferlab report study={study}`. {EXPLANATION}"]
    figures = []
    folder.mkdir(parents=True, exist_ok=True)
    for sweep in sweeps:
        lines += ["", f"## {markdown.text(sweep.name)}", "", *_best(sweep), "", *_facts(sweep)]
        for figure in sweep.figures:
            place = folder / re.sub(r"[^\w.-]+", "_", f"{sweep.name}_{figure.name}")
            shutil.copyfile(figure, place)
            figures.append(place)
            lines += ["", markdown.image(place)]
    written = folder / SWEEPS
    write_whole(written, ("\n".join(lines) + "\n").encode())
    return [written, *figures]


def _best(sweep: SweepRun) -> list[str]:
    keys = list(sweep.trials[0].chosen)
    rows = []
    for trial in sweep.trials[:BEST]:
        chosen = [markdown.text(_short(trial.chosen[key])) for key in keys]
        rows.append([str(trial.number), *chosen, *map(_value, sweep.objectives, trial.values)])
    return markdown.table(["trial", *map(markdown.text, keys), *sweep.objectives], rows)


def _facts(sweep: SweepRun) -> Iterable[str]:
    yield "- trials: " + ", ".join(f"{count} {state}" for state, count in sorted(sweep.states.items()))
    whole = sum(trial.seconds for trial in sweep.trials) / len(sweep.trials)
    ended = sum(sweep.states.get(state, 0) for state in ("complete", "pruned"))
    if sweep.states.get("pruned") and whole:
        share = sweep.seconds / (ended * whole)
        yield (
            f"- time of all trials: {sweep.seconds / 60:.0f} min, {100 * share:.0f} % of what as many complete ones "
            f"would take, at their mean of {whole:.0f} s"
        )
    if len(sweep.objectives) == 1:
        ranked = sweep.trials[0], sweep.trials[len(sweep.trials) // 2], sweep.trials[-1]
        best, median, worst = (_value(sweep.objectives[0], trial.values[0]) for trial in ranked)
        yield f"- {sweep.objectives[0]} of complete trials: best {best}, median {median}, worst {worst}"
    else:
        yield f"- the table is the Pareto front: {len(sweep.trials)} trials that no other one beats in everything"
    if sweep.importance:
        shares = sorted(sweep.importance.items(), key=lambda item: -item[1])
        yield "- importance: " + ", ".join(f"{key} {share:.2f}" for key, share in shares)
    for command in sweep.best_commands[:BEST]:
        which = "the best one" if len(sweep.objectives) == 1 else "one of these"
        yield f"- {which} again, on the test part: {markdown.code(command)}"


def _value(objective: str, value: float) -> str:
    """Shares in percent, costs as they are."""
    return f"{100 * value:.2f}" if objective.startswith("val/") else f"{value:,.4g}" if value < 1 else f"{value:,.0f}"


def _short(value: str) -> str:
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value
