"""Steps of training as a CUDA graph: the host copies a row and launches once, where it launched hundreds of kernels.

The first steps run one operation after the other, on a stream of their own, as a graph needs it; they are steps like
any other. Then the step is captured and from there on repeated. Only batches of the usual size are: the last one of an
epoch, which may be smaller, would take as much memory again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from fcdd_sweep.config.errors import short_error
from fcdd_sweep.training.engine import EagerProgram, Program, ProgramPart, copy_rows, step_all
from fcdd_sweep.training.step_plan import PlanRow, RowLayout

WARM_UP = 3
"""Steps before the capture; libraries choose and allocate what they need in them."""
logger = logging.getLogger("fcdd_sweep.training")


def make_program(parts: Sequence[ProgramPart], samples: int) -> Program:
    """Return the program of trials on one device, whose usual batch has `samples` samples."""
    return GraphProgram(parts, samples) if parts[0].device.type == "cuda" else EagerProgram(parts)


class GraphProgram:
    """Repeats a captured step; bits are those of `EagerProgram`."""

    def __init__(self, parts: Sequence[ProgramPart], samples: int) -> None:
        """Begin before the first step.

        Args:
            parts: the trials that share it, on a GPU.
            samples: of the batches that are captured.
        """
        self._parts = parts
        self._eager = EagerProgram(parts)
        self._samples = samples
        self._side = torch.cuda.Stream()
        self._left = WARM_UP
        self._contents: Tensor | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self.captures = True
        """Whether the usual step is captured, or will be; False after that failed."""

    def step(self, rows: Sequence[PlanRow]) -> None:
        layouts = [row.layout for row in rows]
        if not self.captures or any(layout.samples != self._samples for layout in layouts):
            self._eager.step(rows)
            return
        if self._contents is None:
            size = sum(layout.size for layout in layouts)
            self._contents = torch.empty(size, dtype=torch.uint8, device=self._parts[0].device)
        copy_rows(rows, self._contents)
        if self._graph is None and not self._left:
            self._graph = self._captured(layouts, self._contents)
        if self._graph is not None:
            self._graph.replay()
        else:
            self._left = max(0, self._left - 1)
            self._step_aside(layouts, self._contents)

    def _step_aside(self, layouts: Sequence[RowLayout], contents: Tensor) -> None:
        """Make the step on the side stream; the device, not the host, keeps the order."""
        self._side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side):
            step_all(self._parts, layouts, contents)
        torch.cuda.current_stream().wait_stream(self._side)

    def _captured(self, layouts: Sequence[RowLayout], contents: Tensor) -> torch.cuda.CUDAGraph | None:
        """Return the step as a graph, which nothing of it has been run of; None, with a warning, if that fails."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        self._forget_gradients()
        try:
            with torch.cuda.graph(graph, stream=self._side, capture_error_mode="thread_local"):
                step_all(self._parts, layouts, contents)
        except RuntimeError as error:
            torch.cuda.set_stream(stream)  # a failed capture leaves its own behind
            self.captures = False
            logger.warning(
                "the training step cannot be captured as a CUDA graph, so its kernels are launched one by one, which "
                "changes no number and may be slower (%s)",
                short_error(error, 200),
            )
            return None
        finally:
            self._forget_gradients()  # those of the capture are the graph's own memory
        return graph

    def _forget_gradients(self) -> None:
        for part in self._parts:
            part.forget_gradients()
