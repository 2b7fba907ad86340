import pytest

from laminar.repartition.placement import owned, owners


@pytest.mark.parametrize(("partitions", "workers"), [(16, 2), (1, 4), (7, 3), (5, 5)])
def test_every_partition_has_the_owner_that_claims_it(partitions, workers):
    by_owner = {(p, w) for w in range(workers) for p in owned(w, partitions, workers)}
    assert by_owner == set(enumerate(owners(partitions, workers)))
