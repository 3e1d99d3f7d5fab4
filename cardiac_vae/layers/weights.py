"""A network's weights on file, as safetensors: nothing is pickled, nothing half-written."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn


def write_weights(path: Path, network: nn.Module) -> None:
    """Write parameters and buffers beside the file, then put them in its place."""
    tensors = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    beside = path.with_name(path.name + ".part")
    save_file(tensors, beside)
    beside.replace(path)


def read_weights(path: Path, network: nn.Module, config: Path, kind: str) -> None:
    """Give a network the weights of a file; ``config`` is what describes it, ``kind`` its name.

    Raises:
        ValueError: if they are not this network's.
    """
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path}: expected the weights of {config}, got {reason}; train the {kind} again, or "
            "copy its folder whole"
        ) from None
