"""Each model of the contract in turn: all of them, or those of which something holds."""

import pytest
from tiny_models import EVERY, GENERATIVE, TRAINED, VARIATIONAL, settled


def each_of(names):
    """Return a fixture that is each of the named models in turn."""

    @pytest.fixture(params=names)
    def one(request):
        return settled(request.param)

    return one


model, trained = each_of(EVERY), each_of(TRAINED)
variational, generative = each_of(VARIATIONAL), each_of(GENERATIVE)
