"""Grad-CAM: where a class score depends on a layer's features, for models with and without attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from visattn.maps.capture import evaluating, uncompiled
from visattn.types import UsageError


def grad_cam(model: nn.Module, layer: nn.Module, images: Tensor, target: Tensor | None = None) -> Tensor:
    """Return the Grad-CAM maps of ``images``, ``(N, h, w)`` in fp32 on the CPU, at least 0.

    ``relu(sum_c mean_hw(d score / d A_c) * A_c)`` for the features ``A`` of ``layer``.

    The model runs in eval mode and every module's mode is put back; gradients come from
    ``autograd.grad``, so no ``.grad`` changes, frozen parameters do no harm, and random numbers are
    left as they were. It works inside ``no_grad`` and ``inference_mode``, as in Lightning's
    validation, and runs compiled models eagerly. Under DDP pass the unwrapped model.

    Args:
        model: from ``images`` to ``(N, classes)`` scores.
        layer: the module of ``model`` whose output ``(N, C, h, w)`` is looked at.
        images: what the model takes, one picture a row.
        target: ``(N,)`` the class asked about for each picture; the predicted one by default.

    Raises:
        UsageError: the layer does not run exactly once or not into a 4-D tensor, the model gives no
            scores that depend on it, or a target is no class.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> grad_cam(net, net[0], torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 6, 6])

    References:
        Selvaraju et al., "Grad-CAM", ICCV 2017, https://arxiv.org/abs/1610.02391, equations 1 and 2.
    """
    features: list[Tensor] = []

    def cut(module: nn.Module, args: Any, output: Any) -> Tensor:
        del module, args
        if not isinstance(output, Tensor) or output.ndim != 4:
            got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise UsageError(f"Grad-CAM needs a layer with a 4-D output, {type(layer).__name__} gives {got}")
        # A leaf: the graph starts here, whether or not anything before it takes gradients.
        features.append(output.detach().requires_grad_())
        return features[-1].clone()  # the next layer may change its input in place

    kind = images.device.type
    fork = torch.random.fork_rng(
        [] if kind == "cpu" else [images.device], device_type="cuda" if kind == "cpu" else kind
    )
    with fork, evaluating(model), uncompiled(), torch.inference_mode(False), torch.enable_grad():
        hook = layer.register_forward_hook(cut)
        try:
            scores = model(images.detach().clone())  # a tensor made in inference mode takes no part in autograd
        finally:
            hook.remove()
        if len(features) != 1:
            raise UsageError(
                f"Grad-CAM needs a layer that runs once a call, {type(layer).__name__} ran {len(features)} times"
            )
        score = _score(scores, target)
        (gradient,) = torch.autograd.grad(score, features, allow_unused=True) if score.requires_grad else (None,)
    if gradient is None:
        raise UsageError(f"Grad-CAM: the scores do not depend on the output of {type(layer).__name__}")
    leaf, gradient = features[0].detach().float(), gradient.float()
    weights = gradient.mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
    return (weights * leaf).sum(1).relu().cpu()


def _score(scores: Any, target: Tensor | None) -> Tensor:
    if not isinstance(scores, Tensor) or scores.ndim != 2:
        raise UsageError("Grad-CAM needs a model that returns scores of shape (N, classes)")
    chosen = scores.argmax(1) if target is None else target.to(scores.device)
    if chosen.shape != scores.shape[:1] or not bool(((chosen >= 0) & (chosen < scores.shape[1])).all()):
        raise UsageError(
            f"target must hold {len(scores)} classes from 0 to {scores.shape[1] - 1}, got {chosen.tolist()}"
        )
    return scores.gather(1, chosen[:, None]).sum()
