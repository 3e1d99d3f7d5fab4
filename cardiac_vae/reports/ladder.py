"""The table of all shape models: a column each while they are few, else a row each.

Of many the headline stands first, with the interval of each number below it; all other numbers
follow, folded away.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cardiac_vae.reports.html import details, heading, paragraph
from cardiac_vae.reports.rungs import Rung
from cardiac_vae.reports.shape_scores import MEASURES, Measure, known, measure, notes
from cardiac_vae.reports.tables import (
    FEW,
    NO_VALUE,
    Cell,
    Line,
    limits,
    number,
    plain_table,
    stacked_table,
)

TOLD, TOKENS = "\N{DAGGER}", "\N{DOUBLE DAGGER}"

HEADLINE: Mapping[str, Sequence[Measure]] = {
    "Reconstruction": (
        measure("metrics/dice_mean", title="Dice"),
        measure("metrics/valid_reconstructions", title="Valid", digits=0),
    ),
    "Nats per slice": (
        measure("metrics/negative_elbo", title="Neg. ELBO", unit="", digits=0),
        measure("metrics/rate", title="Rate", unit="KL", digits=0),
        measure(
            "likelihood/metrics/negative_log_likelihood", title="NLL", unit="importance", digits=0
        ),
        measure("likelihood/metrics/bits_per_dimension", title="Bits", unit="per pixel", digits=3),
    ),
    "Latent scalars": (
        measure("latent_scalars", title="All"),
        measure("active_units", title="Active"),
    ),
    "Drawn from the prior": (
        measure("metrics/valid_samples_at_1", title="Valid", digits=0),
        measure(
            "generation/metrics/frechet", title="Fréchet", unit="SD\N{SUPERSCRIPT TWO}", digits=1
        ),
        measure("generation/metrics/coverage", digits=0),
    ),
    "Cost": (
        Measure("training/num_parameters", "Size", "million", 2, 1e-6),
        Measure("training/seconds", "Fit", "minutes", 0, 1 / 60),
    ),
}
_SCALARS, _ACTIVE = "latent_scalars", "active_units"


def tables(rungs: Sequence[Rung]) -> list[str]:
    """Return the table, or for many models the tables, and what must be known to read them."""
    scores = [rung.scores for rung in rungs]
    if len(rungs) <= FEW:
        lines = [
            [found.heading, *(_text(rung, found) for rung in rungs)]
            for group in MEASURES.values()
            for found in known(group, scores)
        ]
        return [
            plain_table(["", *(rung.name for rung in rungs)], lines),
            *_footnotes(rungs),
            *notes(scores),
        ]
    everything = []
    for title, group in MEASURES.items():
        found = known(group, scores)
        above = {of.real for of in found if _shared_real(rungs, of)}  # stands in the first row
        shown = [of for of in found if of.path not in above]
        if shown:
            everything += [heading(title), _table(rungs, {"": shown})]
    headline = {title: known(group, scores) for title, group in HEADLINE.items()}
    return [
        _table(rungs, {title: group for title, group in headline.items() if group}),
        paragraph(
            "Colors: the model file behind a recipe, as in the figures. Below a number its 95 % "
            "interval, over patients; of samples, over samples; of the Fréchet distance, over "
            "halves. Real hearts: expert slices in the place of reconstructions and samples, the "
            "training set's halves in that of the Fréchet distance. Bold: the best of a column, "
            "and all whose interval meets its own; the slices are the same for all, so two whose "
            "intervals meet may still differ.",
            "note",
        ),
        *_footnotes(rungs),
        details("All numbers", [*everything, *notes(scores)]),
    ]


def _table(rungs: Sequence[Rung], groups: Mapping[str, Sequence[Measure]]) -> str:
    measures = [found for group in groups.values() for found in group]
    best = {found.path: _best(rungs, found) for found in measures}
    bodies: dict[str, list[Line]] = {}
    real = [_real(rungs, found) for found in measures]
    if any(cell.text for cell in real):
        bodies[""] = [Line("Real hearts", real)]
    for rung in rungs:
        cells = [_cell(rung, found, is_best=rung.name in best[found.path]) for found in measures]
        bodies.setdefault(rung.family, []).append(Line(rung.name, cells, rung.color))
    heads = {
        title: [(found.title, found.unit) for found in group] for title, group in groups.items()
    }
    return stacked_table(heads, list(bodies.values()))


def _cell(rung: Rung, found: Measure, is_best: bool) -> Cell:
    special = _special(rung, found)
    if special is not None:
        return Cell(special)
    values = found.of(rung.scores)
    if not values:
        return Cell(NO_VALUE)
    return Cell(
        number(values["mean"], found.digits, found.scale) + _mark(rung, found),
        limits(values, found.digits, found.scale) if "low" in values else "",
        is_best,
    )


def _text(rung: Rung, found: Measure) -> str:
    special = _special(rung, found)
    return found.text(rung.scores) + _mark(rung, found) if special is None else special


def _special(rung: Rung, found: Measure) -> str | None:
    """Return what stands for the scalars of a model that has tokens."""
    if not rung.has_tokens:
        return None
    texts = {_SCALARS: f"{rung.scores[_SCALARS]} tokens{TOKENS}", _ACTIVE: NO_VALUE + TOKENS}
    return texts.get(found.path)


def _mark(rung: Rung, found: Measure) -> str:
    return TOLD if rung.is_conditional(found.path) and found.of(rung.scores) else ""


def _best(rungs: Sequence[Rung], found: Measure) -> set[str]:
    """Return the recipe with the best mean, and those whose interval meets its interval."""
    ends = {}
    for rung in rungs:
        values = None if _mark(rung, found) else found.of(rung.scores)
        if values and values.get("low") is not None:
            ends[rung.name] = values
    if not found.better or len(ends) < 2:
        return set()
    best = max(ends.values(), key=lambda values: found.better * values["mean"])
    return {
        name
        for name, values in ends.items()
        if values["high"] >= best["low"] and values["low"] <= best["high"]
    }


def _real(rungs: Sequence[Rung], found: Measure) -> Cell:
    values = _shared_real(rungs, found)
    if values is None:
        return Cell("")
    return Cell(
        number(values["mean"], found.digits, found.scale),
        limits(values, found.digits, found.scale) if "low" in values else "",
    )


def _shared_real(rungs: Sequence[Rung], found: Measure) -> Mapping[str, Any] | None:
    """Return what real masks score, where it is one number for all recipes that have it."""
    values = [found.of_real(rung.scores) for rung in rungs]
    having = [value for value in values if value]
    return having[0] if having and all(value == having[0] for value in having) else None


def _footnotes(rungs: Sequence[Rung]) -> list[str]:
    told = [rung.name for rung in rungs if rung.is_told]
    tokens = [rung for rung in rungs if rung.has_tokens]
    found = []
    if told:
        found.append(
            f"{TOLD} {', '.join(told)}: told the true condition c (group, phase, position) of "
            "every slice, so that ELBO, rate and reconstruction are of log p(x | c), not of "
            "log p(x) as for the others; Dice and validity are of reconstructions with c. "
            "Likelihood, bits, generalization, Fréchet distance and coverage are without c, as for "
            "the others."
        )
    found += [f"{TOKENS} {rung.name}: {_tokens(rung)}" for rung in tokens]
    return [paragraph(text, "note") for text in found]


def _tokens(rung: Rung) -> str:
    count = rung.scores[_SCALARS]
    text = f"its code is {count} discrete tokens, not scalars, so that none of them is active"
    book = rung.codebook
    if book is None:
        return f"{text}."
    return (
        f"{text}. A token is one of {book.num_codes} codes; the held-out slices take "
        f"{book.num_used} of them (perplexity {book.perplexity:.0f})."
    )
