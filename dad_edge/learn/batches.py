"""Batches of the training set as tensors, made ahead of the step that needs them."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

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
) -> Generator[Batch, None, None]:
    """The batches of these steps, in order; their arrays are CPU tensors.

    Beside a GPU, worker processes draw the synthetic anomalies so that it never waits for them;
    on the CPU all cores are busy, and the batch is made between two steps. The content is the same
    either way.

    Close it when it is left early: its worker processes end with it.

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
) -> Generator[Batch, None, None]:
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
    iterator = iter(loader)
    try:
        yield from iterator
    finally:
        del iterator  # which ends its workers


def _start_worker(number: int) -> None:
    """Leave signals to the main process, and compute on one thread.

    Whoever asks a training to stop often asks all its processes, and if one of these heeded it,
    PyTorch would raise an error in the main process, which has yet to save. Workers end when their
    batches are not wanted any more, or when the main process is gone.
    """
    for number_of_signal in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number_of_signal, signal.SIG_IGN)
    cv2.setNumThreads(1)
