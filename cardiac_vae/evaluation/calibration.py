"""A segmenter's calibration: fitted to the validation patients, judged on those that were left out.

On them nothing was trained, and no table is about them. What it is worth is told by fits that have
not seen the patient in question: leave one patient out, or a fold of them where they are many.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, NonNegativeInt

from cardiac_vae.config import StrictConfig
from cardiac_vae.correction.corrector import Corrector
from cardiac_vae.data.case import CardiacCase
from cardiac_vae.data.prepared import read_prepared
from cardiac_vae.data.segmented import SCANS
from cardiac_vae.evaluation.calibration_scores import SEGMENTER, LeftOut, score_left_out
from cardiac_vae.evaluation.interval_scores import Judged
from cardiac_vae.evaluation.segmented_case import (
    SegmentedCase,
    learn_stacks,
    read_segmented_case,
)
from cardiac_vae.metrics.presence import PresenceErrors, presence_errors, present_structures
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.observation import ObservationModel, Scaling
from cardiac_vae.refinement.observation_fit import (
    ObservationFitConfig,
    fit_observation,
    fit_scaling,
)
from cardiac_vae.refinement.stack.decisions import DecisionConfig, decide, presence_term, redrawn
from cardiac_vae.refinement.stack.evidence import peaks
from cardiac_vae.refinement.stack.presence_prior import PresencePrior
from cardiac_vae.refinement.stack.stack_model import StackConfig, StackModel, fit_stack
from cardiac_vae.refinement.uncertainty import ErrorModel
from cardiac_vae.refinement.uncertainty_fit import ExpertVolumes, fit_errors

PRIORS: tuple[Literal["independent", "chain"], ...] = ("independent", "chain")
_FEWEST_PATIENTS = 3


class CalibrationConfig(StrictConfig):
    """How the calibration is fitted and judged.

    Attributes:
        observation: How the observation model is fitted.
        stack: How the stack that is kept is fitted. Both priors are judged.
        decisions: Evidence that it takes to touch a slice when presence is judged.
        max_folds: Patients are left out one by one, or in so many folds if there are more.
        seed: Of the intervals.
    """

    observation: ObservationFitConfig = ObservationFitConfig()
    stack: StackConfig = StackConfig()
    decisions: DecisionConfig = DecisionConfig()
    max_folds: int = Field(default=10, ge=_FEWEST_PATIENTS)
    seed: NonNegativeInt = 0


def fit_and_score_calibration(
    cases: Iterable[CardiacCase],
    segmented: Path,
    prepared: Path,
    config: CalibrationConfig,
    corrector: Corrector | None = None,
) -> tuple[Calibration, dict[str, Any]]:
    """Fit the calibration to validation cases that were segmented, both kinds of scans together.

    A user's scan does not say which kind it is, so there is one calibration for both. The prior of
    presence is that of the prepared training masks. A volume in which the segmenter drew nothing
    has no window and no say in the observation, which keeps its default if there is no other. A
    ``corrector`` is a part of the calibration, and is heard on what slices hold.

    Returns:
        The calibration, and plain values for JSON: ``patients``, ``num_training_stacks``, the
        fitted ``observation`` and ``shared_errors``, and ``left_out``, with ``num_folds`` and, by
        kind of scans, ``score_left_out``. With fewer than 3 patients that is None, and ``note``
        says why.

    Raises:
        FileNotFoundError: if a case was not segmented, or the dataset is not prepared.
        ValueError: if there is no case, or files do not fit each other.
    """
    train = read_prepared(prepared, "train")
    margin_mm = config.observation.margin_mm
    found = [
        read_segmented_case(case, scans, segmented, train[0], margin_mm, corrector)
        for case in cases
        for scans in SCANS
    ]
    if not found:
        raise ValueError(
            "validation: expected a patient to calibrate on, got none; give the split a share in "
            "prepare.split, and segment it"
        )
    presence, order = learn_stacks(train)
    pairs = [case.pair for case in found if case.pair is not None]
    observation = fit_observation(pairs, config.observation) if pairs else ObservationModel()
    stack = fit_stack(presence, [case.stack for case in found], config.stack)
    errors = _fit_errors([case.volumes(observation.of_probabilities) for case in found])
    patients = sorted({case.patient_id for case in found})
    return Calibration(observation, stack, order, errors, corrector), {
        "patients": patients,
        "num_training_stacks": len(train),
        "observation": observation.model_dump(mode="json"),
        "shared_errors": None if errors is None else errors.model_dump(mode="json"),
        **_worth(patients, found, presence, config),
    }


def _worth(
    patients: Sequence[str],
    cases: Sequence[SegmentedCase],
    presence: PresencePrior,
    config: CalibrationConfig,
) -> dict[str, Any]:
    if len(patients) < _FEWEST_PATIENTS:
        note = (
            f"expected at least {_FEWEST_PATIENTS} validation patients to leave some out, got "
            f"{len(patients)}: what the calibration is worth is not known"
        )
        return {"note": note, "left_out": None}
    num_folds = min(len(patients), config.max_folds)
    folds = [set(patients[first::num_folds]) for first in range(num_folds)]
    results = [result for fold in folds for result in leave_out(fold, cases, presence, config)]
    scores = {
        scans: score_left_out([r for r in results if r.scans == scans], config.seed)
        for scans in SCANS
    }
    return {"left_out": {"num_folds": num_folds, **scores}}


def leave_out(
    fold: set[str],
    cases: Sequence[SegmentedCase],
    presence: PresencePrior,
    config: CalibrationConfig,
) -> Iterator[LeftOut]:
    """Yield the cases of a fold's patients, by fits to the cases of all others."""
    rest = [case for case in cases if case.patient_id not in fold]
    scaling = _fit_scaling(rest, config.observation)
    stacks = [case.stack for case in rest]
    models: dict[str, StackModel] = {
        prior: fit_stack(presence, stacks, config.stack.model_copy(update={"prior": prior}))
        for prior in PRIORS
    }
    errors = _fit_errors([case.volumes(scaling) for case in rest])
    for case in cases:
        if case.patient_id in fold:
            yield LeftOut(
                patient_id=case.patient_id,
                scans=case.scans,
                raw=case.near,
                calibrated=scaling.apply(case.near),
                truth=case.truth,
                presence=_presence(case, models, config.decisions),
                judged=None
                if errors is None
                else Judged(case.patient_id, case.phase, case.volumes(scaling), errors),
            )


