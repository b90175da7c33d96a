"""An index built on a Dask cluster is the one that a single machine builds, even if a worker dies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed import Client
from torch import nn

from explainers.errors import ComputationError
from explainers.graph.export import export
from explainers.graph.model import Model
from explainers.index import building, open_index
from explainers.index import cluster as cluster_module
from explainers.preprocessing import Preprocessing
from sample_models import lesions
from tests.conftest import ROOT, free_port

SIDE = 96


def tiny_model() -> Model:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(6, 2),
    )  # fmt: skip
    return export(module, "tiny", Preprocessing((SIDE, SIDE), 0), lesions.CLASSES)


@pytest.fixture
def cluster() -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers, processes of their own; gives the address and the workers."""
    address = f"tcp://127.0.0.1:{free_port()}"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    worker = ["worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    commands = [["scheduler", "--host", address, "--no-dashboard"], worker, worker]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen([sys.executable, "-m", "dask", *command], cwd=ROOT, env=environment))
            for command in commands
        ]
        for process in processes:
            stack.callback(process.kill)
        with Client(address, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
        yield address, processes[1:]


def test_two_workers_of_which_one_is_killed_half_way_give_the_same_index(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    samples = lesions.samples("biased-test", 120, size=SIDE)
    address, workers = cluster
    job = building.start(tiny_model(), samples, tmp_path / "cluster", ["0", "2"], batch=4, cluster=address)
    while job.steps.done < len(samples) // 3:
        assert not job.wait(0.01)
    workers[0].kill()
    assert job.result(120).added == len(samples)
    assert workers[1].poll() is None
    building.start(tiny_model(), samples, tmp_path / "here", ["0", "2"], batch=4).result(120)
    one, other = open_index(tmp_path / "cluster"), open_index(tmp_path / "here")
    whole = ["name", "digest", "label_name", "label", "predicted"]
    assert one.table[whole].equals(other.table[whole])
    for layer in ("0", "2"):
        np.testing.assert_allclose(one.relevance(layer, "label"), other.relevance(layer, "label"), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(one.activation(layer, "mean"), other.activation(layer, "mean"), rtol=1e-4, atol=1e-6)


def test_a_cluster_that_does_not_answer_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "PATIENCE", 1)
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(ComputationError, match=f"The cluster at {address} failed"):
        building.start(tiny_model(), lesions.samples("biased-test", 2, SIDE), tmp_path, ["0"], cluster=address).result(
            60
        )
