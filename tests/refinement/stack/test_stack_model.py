import json
from itertools import product

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from cardiac_vae.labels import Phase
from cardiac_vae.refinement.stack import stack_model
from cardiac_vae.refinement.stack.presence_prior import STATES, PresencePrior
from cardiac_vae.refinement.stack.stack_model import (
    SegmentedStack,
    StackConfig,
    StackModel,
    fit_stack,
)


@pytest.fixture(scope="session")
def model(presence, segmented):
    return fit_stack(presence, segmented)


def test_the_posterior_is_that_of_all_sequences_in_both_directions(model, rng):
    evidence = rng.normal(size=(3, 3, 2))
    standard = (evidence - np.array(model.center)) / np.array(model.scale)
    weights = np.array(model.weights)
    scores = (standard * weights[:, :2]).sum(axis=2) + weights[:, 2]
    chain = model.presence.chain(3, Phase.ED)
    log_joint, present, base_first = [], [], []
    for states, forward in product(product(range(8), repeat=3), (True, False)):
        way = states if forward else states[::-1]
        prior = chain.log_initial[way[0]] + sum(
            chain.log_transitions[i, way[i], way[i + 1]] for i in range(2)
        )
        log_joint.append(prior + (scores * STATES[list(states)]).sum())
        present.append(STATES[list(states)])
        base_first.append(forward)
    probability = np.exp(np.array(log_joint) - logsumexp(log_joint))
    expected = np.tensordot(probability, np.array(present), axes=1)
    posterior = model.posterior(evidence, Phase.ED)
    np.testing.assert_allclose(posterior.probability, expected, rtol=1e-8)
    assert posterior.base_first == pytest.approx(probability[np.array(base_first)].sum())


def test_a_stack_from_the_apex_is_the_same_stack(model, segmented):
    evidence = segmented[0].evidence
    there, back = model.posterior(evidence), model.posterior(evidence[::-1])
    np.testing.assert_allclose(there.log_odds, back.log_odds[::-1])
    np.testing.assert_array_equal(there.path, back.path[::-1])
    assert there.base_first == pytest.approx(1 - back.base_first)
    assert there.base_first > 0.9


def test_the_gradient_of_the_fit_is_that_of_its_objective(presence, segmented, rng):
    groups = stack_model._grouped(presence, segmented[:6], StackConfig(), (np.zeros(2), np.ones(2)))
    variance = np.array([1.0, 2.0, 3.0])

    def part(which):
        return lambda flat: stack_model._objective(flat.reshape(3, 3), groups, variance)[which]

    assert check_grad(part(0), part(1), rng.normal(size=9), seed=0) < 1e-4


