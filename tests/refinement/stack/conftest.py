import numpy as np
import pytest

from cardiac_vae.labels import Phase
from cardiac_vae.refinement.stack.presence_prior import STATES, PresencePrior
from cardiac_vae.refinement.stack.stack_model import SegmentedStack

ALL, NO_RV, WALL, NOTHING = 7, 6, 2, 0  # sets of RV (1), MYO (2), LV (4)


@pytest.fixture(scope="session")
def stacks() -> list[np.ndarray]:
    """Return the structures (D, 3) of 40 stacks: all three, then no RV, the wall, nothing."""
    rng = np.random.default_rng(3)
    lengths = [rng.integers([4, 1, 0, 0], [7, 3, 2, 2]) for _ in range(40)]
    return [
        STATES[np.repeat([ALL, NO_RV, WALL, NOTHING], length)].astype(bool) for length in lengths
    ]


@pytest.fixture(scope="session")
def presence(stacks: list[np.ndarray]) -> PresencePrior:
    return PresencePrior.learn([(Phase.ED, stack) for stack in stacks])


@pytest.fixture(scope="session")
def segmented(stacks: list[np.ndarray]) -> list[SegmentedStack]:
    """Return stacks whose evidence is normal, about 1 where a structure is and -1 elsewhere."""
    rng = np.random.default_rng(4)
    return [
        SegmentedStack(
            np.where(stack, 1.0, -1.0)[..., None] + rng.normal(size=(*stack.shape, 2)),
            stack,
            Phase.ED,
        )
        for stack in stacks
    ]
