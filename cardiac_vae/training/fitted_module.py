"""What a module must offer to be fitted."""

from abc import ABC, abstractmethod
from typing import Any

import lightning as L

MONITORED = "validation/loss"
"""What every fitted module logs in its validation step; lower is better."""


class FittedModule(L.LightningModule, ABC):
    """A module that ``fit`` takes: it logs ``validation/loss``, and can look at a batch.

    Attributes:
        subject: What is fitted to what; a fit of another subject is not gone on with.
    """

    subject: str = ""

    @abstractmethod
    def observe(self, batch: Any) -> None:
        """Pass a training batch through the network, for its batch-norm statistics alone."""
