"""Only what was inserted, and what of a frozen host trained along: its state, and files of it."""

from __future__ import annotations

from itertools import takewhile
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from visattn import weights
from visattn.insertion.trunk import modules
from visattn.insertion.wrapper import ATTENTION, attended, is_added
from visattn.types import UsageError, unknown

HEADS = ("fc", "classifier", "head", "heads")


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


def head_of(model: nn.Module, head: bool | str = True) -> tuple[str, nn.Module] | None:
    """Return the name and the module of a classifier's last layer, or ``None`` for ``head=False``.

    Args:
        model: the host, attended or not.
        head: ``True`` finds it: timm's ``get_classifier()``, or the last linear layer or convolution of
            ``fc``, ``classifier``, ``head`` or ``heads``. A name takes that module whole.

    Raises:
        UsageError: there is none, or no module of that name.

    Example:
        >>> head_of(nn.ModuleDict({"body": nn.Conv2d(3, 8, 3), "fc": nn.Linear(8, 2)}))[0]
        'fc'
    """
    if head is False:
        return None
    own = modules(model)
    if isinstance(head, str):
        if head not in own:
            raise unknown(f"head of {type(model).__name__}", head, [name for name, _ in model.named_children()])
        return head, own[head]
    classifier: Any = getattr(model, "get_classifier", None)
    if classifier is not None:
        top = classifier()
    else:
        top = next((child for name in HEADS if (child := getattr(model, name, None)) is not None), None)
    layers = [m for m in top.modules() if isinstance(m, nn.Linear | nn.Conv2d)] if isinstance(top, nn.Module) else []
    found = next(((name, module) for name, module in own.items() if layers and module is layers[-1]), None)
    if found is None:
        raise UsageError(f"no head is found in {type(model).__name__}; valid: head=False, or the name of a module")
    return found


def save_attention(model: nn.Module, path: str | PathLike[str], *, head: bool | str | None = None) -> None:
    """Write the inserted blocks' state to ``path`` (safetensors), and the head's where it was trained along.

    Args:
        model: an attended host.
        path: the file.
        head: ``None`` takes along the one module that trains in a host frozen otherwise: after
            ``visattn.freeze_host`` the head. ``True`` or a module's name takes the head, ``False`` does not.

    Raises:
        UsageError: ``model`` has no inserted block and no head to save, or no such head.
    """
    taken = _trained(model) if head is None else head_of(model, head)
    state = attention_state_dict(model)
    if taken is not None:
        state.update(taken[1].state_dict(prefix=f"{taken[0]}."))
    if not state:
        raise UsageError(f"{type(model).__name__} has no inserted attention to save")
    weights.save_state_dict(state, Path(path), {"visattn": "attention"})


def load_attention(model: nn.Module, path: str | PathLike[str], *, head: bool = True) -> None:
    """Load what ``save_attention`` wrote into a model with the same blocks at the same sites.

    Args:
        model: an attended host.
        path: the file, with or without a head.
        head: load the head if the file has one; ``False`` leaves the model's as it is.

    Raises:
        UsageError: keys or shapes differ; nothing is changed then.
    """
    blocks, whole = attention_state_dict(model), model.state_dict()
    saved = weights.read_state_dict(Path(path), strip=False)
    if not saved.keys() & whole.keys():
        saved = weights.strip_prefixes(saved)  # saved from a wrapped model
    if not head:
        saved = {key: value for key, value in saved.items() if key in blocks or is_added(key)}
    wrong = [f"{key} is missing in the file" for key in blocks.keys() - saved.keys()]
    wrong += [f"{key} is not in the model" for key in saved.keys() - whole.keys()]
    rest = [key.split(".")[:-1] for key in saved if key not in blocks and not is_added(key)]
    if not wrong and rest and not all(rest[0][:1] == parts[:1] for parts in rest):
        raise UsageError(f"{path} holds a host's weights besides blocks and a head; load it with visattn.load_weights")
    wrong += [
        f"{key} is {tuple(value.shape)}, not {tuple(whole[key].shape)}"
        for key, value in saved.items()
        if key in whole and value.shape != whole[key].shape
    ]
    if wrong:
        only_head = not any(is_added(line.partition(" ")[0]) for line in wrong)
        hint = "; head=False leaves the model's head as it is" if only_head else ""
        hint = hint if blocks else "; attend the model as it was before"
        raise UsageError(f"{path} does not fit: {'; '.join(sorted(wrong)[:3])} ({len(wrong)} in all){hint}")
    model.load_state_dict(saved, strict=False)


def _trained(model: nn.Module) -> tuple[str, nn.Module] | None:
    """Return the one module that trains in a host frozen otherwise, if it is one."""
    own = modules(model)
    learns = {name: [p.requires_grad for p in m.parameters(recurse=False)] for name, m in own.items()}
    if all(all(flags) for flags in learns.values()):
        return None
    paths = [name.split(".") for name, flags in learns.items() if any(flags)]
    shared = ".".join(parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False)))
    return (shared, own[shared]) if shared else None
