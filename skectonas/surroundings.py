"""What is set around a computation in torch, and is not meant for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

import torch


@contextmanager
def undisturbed(device: torch.device | str = "cpu") -> Iterator[None]:
    """Keep out of the block what the user has set around it.

    That is a number of threads, an autocast, a default device, and that there are no gradients.
    What is computed on a device is undisturbed there and on the CPU. The default dtype is not
    among them, because it is that of all threads: dtypes are named where tensors are made.

    Parameters
    ----------
    device : torch.device or str, default="cpu"
        Where the block computes.
    """
    # A default device, where one is in the way, takes time whenever torch is called.
    on_cpu = torch.empty(0).device.type == "cpu"
    with (
        one_thread(),
        torch.autocast(torch.device(device).type, enabled=False),
        torch.autocast("cpu", enabled=False),
        torch.inference_mode(False),
        torch.enable_grad(),
        nullcontext() if on_cpu else torch.device("cpu"),
    ):
        yield


_here = threading.local()
_setting = threading.Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread, and leave its setting as it was found.

    The networks are too small to be shared out, and a sum that is cut in another way, as a
    larger number of threads would cut it, has other last bits.

    This holds for the thread that runs the block, and for no other one. Whoever sets another
    number within the block keeps it.
    """
    with _setting:  # a thread that is new to torch takes over what it finds
        own = torch.get_num_threads()
    before = getattr(_here, "inside", False)
    if before and own == 1:
        yield
        return
    try:
        # Even where it is 1: the library of matrix products may have a number of its own.
        _set_own(1)
        _here.inside = True
        yield
    finally:
        _here.inside = before
        if torch.get_num_threads() == 1:
            _set_own(own)


def _set_own(number: int) -> None:
    """Set how many threads torch takes for what the calling thread computes.

    `torch.set_num_threads` sets the number for all threads that are new to torch, too. A thread
    that stands by puts this back at once.
    """
    known, go = threading.Event(), threading.Lock()

    def put_back() -> None:
        elsewhere = torch.get_num_threads()
        known.set()
        with go:
            torch.set_num_threads(elsewhere)

    with uninterrupted(), _setting:
        with go:
            thread = threading.Thread(target=put_back)
            try:
                thread.start()
            except RuntimeError:  # none can begin when the interpreter ends
                torch.set_num_threads(number)
                return
            known.wait()
            torch.set_num_threads(number)
        thread.join()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until the block has ended.

    Only the main thread is ever interrupted. Elsewhere there is nothing to do, nor where the
    signal is handled outside of Python.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    waiting: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda *arguments: waiting.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if waiting:
            handler(*waiting[0])
