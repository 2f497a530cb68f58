"""What stops a training."""


class TrainingError(RuntimeError):
    """A training that cannot go on: the loss is no longer finite, or there is nothing to train on."""


class DivergedError(TrainingError):
    """The loss is no longer finite."""
