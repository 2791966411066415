"""What two arms of a comparison must share: the host's weights at step 0 and the order of the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L

from visattn.insertion.state import attention_state_dict
from visattn.weights import digest


class PairingProof(L.Callback):
    """Write ``pairing.json`` into the run folder when a run starts anew.

    Args:
        run: the run folder.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / "pairing.json"

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hash the host's weights and the order of the first epochs."""
        if not trainer.is_global_zero or self.path.exists():
            return
        task: Any = pl_module
        network = task.network
        added = attention_state_dict(network)
        host = {key: value for key, value in network.state_dict().items() if key not in added}
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        proof = {
            "host_weights": digest(host),
            "order": data.order_digest(),
            "data": {
                "name": type(data).__name__,
                **{split: len(data.dataset(split)) for split in ("train", "val", "test")},
                "classes": list(data.class_names),
                "image_size": task.picture_size(data.hparams),
            },
        }
        self.path.write_text(json.dumps(proof, indent=1) + "\n")
