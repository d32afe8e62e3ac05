"""What is said of another drug, or of other patients, is no answer; of two versions of a document the newer one is."""

from pathlib import Path

import pytest
from fixtures.indexed_documents import index_of

from data_pipeline.documents import readers
from data_pipeline.documents.passages import Document, Heading, table
from data_pipeline.retrieval import Index, answer_from
from data_pipeline.retrieval.embedder import Embedder
from data_pipeline.retrieval.grounded_answer import ABSTAINS, NO_TOPIC
from data_pipeline.retrieval.subjects import subject

RENAL = (
    "In adults with an eGFR below 30 co-amoxiclav is given twice a day. The dose of clarithromycin is halved."
)


@pytest.mark.parametrize(
    ("question", "title", "text", "is_met"),
    [
        ("What is the dose of clarithromycin in renal impairment?", "Pneumonia", RENAL, True),
        ("What is the dose of Biaxin in renal impairment?", "Pneumonia", RENAL, True),  # a brand of it
        ("What is the dose of doxycycline in renal impairment?", "Pneumonia", RENAL, False),
        ("What is the dose of clarithromycin in children?", "Pneumonia in adults and children", RENAL, False),
        ("What is the dose of clarithromycin in a 6-month-old?", "Pneumonia", RENAL, False),
        ("What is the dose of clarithromycin in pregnancy?", "Pneumonia", RENAL, False),
        ("What is the dose of clarithromycin on haemodialysis?", "Pneumonia", RENAL, False),
        (
            "What is the dose of ramipril in pregnancy?",
            "Pregnancy",
            "ACE inhibitors are contraindicated.",
            True,
        ),
        ("Which NSAIDs may be taken in pregnancy?", "Pregnancy", "Ibuprofen is avoided.", True),
        ("What is the dose in children?", "Croup in children", "Dexamethasone 0.15 mg/kg is given.", True),
        ("What is the dose in adults?", "Asthma", "Prednisolone 40 mg is given for five days.", True),
        ("What is the dose in adults?", "Asthma", "Children receive prednisolone 20 mg.", False),
        ("How is warfarin reversed?", "Bleeding", "That of a vitamin K antagonist is reversed.", True),
        (
            "Which drug is given first in seizures?",
            "Second treatment of seizures",
            "A second drug is given.",
            False,
        ),
        (
            "Which drug is given first in seizures?",
            "Seizures",
            "When one has not helped, a second is given.",
            True,
        ),
    ],
)
def test_a_passage_speaks_of_the_drugs_and_patients_of_a_question(
    question: str, title: str, text: str, is_met: bool
) -> None:
    assert subject(question).is_met_by(title, text) == is_met


def test_a_sentence_that_goes_on_about_a_drug_is_about_it() -> None:
    sentences = (
        "Rest helps.",
        "Haloperidol 0.5 mg is given.",
        "The highest daily dose is 2 mg.",
        "It is not given in Parkinson's disease; quetiapine 12.5 mg is.",
        "Quetiapine is safer.",
        "Its highest dose is 25 mg.",
        "| haloperidol | 0.5 mg |",
        "| 12 hours | - |",
    )
    about = subject("What is the highest dose of haloperidol?").about_drug(sentences)
    assert about == [False, True, True, True, False, False, True, False]


def test_what_is_said_of_a_drug_behind_its_name_is_quoted(embedder: Embedder, tmp_path: Path) -> None:
    text = (
        "Haloperidol 0.5 mg by mouth is given at night. The highest daily dose is 2 mg. It is not given in Parkinson's "
        "disease; quetiapine 12.5 mg is used. Relatives are told."
    )
    rows = table([Document(file="a", source="a", text=text, digest="0" * 64, title="Delirium: Drugs")])
    index = index_of(embedder, rows, tmp_path / "1")
    quoted = answer_from(index, "What is the highest daily dose of haloperidol?").text
    assert quoted == "Haloperidol 0.5 mg by mouth is given at night. The highest daily dose is 2 mg."
    assert "It is not given in Parkinson's" in answer_from(index, "haloperidol in parkinson").text


