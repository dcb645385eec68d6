"""Batches of the training set as tensors, made ahead of the step that needs them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from dad_edge.data.dataset import Batch, TrainingSet
from dad_edge.machine.environment import usable_cores

MOST_WORKERS = 8


class _Rows(Dataset[Batch]):
    """The rows of every step's batch that belong to one process."""

    def __init__(self, images: TrainingSet, rows: slice) -> None:
        self._images = images
        self._rows = rows

    def __getitem__(self, step: int) -> Batch:
        return self._images.batch(step, self._rows)


def batches(
    images: TrainingSet, steps: range, rows: slice, device: torch.device
) -> Iterator[Batch]:
    """The batches of these steps, in order; their arrays are CPU tensors.

    Beside a GPU, worker processes draw the synthetic anomalies so that it never waits for them;
    on the CPU all cores are busy, and the batch is made between two steps. The content is the same
    either way.

    Args:
        images: draws the batch of a step.
        steps: numbers of the steps.
        rows: of the global batch.
        device: where the networks compute.
    """
    on_gpu = device.type == "cuda"
    processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    spare = usable_cores() // processes_here - 1
    workers = max(0, min(MOST_WORKERS, spare)) if on_gpu else 0
    return load(images, steps, rows, workers, pinned=on_gpu)


def load(
    images: TrainingSet, steps: range, rows: slice, workers: int, pinned: bool = False
) -> Iterator[Batch]:
    """`batches` with a number of worker processes, and into pinned memory if asked."""
    loader: DataLoader[Batch] = DataLoader(
        _Rows(images, rows),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        pin_memory=pinned,
        worker_init_fn=_start_worker,
        # A forked worker would wait forever for the threads that OpenCV and PyTorch had before.
        multiprocessing_context="spawn" if workers else None,
    )
    return iter(loader)


def _start_worker(number: int) -> None:
    """Leave signals of the terminal to the main process, and compute on one thread.

    The main process ends its workers once everything is saved.
    """
    for signal_of_terminal in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signal_of_terminal, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(1)