def test_with_a_flat_prior_the_fit_is_logistic_regression(segmented):
    """Single slices, every state as probable: each structure is a regression of its own."""
    every_state = PresencePrior.learn([(Phase.ED, STATES.astype(bool))])
    flat = every_state.model_copy(update={"bandwidth": 1e6})
    slices = [
        SegmentedStack(stack.evidence[[i]], stack.present[[i]], Phase.ED)
        for stack in segmented[:15]
        for i in range(len(stack.present))
    ]
    model = fit_stack(flat, slices, StackConfig(prior="independent", weight_variance=1e4))
    evidence = np.concatenate([slice_.evidence for slice_ in slices])
    present = np.concatenate([slice_.present for slice_ in slices])
    standard = (evidence - np.array(model.center)) / np.array(model.scale)
    log_odds = np.stack([model.posterior(slice_.evidence).log_odds[0] for slice_ in slices[:9]])
    for k in range(3):
        regression = LogisticRegression(C=1e4, tol=1e-8).fit(standard[:, k], present[:, k])
        reference = regression.decision_function(standard[:9, k])
        np.testing.assert_allclose(log_odds[:, k], reference, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("prior", ["chain", "independent"])
def test_the_stack_corrects_its_slices(presence, segmented, prior):
    """Errors of presence after the fit, against those of each number on its own."""
    model = fit_stack(presence, segmented[:15], StackConfig(prior=prior))
    alone = told = 0
    for stack in segmented[20:]:
        alone += ((stack.evidence.mean(axis=2) > 0) != stack.present).sum()
        told += ((model.posterior(stack.evidence).log_odds > 0) != stack.present).sum()
    assert told < 0.6 * alone


def test_the_path_is_a_stack_that_was_seen_before(model, segmented):
    noisy = segmented[0].evidence.copy()
    noisy[2] = -noisy[2]  # a gap in the middle, by one slice's word
    assert model.posterior(noisy, Phase.ED).path[:4].all()


def test_it_goes_through_json(model, segmented):
    text = json.dumps(model.model_dump(mode="json"))
    again = StackModel.parse(json.loads(text), "stack.json")
    np.testing.assert_array_equal(
        again.posterior(segmented[0].evidence, Phase.ED).log_odds,
        model.posterior(segmented[0].evidence, Phase.ED).log_odds,
    )


def test_what_cannot_be_fitted_is_refused(presence, model):
    with pytest.raises(ValueError, match="one stack at least, with an expert's mask, got none"):
        fit_stack(presence, [])
    with pytest.raises(ValueError, match=r"expected \(D, 3, 2\) with D at least 1, got shape"):
        model.posterior(np.zeros((4, 2, 2)))


def test_a_corrector_that_knows_better_is_heard(presence, segmented, rng):
    """Its two numbers are as those of the segmenter, with a quarter of the noise."""
    told = [
        SegmentedStack(
            np.concatenate(
                [
                    stack.evidence,
                    np.where(stack.present, 1.0, -1.0)[..., None]
                    + 0.25 * rng.normal(size=(*stack.present.shape, 2)),
                ],
                axis=2,
            ),
            stack.present,
            stack.phase,
        )
        for stack in segmented
    ]
    model = fit_stack(presence, told[:15])
    assert model.hears_corrector
    assert not fit_stack(presence, segmented[:15]).hears_corrector
    weights = np.array(model.weights)
    assert (weights[:, 2:4].sum(axis=1) > 2 * weights[:, :2].sum(axis=1)).all()
    wrong = [
        int(((model.posterior(stack.evidence).log_odds > 0) != stack.present).sum())
        for stack in told[20:]
    ]
    assert sum(wrong) == 0
    again = StackModel.parse(model.model_dump(mode="json"), "stack.json")
    assert again.hears_corrector
    with pytest.raises(ValueError, match=r"expected \(D, 3, 4\) with D at least 1, got shape"):
        model.posterior(segmented[0].evidence)
    with pytest.raises(ValueError, match=r"expected \(D, 3, 2\) with D at least 1, got shape"):
        fit_stack(presence, [segmented[0], told[0]])


def test_of_an_unknown_phase_what_holds_at_both_is_said(model, rng):
    stacks = {Phase.ED: ((7, 7, 7, 6, 2),) * 9, Phase.ES: ((0, 0, 7, 6, 0),) * 9}
    model = model.model_copy(update={"presence": PresencePrior(stacks=stacks)})
    num_agreed = num_disputed = 0
    for evidence in rng.normal(model.center, model.scale, size=(20, 5, 3, 2)):
        ed, es = (model.log_odds(evidence, phase) for phase in Phase)
        np.testing.assert_array_equal(ed, model.posterior(evidence, Phase.ED).log_odds)
        said, is_agreed = model.log_odds(evidence), np.sign(ed) == np.sign(es)
        np.testing.assert_array_equal(said[~is_agreed], 0.0)
        np.testing.assert_array_equal(
            np.abs(said)[is_agreed], np.minimum(abs(ed), abs(es))[is_agreed]
        )
        np.testing.assert_array_equal(np.sign(said)[is_agreed], np.sign(ed)[is_agreed])
        num_agreed += int(is_agreed.sum())
        num_disputed += int((~is_agreed).sum())
    assert num_agreed
    assert num_disputed
