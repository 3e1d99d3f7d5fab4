import pytest
import torch
from pydantic import ValidationError

from cardiac_vae.vi.ascent import Adam, StepSizes


def test_adam_is_that_of_torch():
    torch.manual_seed(0)
    ours, theirs = torch.zeros(3), torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([theirs], lr=0.1, maximize=True)
    state = Adam.at_rest(ours)
    sizes = StepSizes(size=0.1, delay=1e12)
    for _ in range(20):
        gradient = torch.randn(3)
        ours, state = state.step(ours, gradient, sizes)
        theirs.grad = gradient
        optimizer.step()
    torch.testing.assert_close(ours, theirs.detach())


def test_step_sizes_fall_from_the_first_one():
    sizes = StepSizes(size=0.4, delay=10, decay=1.0)
    assert sizes.at(0) == pytest.approx(0.4)
    assert sizes.at(10) == pytest.approx(0.2)
    assert sizes.at(90) == pytest.approx(0.04)
    assert StepSizes(size=0.4, delay=10, decay=0.6).at(10) == pytest.approx(0.4 * 2**-0.6)


@pytest.mark.parametrize("decay", [0.5, 1.01])
def test_steps_that_would_not_converge_are_refused(decay):
    with pytest.raises(ValidationError, match="decay"):
        StepSizes(decay=decay)
