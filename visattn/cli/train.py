"""``visattn fit``, ``validate`` and ``test``: LightningCLI around a run folder."""

from __future__ import annotations

import json
import logging
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import ArgumentError
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from visattn.callbacks.checkpoints import AtomicCheckpointIO, epoch_checkpoints
from visattn.callbacks.epoch_table import EpochTable
from visattn.callbacks.pairing import PairingProof
from visattn.callbacks.step_seeds import StepSeeds
from visattn.callbacks.test_report import TestReport
from visattn.cli.configs import find_config
from visattn.cli.reword import reword
from visattn.insertion.spec import label, parse
from visattn.insertion.state import save_attention
from visattn.tasks.restore import newest_checkpoint
from visattn.tasks.task import AbstractTask
from visattn.types import UsageError, unknown

WANDB = ("off", "offline", "online")


class RunCLI(LightningCLI):
    """LightningCLI with one parser for all commands and a fixed run folder."""

    def __init__(self, args: list[str]) -> None:
        super().__init__(
            AbstractTask,
            L.LightningDataModule,
            save_config_callback=None,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            parser_kwargs={"exit_on_error": False, "allow_abbrev": False, "prog": "visattn"},
            auto_configure_optimizers=False,
            args=args,
            run=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what the run folder needs."""
        parser.add_argument(
            "--out", type=str | None, default=None, help="the run folder; by default runs/CONFIG/ATTENTION-seedN"
        )
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="the checkpoint to validate or test")
        parser.add_argument(
            "--test_after", type=bool, default=True, help="test the last epoch's weights after training"
        )
        parser.add_argument("--wandb", type=str, default="off", help="log to Weights & Biases: off, offline, online")
        parser.link_arguments("seed_everything", "data.init_args.seed")
        parser.link_arguments("data.class_names", "model.init_args.class_names", apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        """Settle the run folder before anything is built."""
        config = self.config
        if config.wandb not in WANDB:
            raise unknown("value of --wandb", config.wandb, WANDB)
        config.trainer.use_distributed_sampler = False  # the data modules' own samplers neither repeat nor drop
        config.trainer.default_root_dir = config.out
        if config.trainer.enable_model_summary is None:
            config.trainer.enable_model_summary = False
        if config.trainer.enable_progress_bar is None:
            config.trainer.enable_progress_bar = sys.stderr.isatty()

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Build the trainer with the run folder's callbacks, loggers and checkpoints."""
        run = Path(self.config.out)
        spec = self.config.model.init_args.attention
        default = self.config.model.init_args.get("attention_init", "identity")
        inits = sorted({entry.init for entry in parse(plain(spec), init=default)})
        facts = {
            "attention": plain(spec),
            "label": label(plain(spec)),
            "init": "+".join(inits) or None,
            "seed": self.config.seed_everything,
        }
        own = [
            epoch_checkpoints(run),
            StepSeeds(self.config.seed_everything),
            PairingProof(run),
            EpochTable(run),
            TestReport(run, facts),
        ]
        trainer = self.config_init.trainer
        trainer.callbacks = [*(trainer.callbacks or []), *own]
        trainer.logger = [*_listed(trainer.logger), *wandb_loggers(run, self.config.wandb)] or False
        trainer.plugins = [*_listed(trainer.plugins), AtomicCheckpointIO()]
        return super().instantiate_trainer(**kwargs)


def run(command: str, args: Sequence[str]) -> int:
    """Run ``fit``, ``validate`` or ``test``."""
    quiet()
    rest, resume = _take_resume(list(args))
    if resume is not None:
        rest = ["--config", str(resume / "config.yaml"), *rest, f"--out={resume}"]
    rest, config = _found_configs(rest)
    if not _has(rest, "--out") and not {"-h", "--help"} & set(rest):
        rest.append("--out=" + str(_fresh_folder(rest, config, command)))
    try:
        cli = RunCLI(rest)
    except (ArgumentError, TypeError, ValueError) as error:
        raise reword(error) from error
    folder = Path(cli.config.out)
    if command != "fit":
        return _score(cli, command)
    return _fit(cli, folder, resume)


def _fit(cli: RunCLI, folder: Path, resume: Path | None) -> int:
    checkpoint = None
    if resume is not None:
        checkpoint, wrong = newest_checkpoint(resume)
        for line in wrong:
            print(f"{line}; going back to {checkpoint.name}", flush=True)
    elif (folder / "checkpoints").exists():
        raise UsageError(f"{folder} already holds a run; go on with --resume {folder}, or choose another --out")
    if cli.trainer.is_global_zero:
        _write_config(cli, folder)
    _announce(cli, folder, checkpoint)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True)
    if cli.trainer.interrupted:
        raise KeyboardInterrupt
    if cli.config.model.init_args.get("train") == "attention" and cli.trainer.is_global_zero:
        save_attention(cli.model.network, folder / "attention.safetensors")
    if cli.config.test_after:
        cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)
        if cli.trainer.is_global_zero:
            _say_result(cli, folder)
    return 0


