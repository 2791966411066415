"""Only what was inserted: its state, and files of it."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from torch import Tensor, nn

from visattn import weights
from visattn.insertion.wrapper import ATTENTION, attended
from visattn.types import UsageError


def attention_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of all inserted blocks, keyed as in ``model.state_dict()``.

    Example:
        >>> from visattn.insertion.attend import attend
        >>> host = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> _ = attend(host, "eca", at="1")
        >>> list(attention_state_dict(host))
        ['1.attention.eca.strength', '1.attention.eca.mix.weight']
    """
    state = {}
    for site, wrapper in attended(model).items():
        state.update(wrapper.attention.state_dict(prefix=f"{site}.{ATTENTION}."))
    return state


def save_attention(model: nn.Module, path: str | PathLike[str]) -> None:
    """Write the inserted blocks' state to ``path`` (safetensors).

    Raises:
        UsageError: ``model`` has no inserted block.
    """
    state = attention_state_dict(model)
    if not state:
        raise UsageError(f"{type(model).__name__} has no inserted attention to save")
    weights.save_state_dict(state, Path(path), {"visattn": "attention"})


def load_attention(model: nn.Module, path: str | PathLike[str]) -> None:
    """Load what ``save_attention`` wrote into a model with the same blocks at the same sites.

    Raises:
        UsageError: keys or shapes differ; nothing is changed then.
    """
    saved, own = weights.read_state_dict(Path(path), strip=False), attention_state_dict(model)
    wrong = [f"{key} is missing in the file" for key in own.keys() - saved.keys()]
    wrong += [f"{key} is not in the model" for key in saved.keys() - own.keys()]
    wrong += [
        f"{k} is {tuple(saved[k].shape)}, not {tuple(own[k].shape)}"
        for k in own.keys() & saved.keys()
        if own[k].shape != saved[k].shape
    ]
    if wrong:
        raise UsageError(f"{path} does not fit: {'; '.join(sorted(wrong)[:3])} ({len(wrong)} in all)")
    for site, wrapper in attended(model).items():
        prefix = f"{site}.{ATTENTION}."
        wrapper.attention.load_state_dict({k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)})
