import os
import sys

import pytest
import torch

from divaug.base.errors import ConfigError
from divaug.config import jobs
from divaug.config.jobs import Cluster, engine_of, jobs_of, most_jobs, share

PLAIN = {
    "jobs": "1", "engine": "local", "ray_address": None, "cpus_per_run": None, "gpus_per_run": None, "shard": None,
}  # fmt: skip


def test_auto_is_one_run_a_processor_as_memory_allows(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda who: set(range(8)))
    monkeypatch.setattr(jobs, "free_memory", lambda: sys.maxsize)
    assert most_jobs(25) == 8 and most_jobs(3) == 3 and jobs_of("auto", 25) == 8 and jobs_of("auto", 25, threads=1) == 8
    monkeypatch.setattr(jobs, "free_memory", lambda: 5 * 2**30)
    assert most_jobs(25) == 2
    monkeypatch.setattr(jobs, "free_memory", lambda: 0)
    assert most_jobs(25) == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # what a card holds is for the user to say
    monkeypatch.setattr(jobs, "free_memory", lambda: 2**40)
    assert jobs_of("auto", 25) == 1 == engine_of({**PLAIN, "jobs": "auto"}, 25, 0, "cuda:1")
    assert jobs_of("auto", 25, device="cpu") == 8 == engine_of({**PLAIN, "jobs": "auto"}, 25, 0, "cpu")
    assert jobs_of("3", device="cuda") == 3
    assert jobs_of("auto", 25, threads=4) == 1 and jobs_of("1", threads=4) == 1 and jobs_of("3") == 3


def test_available_memory_is_what_the_system_says():
    assert 2**20 < jobs.free_memory() <= sys.maxsize


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"jobs": "0"}, "--jobs must be auto or a whole number >= 1, got 0"),
        ({"jobs": "many"}, "--jobs must be auto"),
        ({"cpus_per_run": 2.0}, "--cpus-per-run has no effect here; use it with --engine ray"),
        ({"engine": "ray", "jobs": "2"}, "--jobs is for this machine"),
        ({"engine": "ray", "cpus_per_run": 0.0}, "--cpus-per-run must be > 0"),
        ({"engine": "ray", "gpus_per_run": -1.0}, "--gpus-per-run >= 0"),
        ({"engine": "ray", "cpus_per_run": float("nan")}, "--cpus-per-run must be > 0"),
    ],
)
def test_what_makes_no_sense_is_refused(flags, said):
    with pytest.raises(ConfigError, match=said):
        engine_of({**PLAIN, **flags}, 4)


def test_several_jobs_of_several_threads_are_refused():
    with pytest.raises(ConfigError, match="--jobs 2 gives each run one thread, so --threads 2 has no effect"):
        engine_of({**PLAIN, "jobs": "2"}, 4, threads=2)


def test_a_cluster_is_as_asked():
    asked = {**PLAIN, "engine": "ray", "ray_address": "auto", "gpus_per_run": 0.125}
    assert engine_of(asked, 4) == Cluster("auto", 1.0, 0.125)
    assert engine_of({**asked, "cpus_per_run": 0.5}, 4).cpus == 0.5
    assert engine_of({**PLAIN, "jobs": "3"}, 4) == 3


def test_shares_of_all_machines_are_all_runs_once():
    runs = list(range(11))
    shares = [runs[share(f"{i}/4")] for i in range(1, 5)]
    assert (
        sorted(run for mine in shares for run in mine) == runs and shares[1] == [1, 5, 9] and runs[share(None)] == runs
    )
    for wrong in ("0/4", "5/4", "1", "a/b", "1/0", "1/4/2"):
        with pytest.raises(ConfigError, match="--shard must be I/N"):
            share(wrong)