def _score(cli: RunCLI, command: str) -> int:
    path = cli.config.ckpt_path
    if path is None:
        raise UsageError(f"{command} needs --ckpt_path with a checkpoint or a run folder")
    checkpoint = newest_checkpoint(Path(path))[0] if Path(path).is_dir() else Path(path)
    if not checkpoint.is_file():
        raise UsageError(f"checkpoint '{checkpoint}' does not exist; valid: a .ckpt file or a run folder")
    Path(cli.config.out).mkdir(parents=True, exist_ok=True)
    call = getattr(cli.trainer, command)
    scores = call(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, verbose=False, weights_only=True)
    if cli.trainer.is_global_zero and command == "test":
        _say_result(cli, Path(cli.config.out))
    elif cli.trainer.is_global_zero:
        for name, value in scores[0].items():
            print(f"{name:<14} {value:.4f}")
    return 0


def _write_config(cli: RunCLI, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / ".config.yaml.part"
    cli.parser.save(cli.config, part, overwrite=True, multifile=False)
    part.replace(folder / "config.yaml")


def _announce(cli: RunCLI, folder: Path, checkpoint: Path | None) -> None:
    if not cli.trainer.is_global_zero:
        return
    init = cli.config.model.init_args
    data = cli.datamodule
    sizes = " / ".join(f"{split} {len(data.dataset(split))}" for split in ("train", "val", "test"))
    host = f"{init.arch} on {init.backbone}" if "arch" in init else init.backbone
    what = f"{host} + {label(plain(init.attention))}, seed {cli.config.seed_everything}"
    print(f"{what}: {sizes} pictures, {len(data.class_names)} classes")
    print(f"run folder {folder}" + (f", going on from {checkpoint.name}" if checkpoint else ""), flush=True)


def _say_result(cli: RunCLI, folder: Path) -> None:
    result = json.loads((folder / "result.json").read_text())
    text = cli.model.summary(result)
    print(text, f"see {folder}", sep="\n" if "\n" in text else "; ", flush=True)


def _take_resume(args: list[str]) -> tuple[list[str], Path | None]:
    """Take ``--resume RUN`` out of the arguments: it stands for the run's own config."""
    for i, arg in enumerate(args):
        if arg == "--resume" or arg.startswith("--resume="):
            value = arg.partition("=")[2] or (args[i + 1] if i + 1 < len(args) else "")
            taken = 1 if "=" in arg else 2
            folder = Path(value)
            if not value or not (folder / "config.yaml").is_file():
                raise UsageError(f"--resume '{value}' is no run folder: it holds no config.yaml")
            return args[:i] + args[i + taken :], folder
    return args, None


def _found_configs(args: list[str]) -> tuple[list[str], str]:
    """Replace each ``--config NAME`` by the file it means, and return the last one's stem."""
    found, stem = list(args), "run"
    for i, arg in enumerate(found):
        if arg in {"--config", "-c"} and i + 1 < len(found):
            path = find_config(found[i + 1])
            found[i], found[i + 1], stem = "--config", str(path), path.stem
        elif arg.startswith("--config="):
            path = find_config(arg.partition("=")[2])
            found[i], stem = f"--config={path}", path.stem
    if stem == "run" and not {"-h", "--help"} & set(found):
        raise UsageError(
            "no --config; valid: an experiment file, such as configs/experiment/clutter_classification.yaml"
        )
    return found, stem


def _fresh_folder(args: list[str], stem: str, command: str) -> Path:
    """Name a run folder after config, attention and seed; a number keeps an older run."""
    attention = next((a.partition("=")[2] for a in args if re.match(r"--model(\.init_args)?\.attention=", a)), "")
    seed = next((a.partition("=")[2] for a in args if a.startswith("--seed_everything=")), "0")
    name = re.sub(r"[^\w+.-]+", "-", attention or "run").strip("-")
    base = Path("runs") / stem / (f"{name}-seed{seed}" + ("" if command == "fit" else f"-{command}"))
    folder, count = base, 1
    while folder.exists():
        count += 1
        folder = base.with_name(f"{base.name}-{count}")
    return folder


def _has(args: Sequence[str], option: str) -> bool:
    return any(arg == option or arg.startswith(f"{option}=") for arg in args)


def _listed(value: Any) -> list[Any]:
    return [] if value in {None, True, False} else list(value) if isinstance(value, list | tuple) else [value]


def plain(value: Any) -> Any:
    """Return jsonargparse's namespaces as plain dicts, lists and scalars."""
    if hasattr(value, "as_dict"):
        return plain(value.as_dict())
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def wandb_loggers(run: Path, mode: str) -> list[Any]:
    """Return the W&B logger, if one is asked for; without a key it is offline, never a prompt."""
    if mode == "off":
        return []
    import secrets

    from visattn.callbacks.wandb_logger import wandb_logger

    note = run / "wandb_id"
    identity = note.read_text().strip() if note.is_file() else secrets.token_hex(4)
    run.mkdir(parents=True, exist_ok=True)
    note.write_text(identity + "\n")
    return [wandb_logger(run, identity, offline=mode == "offline")]


def quiet() -> None:
    """Keep the screen for what a user needs."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