def _fit_scaling(cases: Sequence[SegmentedCase], config: ObservationFitConfig) -> Scaling:
    """Return the ``of_probabilities`` of ``fit_observation`` to these cases, without the masks'."""
    near = np.concatenate([case.near for case in cases])
    truth = np.concatenate([case.truth for case in cases])
    if not len(truth):
        return Scaling()
    chosen = slice(None, None, 1 + (len(truth) - 1) // config.most_voxels)
    return fit_scaling(near[chosen], truth[chosen], class_bias=config.class_bias)


def _fit_errors(volumes: Sequence[ExpertVolumes]) -> ErrorModel | None:
    """Return how far errors go together; None if the segmenter misses a structure everywhere."""
    try:
        return fit_errors(volumes)
    except ValueError:
        return None


def _presence(
    case: SegmentedCase, models: Mapping[str, StackModel], config: DecisionConfig
) -> dict[str, PresenceErrors]:
    """Return the errors of what the segmenter drew, and of what each model makes of it."""
    errors = {SEGMENTER: presence_errors(case.expert, case.drawn)}
    present = present_structures(case.drawn)
    peak = peaks(case.probabilities, case.pixel_mm)
    for name, model in models.items():
        log_odds = model.posterior(case.stack.evidence, case.stack.phase).log_odds
        term = presence_term(decide(present, log_odds, config), peak, log_odds)
        errors[name] = presence_errors(case.expert, redrawn(case.drawn, case.probabilities, term))
    return errors
