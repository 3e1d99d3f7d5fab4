import pytest
import torch

from cardiac_vae.training import batches
from cardiac_vae.training.batches import StepBatches

CASES = {"case": torch.arange(10), "square": torch.arange(10) ** 2}


def drawn(source):
    return [batch["case"].tolist() for batch in source]


def test_every_pass_takes_each_case_once_even_across_batches():
    cases = [case for batch in drawn(StepBatches(CASES, 4, 15, seed=0)) for case in batch]
    passes = [cases[first : first + 10] for first in range(0, 60, 10)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len({tuple(one) for one in passes}) == 6  # shuffled anew each time


def test_tensors_stay_together():
    for batch in StepBatches(CASES, 3, 5, seed=0):
        assert torch.equal(batch["square"], batch["case"] ** 2)


def test_a_batch_is_a_function_of_the_seed_and_its_number():
    first, again, other = (StepBatches(CASES, 4, 8, seed) for seed in (3, 3, 4))
    order = drawn(first)
    assert len(first) == len(order) == 8
    assert drawn(again) == order
    assert drawn(other) != order
    for step in (7, 0, 5, 2):  # in any order
        assert again.batch(step)["case"].tolist() == order[step]


def test_a_batch_may_be_larger_than_the_cases_there_are():
    (batch,) = drawn(StepBatches(CASES, 25, 1, seed=0))
    assert sorted(batch[:10]) == sorted(batch[10:20]) == list(range(10))
    assert len(set(batch[20:])) == 5


def test_a_run_goes_on_where_it_stopped():
    source = StepBatches(CASES, 4, 8, seed=1)
    whole = drawn(source)
    iterator = iter(source)
    seen = [next(iterator)["case"].tolist() for _ in range(3)]
    resumed = StepBatches(CASES, 4, 8, seed=1)
    resumed.load_state_dict(source.state_dict())
    assert seen + drawn(resumed) == whole


def test_processes_share_every_global_batch(monkeypatch):
    alone = drawn(StepBatches(CASES, 6, 5, seed=2))
    shares = []
    for rank in range(2):
        monkeypatch.setattr(batches, "_rank_and_world", lambda rank=rank: (rank, 2))
        shares.append(drawn(StepBatches(CASES, 3, 5, seed=2)))
    assert [first + second for first, second in zip(*shares, strict=True)] == alone


@pytest.mark.parametrize(
    "tensors", [{}, {"mask": torch.zeros(0)}, {"a": torch.zeros(2), "b": torch.zeros(3)}]
)
def test_tensors_without_a_common_number_of_cases_are_refused(tensors):
    with pytest.raises(ValueError, match="one common number of cases"):
        StepBatches(tensors, 4, 8, seed=0)


def test_cases_may_be_made_as_they_are_asked_for():
    class Squares:
        def __len__(self):
            return 10

        def __getitem__(self, rows):
            return rows**2

    lazy = StepBatches({**CASES, "square": Squares()}, 4, 6, seed=0)
    for made, held in zip(lazy, StepBatches(CASES, 4, 6, seed=0), strict=True):
        assert made.keys() == held.keys()
        assert all(torch.equal(made[name], held[name]) for name in held)
