"""The arithmetic that blocks share: multiplying by gates, mixing towards identity, small-batch norms."""

from visattn.ops.gate import apply_gates, effective_gate
from visattn.ops.mix import mix
from visattn.ops.norm import PooledBatchNorm2d
from visattn.ops.widen import widen

__all__ = ["PooledBatchNorm2d", "apply_gates", "effective_gate", "mix", "widen"]
