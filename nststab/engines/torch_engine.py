"""Networks run by torch, on CPU, CUDA or MPS."""

import torch

from nststab.settings import Precision


def autocast(device: torch.device | str, precision: Precision) -> torch.autocast:
    """Arithmetic of `precision` on `device`; the parameters stay in float32."""
    dtype = getattr(torch, precision)
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32)
