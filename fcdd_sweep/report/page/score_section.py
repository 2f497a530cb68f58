"""The section of a run's page on the image scores that `auto` chose: all candidates, the used one marked."""

from __future__ import annotations

from fcdd_sweep.config.fields import score_title
from fcdd_sweep.metrics.statistics import summarize
from fcdd_sweep.report.page import html
from fcdd_sweep.report.page.html import Markup, element, section
from fcdd_sweep.report.run_files import Run
from fcdd_sweep.report.text import metric_text, spread_text

_NOTE = (
    "Each class's image score is chosen on selection images, which neither training, nor thresholds, nor test have: "
    "the one with the largest AUROC over pairs of one trial, but the mean, or else the largest value, where it is not "
    "better than that by more than a standard error. The test AUROC, mean over the trials shown here, plays no part."
)
_USED = "\N{CHECK MARK}"
_MOST_UNFOLDED = 5
"""Classes; the table of more is folded."""


def image_score_section(run: Run, tested: Run) -> Markup | str:
    """Return the section; empty where the experiment names the score.

    Args:
        run: with all of its trials.
        tested: with the trials whose test metrics may be shown.
    """
    if not run.score_choices:
        return ""
    rows = []
    for name, choice in run.score_choices.items():
        aurocs = [trial.by_score for trial in tested.trials if trial.normal_class == name and trial.by_score]
        for each in choice.candidates:
            gain = f"{each.gain:+.3f} ± {each.std_error:.3f}"
            test = spread_text(summarize(found[each.column] for found in aurocs))
            used = element("b", _USED) if each.column == choice.column else ""
            rows.append((name, score_title(each.column), used, metric_text(each.auroc), gain, test))
    sentences = [f"{name}: {choice.text}." for name, choice in run.score_choices.items()]
    head = ("class", "score of an image", "used", "selection AUROC", "gain over the mean", "test AUROC")
    table = html.table(head, rows, names=3) if rows else ""
    if len(run.score_choices) > _MOST_UNFOLDED:
        folded = html.details("All classes", html.joined([html.bullets(sentences), table]))
        return section("Image scores", element("p", _NOTE, cls="note"), folded)
    return section("Image scores", element("p", _NOTE, cls="note"), html.bullets(sentences), table)
