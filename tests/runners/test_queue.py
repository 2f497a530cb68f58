"""What is tried again, when, with how much room, and when it is given up."""

import errno
import math

import pytest

from fcdd_sweep.config.locations import StorageError
from fcdd_sweep.planning.packs import front_key, pack_key
from fcdd_sweep.runners.failures import MAX_WAIT_S, POLICIES, kind_of, kind_of_loss, wait_s
from fcdd_sweep.runners.queue import JobQueue, Packing, retry_text
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.training.result import DivergedError, TrainingError
from tests.specs import spec

SPECS = [spec(seed=seed) for seed in range(3)]


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def failed(job, kind):
    return TrialResult(job.spec.trial_id, "failed", 1, "message", kind=kind)


def test_every_trial_is_given_once_and_the_queue_ends_with_the_last_result():
    queue = JobQueue(SPECS, retries=3)
    jobs = [queue.next() for _ in SPECS]
    assert [job.spec for job in jobs] == SPECS and queue.next() is None and not queue.empty
    for job in jobs:
        assert queue.ended(TrialResult(job.spec.trial_id, "done", 1)) is None
    assert queue.empty


@pytest.mark.parametrize("kind", ["error", "diverged"])
def test_a_failure_of_the_trial_itself_is_an_answer(kind):
    queue = JobQueue(SPECS[:1], retries=3)
    assert queue.ended(failed(queue.next(), kind)) is None
    assert queue.empty


def test_a_lost_worker_is_tried_again_after_a_wait_that_doubles_until_retries_are_spent():
    clock = Clock()
    queue = JobQueue(SPECS[:1], retries=2, clock=clock)
    for earlier in range(2):
        again = queue.ended(failed(queue.next(), "worker_lost"))
        assert again.not_before == clock.now + wait_s("worker_lost", earlier)
        assert queue.next() is None and not queue.empty
        clock.now = again.not_before
    assert queue.ended(failed(queue.next(), "worker_lost")) is None and queue.empty


def test_a_retry_that_is_due_goes_before_fresh_trials_and_one_that_waits_delays_no_other():
    clock = Clock()
    queue = JobQueue(SPECS, retries=1, clock=clock)
    first = queue.next()
    queue.ended(failed(first, "worker_lost"))
    assert queue.next().spec == SPECS[1]
    clock.now = 10.0
    assert queue.next().spec == first.spec


def test_out_of_memory_gets_more_room_each_time():
    clock = Clock()
    queue = JobQueue(SPECS[:1], retries=3, clock=clock)
    shares = [queue.ended(failed(queue.next(), "out_of_memory")).shares for _ in range(3)]
    assert shares == [2, 4, 8]


def test_a_preemption_uses_up_no_retry_but_does_not_continue_for_ever():
    clock = Clock()
    queue = JobQueue(SPECS[:1], retries=0, clock=clock)
    count = 0
    while (job := queue.next()) is not None:
        again = queue.ended(failed(job, "preempted"))
        clock.now += MAX_WAIT_S
        count += 1
        assert count < 1000
    assert again is None and count == 101


@pytest.mark.parametrize(("most", "attempts"), [(math.inf, 4), (2, 2), (9, 4)])
def test_a_trial_that_may_fail_so_often_is_pruned_whatever_retries_it_has(most, attempts):
    clock, count = Clock(), 0
    queue = JobQueue(SPECS[:1], retries=3, clock=clock, failures_left=lambda trial_id: most - count)
    while (job := queue.next()) is not None:
        queue.ended(failed(job, "worker_lost"))
        clock.now += MAX_WAIT_S
        count += 1
    assert count == attempts


def test_a_preemption_does_not_count_as_a_failure():
    clock = Clock()
    queue = JobQueue(SPECS[:1], retries=3, clock=clock, failures_left={SPECS[0].trial_id: 1})
    assert queue.ended(failed(queue.next(), "preempted")) is not None