@pytest.mark.parametrize(
    ("question", "sentence", "is_another"),
    [
        ("What is the dose of midazolam?", "Paracetamol 15 mg per kilogram is given every six hours.", True),
        ("What is the dose of midazolam?", "Versed 10 mg is the most.", False),  # a brand of it
        ("What is the dose of midazolam?", "It is at most 10 mg.", False),
        ("What does warfarin interact with?", "Amiodarone and fluconazole raise the INR.", False),
        ("How is fever treated?", "Paracetamol 15 mg per kilogram is given every six hours.", False),
    ],
)
def test_the_dose_of_another_drug_is_known(question: str, sentence: str, is_another: bool) -> None:
    assert subject(question).is_dose_of_another(sentence) == is_another


@pytest.fixture(scope="module")
def index(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Two versions of a guideline on anticoagulation, and others on children and on kidneys."""
    texts = {
        ("old.txt", "2018-04-01", "Atrial fibrillation: choice of drug"): (
            "Warfarin with an INR of 2 to 3 is the first choice for stroke prevention in atrial fibrillation."
        ),
        ("new.txt", "2026-02", "Atrial fibrillation: choice of drug"): (
            "Apixaban 5 mg twice a day is the first choice for stroke prevention in atrial fibrillation."
        ),
        ("ketoacidosis.txt", "2024", "Ketoacidosis"): (
            "In adults the infusion of insulin begins at 0.1 units/kg/hour. It is run by a pump. "
            "In children the infusion of insulin begins at 0.05 units/kg/hour."
        ),
        ("pneumonia.txt", "2024", "Pneumonia in adults and children: renal impairment"): RENAL,
        (
            "potassium.txt",
            "2024",
            "Potassium",
        ): "Spironolactone raises potassium, which is measured after a week.",
    }
    rows = table(
        Document(file=name, source=name, text=text, digest="0" * 64, date=date, headings=(Heading(0, title),))
        for (name, date, title), text in texts.items()
    )
    return index_of(embedder, rows, tmp_path_factory.mktemp("guidelines") / "1")


def test_the_newer_of_two_documents_is_quoted_and_the_older_one_is_named(index: Index) -> None:
    answer = answer_from(
        index, "Which drug is the first choice for stroke prevention in atrial fibrillation?"
    )
    assert [c.source for s in answer.sentences for c in s.citations] == ["new.txt"]
    assert answer.passages[0].source == "new.txt"
    assert answer.remark == "An older document, old.txt of 2018-04-01, answers this, too; this is the newer."
    assert answer.text.endswith(answer.remark)
    assert answer_from(index, "What raises potassium?").remark == ""


def test_a_newer_second_treatment_is_no_newer_first_one(embedder: Embedder, tmp_path: Path) -> None:
    texts = {
        ("2016", "First treatment of convulsive status epilepticus"): (
            "A benzodiazepine is the first drug that is given in convulsive status epilepticus."
        ),
        ("2019", "Second treatment of status epilepticus"): (
            "When a benzodiazepine has not stopped status epilepticus, a second drug is given: levetiracetam."
        ),
    }
    rows = table(
        Document(file=date, source=date, text=text, digest="0" * 64, date=date, title=title)
        for (date, title), text in texts.items()
    )
    index = index_of(embedder, rows, tmp_path / "1")
    answer = answer_from(index, "Which drug is given first in status epilepticus?")
    assert (answer.sentences[0].citations[0].date, answer.remark) == ("2016", "")


def test_what_is_said_of_others_is_not_quoted(index: Index) -> None:
    quoted = answer_from(index, "At which rate does the infusion of insulin begin in children?")
    assert quoted.text == "In children the infusion of insulin begins at 0.05 units/kg/hour."
    assert not answer_from(index, "Is the dose of clarithromycin halved in renal impairment?").abstained
    for question in (
        "Is the dose of clarithromycin halved in children?",
        "Is the dose of doxycycline halved in renal impairment?",
    ):
        answer = answer_from(index, question)
        assert (answer.abstained, answer.confidence, answer.text) == (True, 0.0, ABSTAINS)
        assert answer.passages, "for who wants to look himself"


def test_a_row_of_a_table_is_quoted_below_its_columns_names_and_no_other_drugs_dose(
    embedder: Embedder, tmp_path: Path
) -> None:
    file = tmp_path / "fever.md"
    file.write_text(
        "# Febrile convulsions\n\nReviewed 2025-05-02.\n\n## Treatment\n\nOne that lasts for five minutes is treated "
        "with buccal midazolam 0.3 mg per kilogram. Paracetamol 15 mg per kilogram is for comfort alone.\n\n"
        "## Midazolam by weight\n\n| Weight | Buccal dose |\n|---|---|\n| 10 kg | 3 mg |\n| 20 kg | 6 mg |\n"
    )
    rows = table(readers.read([file]).documents)
    index = index_of(embedder, rows, tmp_path / "1")
    answer = answer_from(index, "What is the dose of midazolam in febrile convulsions, per kilogram?")
    assert answer.text.startswith("One that lasts for five minutes is treated with buccal midazolam 0.3 mg")
    assert "Paracetamol" not in answer.text
    quoted = answer_from(index, "Which buccal dose of midazolam at a weight of 20 kg?").text
    assert quoted.startswith("| Weight | Buccal dose |")
    assert "| 20 kg | 6 mg |" in quoted
    for answer in (answer_from(index, "What are febrile convulsions?"), answer_from(index, "midazolam")):
        assert "2025-05-02" not in answer.text, "a date answers nothing"


def test_all_rows_of_a_drug_are_quoted_and_of_several_drugs_what_is_said_of_the_one(
    embedder: Embedder, tmp_path: Path
) -> None:
    file = tmp_path / "surgery.md"
    file.write_text(
        "# Before surgery\n\n## Direct ones\n\n| Drug | Clearance | Low risk | High risk |\n|---|---|---|---|\n"
        "| Apixaban | above 30 | 24 hours | 48 hours |\n| Dabigatran | 80 or more | 24 hours | 48 hours |\n"
        "| Dabigatran | 50 to 79 | 36 hours | 72 hours |\n| Dabigatran | 30 to 49 | 48 hours | 96 hours |\n\n"
        "## Reversal\n\nBefore emergency surgery warfarin is reversed with a concentrate. Dabigatran is reversed with "
        "idarucizumab. Apixaban is reversed with andexanet. The laboratory is told at once. Plasma is reversed last.\n"
    )
    rows = table(readers.read([file]).documents)
    index = index_of(embedder, rows, tmp_path / "1")
    quoted = answer_from(index, "Dabigatran by clearance at high risk?").text
    assert quoted == (
        "| Drug | Clearance | Low risk | High risk | | Dabigatran | 80 or more | 24 hours | 48 hours | "
        "| Dabigatran | 50 to 79 | 36 hours | 72 hours | | Dabigatran | 30 to 49 | 48 hours | 96 hours |"
    )
    assert answer_from(index, "How is apixaban reversed?").text == "Apixaban is reversed with andexanet."


def test_all_of_a_passage_is_quoted_where_no_sentence_has_more_of_the_question_than_its_title(
    embedder: Embedder, tmp_path: Path
) -> None:
    text = "Carbamazepine worsens them. Ethosuximide controls more of them than lamotrigine. Hyperventilation helps."
    rows = table(
        [Document(file="a.txt", source="a.txt", text=text, digest="0" * 64, title="Treatment of absences")]
    )
    index = index_of(embedder, rows, tmp_path / "1")
    assert answer_from(index, "What is the treatment of absences?").text == text


def test_what_names_patients_does_not_say_what_they_are(embedder: Embedder, tmp_path: Path) -> None:
    texts = {
        "Epilepsy in pregnancy": "Levels of lamotrigine fall in pregnancy, so they are measured every month.",
        "Terms": "A pregnancy lasts for 40 weeks from the last period. It has three trimesters.",
    }
    for number, named in enumerate((list(texts), ["Epilepsy in pregnancy"])):
        rows = table(
            Document(file=title, source=title, text=texts[title], digest="0" * 64, title=title)
            for title in named
        )
        index_of(embedder, rows, tmp_path / str(number))
    answer = answer_from(Index.open(tmp_path / "0"), "What is pregnancy?")
    assert answer.text.startswith("A pregnancy lasts for 40 weeks"), answer.text
    other = answer_from(Index.open(tmp_path / "1"), "What is pregnancy?")
    assert (other.abstained, other.text) == (True, ABSTAINS), "and not that it names nothing to look for"


@pytest.mark.parametrize("question", ["And in children?", "What is the dose?", "What about pregnant women?"])
def test_a_question_that_goes_on_from_another_one_names_nothing_to_look_for(
    index: Index, question: str
) -> None:
    answer = answer_from(index, question)
    assert answer.abstained
    assert answer.text == f"{ABSTAINS} {NO_TOPIC}"
