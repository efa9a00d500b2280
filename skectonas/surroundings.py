"""Keeps a computation in torch independent of the settings around it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

import torch

from skectonas.threads import RenewedLock, SharedSetting, uninterrupted

_here = threading.local()
_setting = RenewedLock()


@contextmanager
def undisturbed(device: torch.device | str = "cpu") -> Iterator[None]:
    """Keep the user's torch settings from affecting the block.

    These are the number of threads, autocast, the default device, and switched-off gradients.
    A computation on a device is protected there and on the CPU. The default dtype is not
    reset, because all threads share it; dtypes are named wherever tensors are made. On the CPU,
    products of float32 numbers are exact to float32, whatever precision is allowed. On a CUDA
    device, cuDNN takes algorithms that give the same bits every time. All threads share these
    two settings as well, and they are restored afterwards.

    Parameters
    ----------
    device : torch.device or str, default="cpu"
        The device that the block computes on.
    """
    # A default device costs time in every call of torch, so it is only reset if there is one.
    on_cpu = torch.empty(0).device.type == "cpu"
    kind = torch.device(device).type
    with (
        one_thread(),
        _full_precision.block(),
        _same_algorithms.block() if kind == "cuda" else nullcontext(),
        torch.autocast(kind, enabled=False),
        torch.autocast("cpu", enabled=False),
        torch.inference_mode(False),
        torch.enable_grad(),
        nullcontext() if on_cpu else torch.device("cpu"),
    ):
        yield


@contextmanager
def _deterministic_cudnn() -> Iterator[None]:
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


_same_algorithms = SharedSetting(_deterministic_cudnn)
"""cuDNN takes the same algorithms in every run, of those that are deterministic."""


@contextmanager
def _exact_float32() -> Iterator[None]:
    mkldnn: Any = torch.backends.mkldnn
    if not hasattr(mkldnn, "matmul"):  # before torch 2.9
        allowed = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(allowed)
        return
    settings = (mkldnn.matmul, mkldnn.conv)
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = "none"  # what holds for all
            if setting.fp32_precision != precision:
                setting.fp32_precision = precision


_full_precision = SharedSetting(_exact_float32)
"""oneDNN does not round float32 numbers to fewer bits."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread, and restore its setting afterwards.

    The networks are too small to be divided among threads, and dividing a sum in another way
    changes its last bits.

    Only the thread that runs the block is affected. If another number is set within the block,
    that number is kept.
    """
    # A thread that is new to torch adopts the current setting.
    with uninterrupted(), _setting.lock:
        own = torch.get_num_threads()
    before = getattr(_here, "inside", False)
    if before and own == 1:
        yield
        return
    try:
        try:
            # Even if it is 1: the library for matrix products may have its own number.
            _set_own(1)
            _here.inside = True
            yield
        finally:
            _restore(before, own)
    finally:
        _restore(before, own)  # Ctrl-C may have come before the first could make it wait


def _restore(inside: bool, own: int) -> None:
    _here.inside = inside
    if torch.get_num_threads() == 1:
        _set_own(own)


def _set_own(number: int) -> None:
    """Set the number of threads that torch uses for the calling thread.

    `torch.set_num_threads` also sets the number for all threads that are new to torch. A helper
    thread undoes this at once.
    """
    known, go = threading.Event(), threading.Lock()

    def put_back() -> None:
        elsewhere = torch.get_num_threads()
        known.set()
        with go:
            torch.set_num_threads(elsewhere)

    with uninterrupted(), _setting.lock:
        with go:
            thread = threading.Thread(target=put_back)
            try:
                thread.start()
            except RuntimeError:  # no thread can start while the interpreter exits
                torch.set_num_threads(number)
                return
            known.wait()
            torch.set_num_threads(number)
        thread.join()


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, in the main thread and unless it is handled already."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

    try:
        try:
            signal.signal(signal.SIGTERM, interrupt)
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    finally:
        # Again, as Ctrl-C may have come before the first.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
