"""Small-cell suppression: no small count is told, and none follows from what is told."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from mediscale.core import privacy
from mediscale.core.annotations import CohortFlow, OutcomeCounts, SplitCounts
from mediscale.core.privacy import SMALL_COUNT, count, count_of, is_small

counts = st.integers(0, 60)
losses = st.lists(st.integers(0, 25), min_size=1, max_size=8)


@given(st.integers(0, 400), losses)
def test_no_small_loss_follows_from_the_steps_of_a_flow(last: int, lost: list[int]) -> None:
    left = [last + sum(lost[i:]) for i in range(len(lost))]
    told = privacy.merged_steps([(str(i), n) for i, n in enumerate(left)])
    assert not [(before, after) for (_, before), (_, after) in pairwise(told) if is_small(before - after)]
    assert told[-1][1] == left[-1], "the cohort itself is told"
    assert "; ".join(name for name, _ in told).split("; ") == [str(i) for i in range(len(left))], (
        "every step is"
    )


@given(st.lists(counts, min_size=1, max_size=6))
def test_no_small_part_follows_from_the_total_and_the_other_parts(parts: list[int]) -> None:
    suppressed = privacy.suppressed_parts(parts)
    hidden = [n for n, is_hidden in zip(parts, suppressed, strict=True) if is_hidden]
    assert all(is_hidden for n, is_hidden in zip(parts, suppressed, strict=True) if is_small(n))
    together = sum(hidden)
    assert not is_small(together) or not [n for n, h in zip(parts, suppressed, strict=True) if n and not h]
    if not any(map(is_small, parts)):
        assert not hidden, "nothing is left out without a reason"


@given(st.lists(counts, min_size=2, max_size=6), st.sampled_from((0, -1)))
def test_no_small_part_follows_where_one_is_released_elsewhere(parts: list[int], told: int) -> None:
    """In IV's demo 41 of 210 were readmitted (the prevalence); "readmitted or died 47" told of the few others, too."""
    if not privacy.may_be_shared(parts[told], sum(parts)):
        return  # then it is told nowhere
    suppressed = privacy.suppressed_parts(parts, released_elsewhere=told)
    position = range(len(parts))[told]
    hidden = [n for i, n in enumerate(parts) if suppressed[i] and i != position]
    assert not is_small(sum(hidden))


@given(st.lists(counts, min_size=1, max_size=6))
def test_words_for_parts_hold_no_small_number(parts: list[int]) -> None:
    told = privacy.outcomes_in_words([(f"part {i}", n) for i, n in enumerate(parts)])
    numbers = [int(text) for _, text in told if text.isdigit()]
    assert not any(map(is_small, numbers))
    if len(numbers) == len(told):
        assert sum(numbers) == sum(parts), "what can be told of a part is told"
    assert not is_small(sum(parts) - sum(numbers)) or not numbers or not sum(numbers)
    of_table = privacy.splits_in_words(parts)
    assert len(of_table) == len(parts)
    assert not [text for text in of_table if text.isdigit() and is_small(int(text))]


@given(counts, counts)
def test_a_share_whose_rest_is_small_is_no_number(n: int, rest: int) -> None:
    text = count_of(n, n + rest)
    if n and (is_small(n) or is_small(rest)):
        assert not text.isdigit()
        assert not privacy.may_be_shared(n, n + rest)
    else:
        assert text == count(n), "of fewer than 10 patients none was told as all but fewer than 10"


class Labels(BaseModel):
    flow: CohortFlow
    outcomes: OutcomeCounts


class Splits(BaseModel):
    counts: SplitCounts


@given(st.integers(0, 300), losses, st.lists(counts, min_size=1, max_size=4))
def test_a_result_holds_neither_two_steps_a_small_count_apart_nor_a_part_that_follows(
    first: int, lost: list[int], outcomes: list[int]
) -> None:
    left = [first + sum(lost[i:]) for i in range(len(lost))]
    labels = Labels(
        flow={f"step {i}": n for i, n in enumerate(left)},
        outcomes={f"outcome {i}": n for i, n in enumerate(outcomes)},
    )
    told = privacy.suppress_small_counts(labels)
    steps, parts = list(told["flow"].values()), list(told["outcomes"].values())
    assert not [(before, after) for before, after in pairwise(steps) if is_small(before - after)]
    assert not any(map(is_small, [*steps, *parts]))
    assert not is_small(sum(outcomes) - sum(parts)) or not any(parts)


def test_the_parts_of_a_result_s_split_follow_from_no_others() -> None:
    counts = {
        "train": {"n": 226, "events": 29},
        "tuning": {"n": 42, "events": 5},
        "held_out": {"n": 37, "events": 12},
    }
    assert privacy.suppress_small_counts(Splits(counts=counts)) == {
        "counts": {"train": {"n": 226}, "tuning": {"n": 42}, "held_out": {"n": 37, "events": 12}}
    }


def test_the_flow_of_a_hospital_tells_nobody_s_step() -> None:
    """What a run of 250 synthetic patients told before: 340, 336 and 335, and of 305 all parts but five."""
    flow = {"visits": 369, "inpatient": 340, "stays": 336, "adults": 335, "at_risk": 305}
    outcomes = {"readmitted": 40, "planned": 11, "died": 5, "not_readmitted": 249}
    assert privacy.suppress_small_counts(Labels(flow=flow, outcomes=outcomes)) == {
        "flow": {"visits": 369, "adults": 335, "at_risk": 305},
        "outcomes": {"readmitted": 40, "not_readmitted": 249},
    }
    assert SMALL_COUNT == 10, "the numbers above are made for it"
