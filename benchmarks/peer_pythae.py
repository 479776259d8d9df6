"""Worker: pythae's VAE and its trainer. Its default multilayer perceptron is 784-512-16, the dense case's.

Its loss is the squared error plus the KL, as costly as the others' but another number: it has no time to a loss.
"""

import tempfile
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from protocol import Peer, serve
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.trainers import BaseTrainer, BaseTrainerConfig


def prepare(case: dict[str, Any], x: np.ndarray) -> Peer:
    torch.set_num_threads(case["threads"])
    model = VAE(VAEConfig(input_dim=x.shape[1:], latent_dim=case["latents"]))
    config = BaseTrainerConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=case["batch"],
        learning_rate=case["learning_rate"],
        optimizer_cls="Adam",
        seed=case["seed"],
        no_cuda=True,
    )
    rows = torch.from_numpy(x)
    trainer = BaseTrainer(model, BaseDataset(rows, torch.ones(len(rows))), training_config=config)
    trainer.prepare_training()

    # The trainer's own epoch, without the copies of the best model and the checkpoints that its `train` adds.
    def train(epochs: int) -> None:
        for epoch in range(epochs):
            trainer.train_step(epoch + 1)

    return Peer(
        parameters=sum(p.numel() for p in model.parameters()),
        versions={"pythae": version("pythae")},
        train=train,
        forward=None,
        tensor=torch.from_numpy,
        matmul=torch.matmul,
    )


if __name__ == "__main__":
    serve(prepare)
