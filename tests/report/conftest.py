"""A comparison folder made of seeded numbers, as `visattn compare run` would leave it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EFFECTS = {"none": 0.0, "eca": 0.004, "cbam": 0.013}
DIGITS = tuple("0123456789")


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _cell(run: Path, label: str, seed: int, place: int, effect: float, classes: tuple[str, ...]) -> None:
    host = np.random.default_rng(seed)  # what a seed does to every arm alike
    own = np.random.default_rng([seed, place + 1])
    top1 = 0.712 + 0.01 * host.standard_normal() + effect + 0.004 * own.standard_normal()
    base = np.clip(top1 + 0.08 * host.standard_normal(len(classes)), 0, 1)
    per_class = np.clip(base + 0.03 * own.standard_normal(len(classes)), 0, 1)
    _write(
        run / "result.json",
        {
            "attention": None if label == "none" else label,
            "label": label,
            "init": None if label == "none" else "paper",
            "seed": seed,
            "metrics": {"test/top1": top1, "test/top5": 0.97, "test/loss": 0.91, "test/ece": 0.041},
            "per_class": dict(zip(classes, per_class.tolist(), strict=True)),
            "parameters": 175_258 + 1_204 * place,
            "train_seconds": 21.5 + 3 * place + own.random(),
            "train_images_per_second": 1450.0 - 120 * place,
            "epochs": 12,
            "pairing": {"host_weights": f"{seed:x}" * 64, "order": f"{seed + 1:x}" * 64},
            "finished": "2026-11-23T11:02:00",
            "versions": {"visattn": "0.1.0"},
        },
    )
    with (run / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "step", "train/loss", "val/loss", "val/top1", "val/top5", "lr", "seconds"])
        for epoch in range(12):
            value = top1 * (1 - np.exp(-(epoch + 1) / 3.2)) + 0.01 * own.standard_normal()
            writer.writerow([epoch, epoch * 31, 1.2, 1.1, value, 0.9, 1e-3, 1.8])


def _cost(place: int) -> dict[str, float]:
    return {
        "parameters": 175_258 + 1_204 * place,
        "macs": 12_400_000 + 31_000 * place,
        "latency_ms": 4.1 * (1 + 0.08 * place),
        "latency_ratio": 1 + 0.08 * place,
        "latency_ratio_low": 1 + 0.08 * place - 0.02 * bool(place),
        "latency_ratio_high": 1 + 0.08 * place + 0.03 * bool(place),
        "train_ms": 61.0 * (1 + 0.12 * place),
        "train_ratio": 1 + 0.12 * place,
        "train_ratio_low": 1 + 0.12 * place - 0.03 * bool(place),
        "train_ratio_high": 1 + 0.12 * place + 0.02 * bool(place),
        "saved_bytes": 41_000_000 + 2_500_000 * place,
    }


def _jpeg(path: Path, seed: int, heat: tuple[int, int, int] | None) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:96, 0:96] / 95
    picture = np.stack([90 + 80 * x, 110 + 60 * y, 100 + 40 * (1 - x)], axis=-1) + 12 * rng.standard_normal((96, 96, 1))
    cy, cx = rng.uniform(0.3, 0.7, 2)
    near = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 0.02)[..., None]
    picture = picture * (1 - 0.7 * (near > 0.5)) if heat is None else picture * (1 - near) + near * np.array(heat)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(path, quality=85)


def _maps(folder: Path, labels: list[str], classes: tuple[str, ...]) -> None:
    ids, rng = (17, 42, 81, 120, 133, 201), np.random.default_rng(5)
    truth = [classes[number % len(classes)] for number in ids]
    pictures, rows = [], []
    for number, label in zip(ids, truth, strict=True):
        _jpeg(folder / f"maps/{number}-input.jpg", number, None)
        pictures.append({"id": number, "label": label, "file": f"maps/{number}-input.jpg"})
    kinds = [(label, "gradcam", "Grad-CAM") for label in labels]
    kinds += [(label, "map", f"layer2.0.bn2/{label}.spatial") for label in labels[1:]]
    for place, (label, kind, key) in enumerate(kinds):
        files = []
        for number in ids:
            files.append(f"maps/{number}-row{place}.jpg")
            _jpeg(folder / files[-1], number, (230, 60 + 30 * place, 40))
        predicted = [name if rng.random() < 0.75 else classes[(place + 3) % len(classes)] for name in truth]
        score = {"auc": 0.7 + 0.03 * place, "energy": 0.31}
        rows.append({"arm": label, "kind": kind, "key": key, "files": files, "predicted": predicted, "score": score})
    _write(folder / "maps.json", {"pictures": pictures, "rows": rows})


def build_comparison(
    folder: Path,
    *,
    effects: dict[str, float] = EFFECTS,
    seeds: tuple[int, ...] = (0, 1, 2),
    classes: tuple[str, ...] = DIGITS,
    missing: tuple[tuple[str, int], ...] = (),
    extras: bool = True,
) -> Path:
    """Write a comparison of the arms of `effects` (the first is the baseline) and return its folder."""
    labels = list(effects)
    arms = [
        {"label": label, "spec": label if place else None, "init": "paper" if place else None}
        for place, label in enumerate(labels)
    ]
    data = {"name": "ClutterData", "train": 2000, "val": 500, "test": 1000, "classes": classes, "image_size": 64}
    _write(
        folder / "compare.json",
        {
            "title": "Clutter, a small ResNet",
            "config": "configs/experiment/clutter_classification.yaml",
            "data": data,
            "baseline": labels[0],
            "arms": arms,
            "seeds": seeds,
            "machine": {"cpu": "AMD EPYC 7B13", "cores": 2, "gpu": None, "platform": "Linux-6.1-x86_64"},
            "versions": {"visattn": "0.1.0", "torch": "2.13.0", "lightning": "2.6.6", "timm": "1.0.26"},
            "command": "visattn compare run --config clutter.yaml --attention none,eca,cbam --seeds 0-2 --out runs/cmp",
            "started": "2026-11-23T10:58:12",
            "minutes": 4.7,
            "host": "resnet18 (width 0.25)",
        },
    )
    for place, (label, effect) in enumerate(effects.items()):
        for seed in seeds:
            if (label, seed) not in missing:
                _cell(folder / label / f"seed{seed}", label, seed, place, effect, classes)
    if extras:
        costs = {label: _cost(place) for place, label in enumerate(labels)}
        how = {"image_size": 64, "batch": 32, "device": "cpu", "threads": 2, "rounds": 15}
        _write(folder / "cost.json", {**how, "arms": costs})
        _maps(folder, labels, classes)
    return folder


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    """Return the builder, its folder filled in."""
    return lambda **options: build_comparison(tmp_path / "cmp", **options)
