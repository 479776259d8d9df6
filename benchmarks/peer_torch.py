"""Worker: the same variational autoencoder in PyTorch, in a loop as an expert would write it by hand.

Rows stay in one tensor and a batch is an index into it; Adam is the fused one.
"""

import os
import tempfile

# A cache from an earlier run would hide the time that compiling takes.
os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp()

import math
from typing import Any

import numpy as np
import torch
from protocol import Peer, serve
from torch import nn


class DenseVAE(nn.Module):
    """Encoder D-hidden-(n, n), decoder n-hidden-D."""

    def __init__(self, features: int, latents: int, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(features, hidden), nn.ReLU())
        self.mean, self.log_var = nn.Linear(hidden, latents), nn.Linear(hidden, latents)
        self.decoder = nn.Sequential(nn.Linear(latents, hidden), nn.ReLU(), nn.Linear(hidden, features))


class ConvVAE(nn.Module):
    """Encoder of two strided convolutions of 28 x 28, its mirror as the decoder."""

    def __init__(self, latents: int, filters: tuple[int, int] = (32, 64)) -> None:
        super().__init__()
        a, b = filters
        self.encoder = nn.Sequential(
            nn.Conv2d(1, a, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU()
        )
        self.encoder.append(nn.Flatten())
        features = 7 * 7 * b
        self.mean, self.log_var = nn.Linear(features, latents), nn.Linear(features, latents)
        self.decoder = nn.Sequential(
            nn.Linear(latents, features),
            nn.ReLU(),
            nn.Unflatten(1, (b, 7, 7)),
            nn.ConvTranspose2d(b, a, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(a, 1, 3, stride=2, padding=1, output_padding=1),
        )


def start_as_keras_does(model: nn.Module) -> None:
    """Uniform start, of He's width before a ReLU in a dense model, else of Glorot's; log_var and biases at zero."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    if isinstance(model, DenseVAE):
        nn.init.kaiming_uniform_(model.encoder[0].weight, nonlinearity="relu")
        nn.init.kaiming_uniform_(model.decoder[0].weight, nonlinearity="relu")
    nn.init.zeros_(model.log_var.weight)


def negative_elbo(model: Any, x: torch.Tensor) -> torch.Tensor:
    """Nats a row, with one noise level at its optimum (Rybkin, Daniilidis and Levine 2021, section 3)."""
    h = model.encoder(x)
    mean, log_var = model.mean(h), model.log_var(h)
    z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
    mse = torch.mean(torch.square(x - model.decoder(z)))
    kl = 0.5 * (torch.exp(log_var) + torch.square(mean) - 1 - log_var).sum(dim=1).mean()
    return x[0].numel() / 2 * (torch.log(mse) + 1 + math.log(2 * math.pi)) + kl


def prepare(case: dict[str, Any], x: np.ndarray) -> Peer:
    torch.set_num_threads(case["threads"])
    torch.manual_seed(case["seed"])
    images = x.ndim == 3
    model = ConvVAE(case["latents"]) if images else DenseVAE(x.shape[1], case["latents"], *case["network"]["hidden"])
    start_as_keras_does(model)
    rows = torch.from_numpy(x[:, None] if images else x)
    if "channels last" in case["way"]:
        model, rows = model.to(memory_format=torch.channels_last), rows.to(memory_format=torch.channels_last)
    # Static shapes: the short last batch gets a graph of its own instead of slowing down all others.
    loss_of = torch.compile(negative_elbo, dynamic=False) if "compiled" in case["way"] else negative_elbo
    optimizer = torch.optim.Adam(model.parameters(), case["learning_rate"], eps=1e-7, fused=True)
    total = torch.zeros(())

    def train(epochs: int) -> None:
        for _ in range(epochs):
            total.zero_()
            for index in torch.randperm(len(rows)).split(case["batch"]):
                loss = loss_of(model, rows[index])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total.add_(loss.detach())

    @torch.no_grad()
    def forward(held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        h = model.encoder(torch.from_numpy(held_out[:, None] if images else held_out))
        mean, log_var = model.mean(h), model.log_var(h)
        return mean.numpy(), log_var.numpy(), model.decoder(mean).numpy()

    return Peer(
        parameters=sum(p.numel() for p in model.parameters()),
        versions={"PyTorch": torch.__version__},
        train=train,
        forward=forward,
        tensor=torch.from_numpy,
        matmul=torch.matmul,
    )


if __name__ == "__main__":
    serve(prepare)