def test_a_stopped_queue_gives_nothing_and_is_empty_when_all_have_come_back():
    queue = JobQueue(SPECS, retries=3)
    job = queue.next()
    queue.stop()
    assert queue.next() is None and not queue.empty
    queue.ended(TrialResult(job.spec.trial_id, "stopped", 1))
    assert queue.empty


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("x"), "error"),
        (TrainingError("x"), "error"),
        (DivergedError("x"), "diverged"),
        (MemoryError(), "out_of_memory"),
        (OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (RuntimeError("CUDA error: out of memory\nFor debugging consider ..."), "out_of_memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "out_of_memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), "out_of_memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out_of_memory"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate`"),
            "out_of_memory",
        ),
        (RuntimeError("GET was unable to find an engine to execute this computation"), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "out_of_memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory"),
        (RuntimeError("CUDA error: device-side assert triggered"), "gpu_failed"),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "gpu_failed"),
        (RuntimeError("HIP error: an illegal memory access was encountered"), "gpu_failed"),
        (caused(ValueError("scoring"), RuntimeError("CUDA error: unspecified launch failure")), "gpu_failed"),
        (ValueError("a file named 'CUDA error: x'"), "error"),
        (OSError(errno.ENOSPC, "No space left on device"), "storage"),
        (OSError(errno.ENOENT, "No such file"), "error"),
        (OSError(errno.EPIPE, "Broken pipe"), "storage"),
        (StorageError("s3://bucket/x: tried for 120 s"), "storage"),
        (caused(RuntimeError("writing"), OSError(errno.ESTALE, "Stale file handle")), "storage"),
    ],
)
def test_kinds_of_exceptions(error, kind):
    assert kind_of(error) == kind


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("The actor died unexpectedly before finishing this task. worker process has died", "worker_lost"),
        ("The actor died because its node has died. Node Id: ab", "node_lost"),
        ("Task was killed due to the node running low on memory.", "out_of_memory"),
        ("error raised in its creation task: ModuleNotFoundError: No module named 'fcdd_sweep'", "node_unfit"),
    ],
)
def test_kinds_of_losses(words, kind):
    assert kind_of_loss(words) == kind


def test_waits_are_bounded():
    assert all(wait_s(kind, 30) <= MAX_WAIT_S for kind in POLICIES)


def packing(size, key=lambda each: "any", nearer=lambda each: None):
    return Packing(size, key, nearer)


def seeds(jobs):
    return [job.spec.seed for job in jobs]


def test_a_pack_holds_waiting_trials_of_one_key_that_were_never_tried():
    specs = [spec(seed=seed) for seed in range(7)]
    clock = Clock()
    queue = JobQueue(specs, retries=3, clock=clock)

    def key(each):
        return None if each.seed == 4 else ("even", "odd")[each.seed % 2]

    first = queue.next_pack(packing(3, key))
    assert seeds(first) == [0, 2, 6]
    assert seeds(queue.next_pack(packing(5, key), 2)) == [1, 3]
    assert seeds(queue.next_pack(packing(3, key))) == [4]
    queue.ended(failed(first[1], "worker_lost"))
    clock.now += 1000
    assert seeds(queue.next_pack(packing(3, key))) == [2]  # a retry, alone
    assert seeds(queue.next_pack(packing(1, key))) == [5] and queue.next_pack(packing(3, key)) == ()


def test_trials_that_share_more_are_put_into_one_pack_before_others():
    queue = JobQueue([spec(seed=seed) for seed in range(9)], retries=0)

    def nearer(each):
        return None if each.seed in (1, 8) else str(each.seed % 3)

    chosen = packing(4, nearer=nearer)
    assert seeds(queue.next_pack(chosen)) == [0, 3, 6, 1]
    assert seeds(queue.next_pack(chosen)) == [2, 5, 4, 7]
    assert seeds(queue.next_pack(chosen)) == [8]
    assert Packing().key is pack_key and Packing().nearer is front_key


def parity(each):
    return ("even", "odd")[each.seed % 2]


def test_a_pack_that_runs_out_of_memory_is_tried_again_in_halves_and_later_packs_are_no_larger():
    queue = JobQueue([spec(seed=seed) for seed in range(24)], retries=0)
    eight = packing(8, parity)
    first = queue.next_pack(eight)
    assert seeds(first) == [0, 2, 4, 6, 8, 10, 12, 14]
    for job in first:
        again = queue.ended(failed(job, "pack_too_large"))
        assert (again.shares, again.counted, retry_text(again, job)) == (1, 0, "retrying with fewer trials in a pack")
    half, other = queue.next_pack(eight), queue.next_pack(eight)
    assert (seeds(half), seeds(other)) == ([0, 2, 4, 6], [8, 10, 12, 14])
    for job in (*half, *other[:1]):  # one of these runs out of it later, for itself
        assert queue.ended(failed(job, "pack_too_large")) is not None
    assert seeds(queue.next_pack(eight)) == [0, 2] and seeds(queue.next_pack(eight)) == [4, 6]
    assert seeds(queue.next_pack(eight)) == [8, 16]  # with one that was never tried
    assert seeds(queue.next_pack(eight)) == [1, 3, 5, 7, 9, 11, 13, 15]  # what differs is judged for itself


def test_a_trial_that_runs_out_of_memory_alone_has_no_smaller_pack_to_be_in():
    queue = JobQueue([spec(seed=seed) for seed in range(2)], retries=1)
    two = packing(2, parity)
    for job in queue.next_pack(two) + queue.next_pack(two):
        assert queue.ended(failed(job, "pack_too_large")).packs  # though there was but one of its kind
    (job,) = queue.next_pack(two)
    again = queue.ended(failed(job, "out_of_memory"))
    assert (again.shares, again.counted, again.packs) == (2, 1, False)
