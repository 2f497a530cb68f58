"""Training and testing of one trial: its spec and its data in, a `TrainingResult` out.

Reading order:

1. `trainer.train` is the whole story; `result` holds what comes out and the observer that training reports to.
2. Before training: `partition` divides the corpus by role, `validation_split` takes the images that settings are
   selected on, `supervision` builds the training anomalies (`anomaly_pools`), and `prepare` puts the steps in order.
3. While training: `step_plan` writes what the host decides about a step into a row, `compose` makes the batch of it on
   the device, `preprocessing` and `augment` turn it into network input, `methods` and `losses` define what is
   minimized, `engine` makes the step (on a GPU by `graph_program`), `pack` has trials share it and `frozen_front` the
   layers that are not trained, `state` is what a checkpoint saves. `batches` holds what plans and composes. With
   `evaluation.calibration` cross `folds` says which images each of several models leaves out, and counts progress over
   all of them; `fold_ensemble` is how they decide together.
4. After training: `detector` scores images, `validation` and `scoring` measure.

`streams` holds all randomness, `device` all settings of torch that decide bits, `network` what a network must provide.

Shapes, for N images with C channels, R = `images.load_size`, S = `images.size`, and a map of U x V cells:

    Corpus.images        (M, C, R, R) uint8    on disk, memory-mapped
    BatchMaker.nominal   (n, C, R, R) uint8    on the device, beside an `AnomalyPool`
    PlanRow.memory       (bytes,) uint8        on the host, one copy a step
    Batch                inputs (N, C, S, S) float32, labels (N,) int64, gt_maps (N, 1, S, S) uint8 or None
    network(inputs)      fcdd: (N, 1, U, V); hsc: (N, D); ae: (N, C, S, S)
    Method.losses        (N,) float32, unreduced
    Detection            maps (N, 1, U, V) for fcdd, else (N, 1, S, S), float32; scores (N,) float64
    Detector.heatmaps    (N, 1, S, S) float32, on the CPU
"""
