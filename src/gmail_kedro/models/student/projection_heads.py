"""The two projection heads, one for generated and one for real features; both start at CLIP's own projection."""

import torch

HIDDEN_FACTOR = 2


class ProjectionHead(torch.nn.Module):
    """Maps pooled features [B, W] to embeddings [B, D].

    ``linear`` and ``residual`` start as the encoder's own projection, so that step 0 is CLIP; ``mlp`` starts afresh.

    Args:
        kind: ``linear`` (bias-free), ``residual`` (the start plus an MLP whose last layer is zero) or ``mlp``.
        start: The encoder's own projection, of shape [W, D].
        batch_norm: Whether batch normalisation follows.

    Raises:
        ValueError: If the kind is unknown.
    """

    def __init__(self, kind: str, start: torch.Tensor, *, batch_norm: bool = False) -> None:
        super().__init__()
        if kind not in ("linear", "residual", "mlp"):
            raise ValueError(f"The kind of a projection must be linear, residual or mlp. Got {kind!r} instead.")
        width, embed_dim = start.shape
        self.weight = torch.nn.Parameter(start.detach().float().T.clone()) if kind != "mlp" else None
        self.mlp = _mlp(width, embed_dim, is_zero=kind == "residual") if kind != "linear" else None
        self.norm = torch.nn.BatchNorm1d(embed_dim) if batch_norm else None

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Maps [B, W] to [B, D], not normalised."""
        terms = []
        if self.weight is not None:
            terms.append(torch.nn.functional.linear(pooled, self.weight))
        if self.mlp is not None:
            terms.append(self.mlp(pooled))
        embedding = terms[0] if len(terms) == 1 else terms[0] + terms[1]
        return embedding if self.norm is None else self.norm(embedding)


class DualProjection(torch.nn.Module):
    """A head for generated and a head for real features ("Proj for Gen" and "Proj for Real" of the paper).

    Args:
        kind: As for ``ProjectionHead``.
        start: The encoder's own projection, of shape [W, D].
        batch_norm: Whether both end in batch normalisation.
    """

    def __init__(self, kind: str, start: torch.Tensor, *, batch_norm: bool = False) -> None:
        super().__init__()
        self.generated = ProjectionHead(kind, start, batch_norm=batch_norm)
        self.real = ProjectionHead(kind, start, batch_norm=batch_norm)


def _mlp(width: int, embed_dim: int, *, is_zero: bool) -> torch.nn.Sequential:
    hidden = HIDDEN_FACTOR * embed_dim
    last = torch.nn.Linear(hidden, embed_dim, bias=False)
    if is_zero:
        torch.nn.init.zeros_(last.weight)
    return torch.nn.Sequential(torch.nn.Linear(width, hidden, bias=False), torch.nn.GELU(), last)
