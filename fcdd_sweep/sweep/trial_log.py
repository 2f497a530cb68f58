"""The log of an attempt, `log.txt`: every message that the package logs during it, and every epoch."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fcdd_sweep.training.result import EpochRecord, Observer

logger = logging.getLogger("fcdd_sweep.trial")


class _LogFile(logging.FileHandler):
    """A log file whose write errors are ignored: on a full disk they would hide the cause and flood the terminal."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Write the package's log messages to a file, too, while entered."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    package = logging.getLogger("fcdd_sweep")
    level = package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        handler.close()


@dataclass(frozen=True)
class LoggingObserver:
    """Writes every epoch to the log, then passes it on to an observer."""

    observer: Observer

    def epoch_done(self, record: EpochRecord, epochs: int) -> None:
        logger.info(
            "epoch %d/%d: loss %.5f (nominal %.5f, anomalous %.5f), learning rate %.3g, %.0f images/s",
            record.epoch,
            epochs,
            record.loss,
            record.loss_nominal,
            record.loss_anomalous,
            record.learning_rate,
            record.images_per_second,
        )
        if not math.isnan(record.validation_image_auroc):
            logger.info("epoch %d: AUROC %.4f over validation images", record.epoch, record.validation_image_auroc)
        self.observer.epoch_done(record, epochs)

    def stop_asked(self) -> bool:
        return self.observer.stop_asked()
