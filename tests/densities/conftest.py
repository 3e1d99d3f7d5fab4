import pytest
import torch

from cardiac_vae.models import build_model

HIERARCHY = {"image_size": 16, "channels": [8, 8], "groups": [1, 1], "latent_channels": 2}
SETTINGS = {
    "ae": {"image_size": 16, "channels": [8, 8], "latent_dim": 3},
    "cvae": {"image_size": 16, "channels": [8, 8], "latent_dim": 3},
    "nvae": HIERARCHY | {"group_width": 4},
    "vae": {"image_size": 16, "channels": [8, 8], "latent_dim": 3},
}


@pytest.fixture
def build():
    """Return a maker of tiny models in evaluation mode, every weight a little off its start."""

    def made(name):
        torch.manual_seed(0)
        model = build_model(name, SETTINGS[name])
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        return model.eval()

    return made


@pytest.fixture
def masks():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(4, (40, 16, 16), generator=generator).to(torch.uint8)
