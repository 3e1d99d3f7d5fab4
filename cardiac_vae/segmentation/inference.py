"""A trained segmenter, applied to whole scans: it finds the heart itself, and nothing is mended.

What it gets wrong stays in, for the refiner: no expert crop, no largest component, no filled hole.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cardiac_vae.config import read_yaml, write_yaml
from cardiac_vae.data.case import Spacing
from cardiac_vae.data.geometry import (
    PlaneGrid,
    covering_grid,
    resample_image,
    resample_probabilities,
)
from cardiac_vae.segmentation.network import (
    SegmenterConfig,
    build_network,
    normalize_image,
    slice_probabilities,
)

CONFIG, WEIGHTS = "config.yaml", "weights.safetensors"


@dataclass
class Segmenter:
    """A network and the settings it was trained with.

    Attributes:
        settings: Kept beside the weights, as ``config.yaml``.
        network: As ``build_network`` makes it; its device is where scans are segmented.
        use_bf16: Whether to multiply in bf16; by default where the hardware does.
    """

    settings: SegmenterConfig
    network: nn.Module
    use_bf16: bool | None = None

    def __post_init__(self) -> None:
        self.network.eval()
        if self.use_bf16 is None:
            from cardiac_vae.training.fit import cpu_has_bf16  # here, as it takes seconds

            self.use_bf16 = self._device.type == "cuda" or cpu_has_bf16()

    @classmethod
    def load(cls, folder: Path, device: str | None = None) -> Self:
        """Load what ``save`` wrote, to the GPU if there is one and no other device is named.

        Raises:
            FileNotFoundError: if the folder holds no segmenter.
            ValueError: if it holds another kind of model, or the weights do not fit the settings.
        """
        missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{folder}: expected a segmenter's folder, {' and '.join(missing)} not found; "
                "train one with: dvc repro train_segmenter"
            )
        settings = SegmenterConfig.parse(read_yaml(folder / CONFIG), str(folder / CONFIG))
        network = build_network(settings)
        _load_weights(network, folder / WEIGHTS)
        return cls(settings, network.to(device or ("cuda" if torch.cuda.is_available() else "cpu")))

    def save(self, folder: Path) -> None:
        """Write settings and weights to a folder, without pickle."""
        folder.mkdir(parents=True, exist_ok=True)
        write_yaml(folder / CONFIG, self.settings.model_dump(mode="json"))
        weights = {name: tensor.cpu().contiguous() for name, tensor in _tensors(self.network)}
        save_file(weights, folder / WEIGHTS)

    def predict(self, image: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
        """Return class probabilities (D, C, H, W) float32 of an image (D, H, W), on its own grid.

        Raises:
            ValueError: if the image is not (D, H, W) or has a NaN or infinite value.
        """
        if image.ndim != 3:
            raise ValueError(
                f"expected one volume (D, H, W), got shape {image.shape}; pass a cine by frame"
            )
        native = PlaneGrid(image[0].shape, spacing_mm[1:])
        seen = covering_grid(native, self.settings.pixel_mm)
        resampled = resample_image(image.astype(np.float32), native, seen)
        probabilities = self.predict_normalized(normalize_image(resampled))
        return resample_probabilities(probabilities, seen, native)

    @torch.inference_mode()
    def predict_normalized(self, image: np.ndarray) -> np.ndarray:
        """Return probabilities (D, C, H, W) float32 of what the network is trained on.

        That is ``normalize_image`` of a volume (D, H, W) at ``settings.pixel_mm``.
        """
        with torch.autocast(self._device.type, torch.bfloat16, enabled=bool(self.use_bf16)):
            probabilities = slice_probabilities(
                self.network, torch.from_numpy(image).to(self._device), self.settings.multiple
            )
        return probabilities.cpu().numpy()

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters and buffers, each once: MONAI's network names its blocks twice."""
    for name, parameter in network.named_parameters():
        yield name, parameter.detach()
    yield from network.named_buffers()


def _load_weights(network: nn.Module, path: Path) -> None:
    advice = f"{path}: expected the weights of the {CONFIG} beside it"
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{advice}, got {error}; train the segmenter again") from None
    own = dict(_tensors(network))
    if {name: tensor.shape for name, tensor in own.items()} != {
        name: tensor.shape for name, tensor in weights.items()
    }:
        raise ValueError(f"{advice}, got tensors of other names or shapes; restore {CONFIG}")
    for name, tensor in own.items():
        tensor.copy_(weights[name])
