"""Each model of the contract in turn: all of them, or those of which something holds."""

import pytest
from tiny_models import EVERY, GENERATIVE, TRAINED, VARIATIONAL, settled


@pytest.fixture(params=EVERY)
def model(request):
    return settled(request.param)


@pytest.fixture(params=TRAINED)
def trained(request):
    return settled(request.param)


@pytest.fixture(params=VARIATIONAL)
def variational(request):
    return settled(request.param)


@pytest.fixture(params=GENERATIVE)
def generative(request):
    return settled(request.param)
