"""The arithmetic that blocks share: gates, steps towards identity, attention between positions, small-batch norms."""

from visattn.ops.gate import apply_gates, effective_gate
from visattn.ops.mix import mix
from visattn.ops.norm import PooledBatchNorm2d, PooledGroupNorm
from visattn.ops.pairwise import attend_pairs, narrow, wide_matmul
from visattn.ops.widen import widen

__all__ = [
    "PooledBatchNorm2d",
    "PooledGroupNorm",
    "apply_gates",
    "attend_pairs",
    "effective_gate",
    "mix",
    "narrow",
    "wide_matmul",
    "widen",
]
