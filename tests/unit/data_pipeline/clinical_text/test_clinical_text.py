"""Reading a text: folding, words, places in the original, spelling, phrases and context."""

import time
from collections.abc import Callable

import pytest

from data_pipeline.clinical_text.context import Context
from data_pipeline.clinical_text.phrases import Phrases
from data_pipeline.clinical_text.sentences import sentences
from data_pipeline.clinical_text.spelling import Speller
from data_pipeline.clinical_text.stated_dates import stated_dates
from data_pipeline.clinical_text.text import read


def test_look_alikes_digits_apostrophes_and_abbreviations_become_plain_words_with_their_places() -> None:
    text = "My h\u0435art\u2019s rate: ١٢٠. He took 1,500 mg p.o. b.i.d., 2.5 mL; Dr. Ab\u200bc"
    clinical = read(text)
    assert clinical.words[:5] == ("my", "hearts", "rate", "120", ".")
    assert clinical.words[5:12] == ("he", "took", "1500", "mg", "po", "bid", "2.5")
    assert clinical.words[-3:] == (".", "dr", "abc")
    start, end = clinical.span(1, 2)
    assert text[start:end] == "h\u0435art\u2019s"
    assert text[slice(*clinical.span(len(clinical.words) - 1, len(clinical.words)))] == "Ab\u200bc"


def test_a_word_of_another_script_stays_what_it_is() -> None:
    assert read("сердце").words == ("сердце",)


def test_sentences_end_at_stops_and_blank_lines_and_not_in_abbreviations() -> None:
    clinical = read("Dr. Roe came at 5 p.m. today. No fever\n\n- chest pain")
    assert [clinical.words[a:b] for a, b in clinical.sentences()] == [
        ("dr", "roe", "came", "at", "5", "pm", "today"),
        ("no", "fever"),
        ("chest", "pain"),
    ]


def test_only_words_that_no_list_has_are_corrected() -> None:
    speller = Speller({"warfarin", "seizure", "chest", "breathing", "hyponatremia", "ibuprofen", "dizzy"})
    wrong = ["warfrin", "siezure", "ibuprophen", "chestt"]
    assert [speller.correct(word) for word in wrong] == ["warfarin", "seizure", "ibuprofen", "chest"]
    for word in ("chess", "bleach", "cough", "levetiracetam", "dizz"):
        assert speller.correct(word) == word


def test_phrases_have_alternatives_options_gaps_prefixes_and_numbers() -> None:
    phrases = Phrases(
        {"p": ["chest (pain|pressure (of|in) {who}) (now)?", "vomit* ... blood", "took # pills"]},
        {"who": "me"},
    )
    for text in (
        "Chest pain now",
        "chest pressure in me",
        "vomiting lots of red blood",
        "took 30 pills",
        "took ٣٠ pills",
    ):
        assert len(phrases.find(read(text))) == 1, text
    for text in ("chest", "vomiting. Blood was drawn", "took some pills", "vomit a b c d e blood"):
        assert not phrases.find(read(text)), text


@pytest.mark.parametrize("phrase", ["... pain", "(my)?", "chest (pain", "chest) pain"])
def test_a_phrase_that_could_begin_anywhere_or_lacks_a_bracket_is_refused(phrase: str) -> None:
    with pytest.raises(ValueError, match="phrase"):
        Phrases({"p": [phrase]})


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("She denies chest pain", True),
        ("No fever, cough or chest pain", True),
        ("Chest pain was ruled out", True),
        ("no fever but chest pain since noon", False),
        ("The chest pain is not getting better", False),
        ("cannot rule out chest pain", False),
        ("chest pain", False),
    ],
)
def test_negation_reaches_to_the_end_of_what_it_governs(text: str, negated: bool) -> None:
    clinical = read(text)
    first = clinical.words.index("chest")
    assert Context(clinical).is_negated(first, first + 2) is negated


def test_family_and_past_are_seen_in_the_sentence() -> None:
    clinical = read("Her father had a stroke. She had a stroke three years ago. Stroke today.")
    context = Context(clinical)
    strokes = [i for i, word in enumerate(clinical.words) if word == "stroke"]
    assert [context.is_family(i) for i in strokes] == [True, False, False]
    assert [context.is_past(i) for i in strokes] == [False, True, False]


@pytest.mark.parametrize(
    ("work", "text"), [(sentences, "Mr. " * 50_000), (lambda text: [*stated_dates(text)], "| " * 5_000)]
)
def test_what_is_repeated_takes_no_time_by_its_square(work: Callable[[str], object], text: str) -> None:
    """It took seconds: each full stop looked at all that follows, each bar of an empty table at all bars behind it."""
    begun = time.process_time()
    work(text)
    assert time.process_time() - begun < 1
