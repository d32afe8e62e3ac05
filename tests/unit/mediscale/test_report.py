"""The report of a run: whole, self-contained, the same every time, and without a word about a single patient."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from mediscale import report
from mediscale.cli import main
from mediscale.core.errors import StorageError
from mediscale.report import charts, labels, model_card
from mediscale.report.data import collect
from mediscale.report.page import Page, Part
from mediscale.storage import lineage
from training.evaluation.performance import METRICS
from training.statistics.estimate import Estimate

SECTIONS = ("verdict", "records", "cohort", "mortality", "readmission", "watch", "again")
VOID = {"meta", "br", "use", "path", "link"}


class _Page(HTMLParser):
    """What is needed to judge a page: its tags in balance, ids, words, and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.scripts = 0
        self.charts = 0
        self.named_charts = 0
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [str(given["id"])] if "id" in given else []
        self.addresses += [str(v) for k, v in attrs if k in ("src", "href", "xlink:href", "action", "data")]
        self.scripts += tag == "script" or any(k.startswith("on") for k in given)
        self.charts += tag == "svg"
        self.named_charts += tag == "svg" and given.get("role") == "img" and "aria-labelledby" in given
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def text(one_run) -> str:
    return report.write(one_run).read_text()


def test_every_part_is_there_and_the_page_is_sound(text) -> None:
    page = _Page(text)
    assert set(SECTIONS) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert page.charts == page.named_charts == 2 * (4 + 4) + 2
    for said in (
        "Released to production",
        "Not released: kept in staging",
        "Every output of a model needs a clinician's judgement",
        "value_plausible",
        "About the death of 12 stays the source's columns disagree",
        "60,000 identifiers",
        "does not read notes",
        "Over the table alone, the AUROC gains",
        "mediscale run --size small\n",
    ):
        assert said in text


def test_figures_stand_in_the_order_in_which_they_are_read_and_numbers_as_print_has_them(text) -> None:
    assert labels.METRICS.keys() == METRICS.keys()
    places = [text.index(f'<th scope="row">{label}<br>') for label, _ in labels.METRICS.values()]
    assert places == sorted(places)
    told = re.sub(
        r"<svg.*?</svg>|<style>.*?</style>|<code.*?</code>|<pre>.*?</pre>", "", text, flags=re.DOTALL
    )
    assert not re.search(r"[ (]-\d|−0\.0+\b(?!\.)|\d %|\(−?[\d.]+ to ", told)


def test_it_needs_nothing_but_itself_and_links_to_the_model_cards(one_run, text) -> None:
    page = _Page(text)
    assert page.scripts == 0
    beside = {address for address in page.addresses if not address.startswith("#")}
    assert beside == {"model-card-synthetic-mortality-v1.html", "model-card-synthetic-readmission-v1.html"}
    assert all((one_run.home / "reports" / card).is_file() for card in beside)
    assert {address[1:] for address in page.addresses} - {card[1:] for card in beside} <= set(page.ids)
    assert not re.search(r"https?://|@import|url\((?!#)", text)


def test_the_command_names_the_file_and_the_same_run_gives_the_same_bytes(
    one_run, text, monkeypatch, capsys, tmp_path
) -> None:
    monkeypatch.setenv("MEDISCALE_HOME", str(one_run.home))
    assert main.main(["report", "synthetic", "--output", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == text


def test_each_leak_check_of_the_training_set_is_said(text) -> None:
    certificate = text.partition("<h3>Leak certificate</h3>")[2].partition("<h3>")[0]
    assert re.findall(r"✓ passes|✗ fails", certificate) == ["✓ passes"] * 2
    assert "no fact of later reaches a feature" in certificate


def test_no_patient_and_no_handful_is_told(text) -> None:
    assert "9007199254" not in text
    assert "44 came back as planned or died within 30 days without coming back" in text
    assert re.search(r"rare.{0,400}suppressed", text, re.DOTALL)


@pytest.mark.usefixtures("empty_charts")
def test_a_task_that_the_extract_can_t_support_stands_in_the_verdict_with_the_reason(one_run, text) -> None:
    """A run of MIMIC-IV's demo without laboratory and vital signs told of mortality on the console and not here."""
    run = lineage.find(one_run)
    lacks = ["hosp/labevents", "icu/chartevents"]
    calls = [
        call.model_copy(update={"result": {**call.result, "absent": lacks}})
        if call.stage == "bronze"
        else call
        for call in run.calls
        if call.task != "mortality"
    ]
    page = Page(collect(one_run, replace(run, calls=tuple(calls)))).render()
    assert (
        "The extract has no laboratory and no vital signs (hosp/labevents, icu/chartevents are absent)"
        in page
    )
    assert page.count('<p class="status">No model</p>') == 1
    assert "No model" not in text


@pytest.mark.usefixtures("empty_charts")
def test_the_facts_that_became_no_event_are_accounted_for(one_run, text) -> None:
    """Of MIMIC-III's demo 2,664 usable facts are temperatures of the same moment in the other unit."""
    run = lineage.find(one_run)
    fewer = [
        call.model_copy(update={"result": {**call.result, "event_count": call.result["event_count"] - 877}})
        if call.stage == "silver"
        else call
        for call in run.calls
    ]
    told = "without 877 facts that repeat another one of the same moment"
    assert told in Page(collect(one_run, replace(run, calls=tuple(fewer)))).render()
    assert "that repeat another one" not in text


def test_tables_of_the_extract_are_the_extract_s(text) -> None:
    assert "landed_files" not in text.partition("Tables of the extract")[2].partition("</table>")[0]


def test_inputs_that_move_no_risk_are_in_no_chart(one_run) -> None:
    (part, *_) = Page(collect(one_run, lineage.find(one_run))).parts
    assert part.decided is not None
    assert part.decided.spec is not None
    spec = part.decided.spec.model_copy(update={"importance": {"age_years": 0.3, "sex_female": 0.0}})
    decided = replace(part.decided, spec=spec)
    drawn = Part(replace(part.task, decided=decided)).importance
    assert drawn is not None
    assert "0.3" in drawn.svg
    assert "sex" not in drawn.svg
    nothing = replace(decided, spec=spec.model_copy(update={"importance": {"age_years": 0.0}}))
    assert Part(replace(part.task, decided=nothing)).importance is None


def test_unlisted_words_and_renamed_columns_are_said_and_small_counts_are_not(text) -> None:
    assert "<code>admissions.admission_type</code> in 41 rows" in text
    assert "<code>patients.gender</code> in fewer than 10 rows" in text
    assert "labevents.flag_2" in text


def test_words_of_the_run_are_words_and_not_markup(text) -> None:
    assert "&lt;as made up&gt;" in text
    assert "<as made up>" not in text


@pytest.mark.usefixtures("empty_charts")
def test_too_few_outcomes_for_curves_is_said(leave_run) -> None:
    text = report.write(leave_run(stays=60)).read_text()
    assert "No ROC, precision-recall and decision curves" in text
    assert "synthetic-mortality v1" in text


def _page_of(home, **changes) -> str:
    """The page of the newest run and of mortality alone, as if its evidence had said this too."""
    contents = collect(home, lineage.find(home))
    first, *_ = contents.tasks
    assert first.decided is not None
    judged = replace(first.decided, evidence=first.decided.evidence.model_copy(update=changes))
    return Page(replace(contents, tasks=(replace(first, decided=judged),))).render()


@pytest.mark.usefixtures("empty_charts")
def test_what_rests_on_fewer_stays_is_said_with_their_number(one_run, text) -> None:
    assert "The same 1,500 held-out stays for all. " in text
    evidence = collect(one_run, lineage.find(one_run)).tasks[0].decided.evidence
    some = evidence.counts.model_copy(update={"n": 1200})
    told = _page_of(
        one_run,
        notes=evidence.notes.model_copy(update={"read": 900}),
        oracle=evidence.oracle.model_copy(update={"counts": some}),
    )
    expected = "but the notes alone on 900 of them and the best possible on 1,200 of them."
    assert f"The same 1,500 held-out stays for all, {expected}" in told


@pytest.mark.usefixtures("empty_charts")
def test_without_a_sure_possible_gain_its_share_is_said_to_be_unknown(one_run) -> None:
    notes = collect(one_run, lineage.find(one_run)).tasks[0].decided.evidence.notes
    unknown = {"notes": notes.model_copy(update={"share_of_possible_gain": None})}
    assert "even the best possible model may gain nothing here" in _page_of(one_run, **unknown)
    assert "possible" not in _page_of(one_run, **unknown, oracle=None).partition("With the notes")[2][:600]


def test_a_figure_without_an_interval_is_drawn_without_one() -> None:
    def bars(low: float | None) -> int:
        rows = [charts.Row("a", Estimate(value=0.5, low=low, high=low and 0.9), "")]
        return charts.forest("name", "Title", rows, None, "").svg.count("<use")

    assert bars(None) < bars(0.1)


def test_changed_evidence_is_refused(leave_run) -> None:
    home = leave_run()
    decision = lineage.find(home).newest("promotion")
    assert decision is not None
    with (home.home / decision.params["evidence"]).open("a") as file:
        file.write(" ")
    with pytest.raises(StorageError, match="was changed"):
        report.write(home)


@pytest.mark.usefixtures("empty_charts")
def test_models_out_of_reach_leave_only_their_inputs_out(leave_run) -> None:
    home = leave_run()
    (home.home / "artifacts" / "synthetic-mortality" / "1" / "predictor.json").unlink()
    text = report.write(home).read_text()
    assert 'id="mortality-importance-title"' not in text
    assert 'id="readmission-importance-title"' in text


def test_the_points_score_stands_beside_the_model_and_as_a_table_to_add_up(one_run, text) -> None:
    assert "below 65: 0, from 65: 3, from 80: 7; not known: 1" in text
    assert "high from 3 points on" in text
    assert "calibration slope" in text[text.index("Points score:") :][:300]
    card = model_card.find(one_run, "synthetic-mortality/1").model_dump_json()
    assert "The points score's AUROC is" in card
    assert "The points score's calibration slope is" in card


def test_it_lies_with_the_homes_reports_under_the_name_of_the_run(one_run, text) -> None:
    assert text
    (path,) = (p for p in (one_run.home / "reports").glob("*.html") if not p.name.startswith("model-card-"))
    assert re.fullmatch(r"cli-20260101T0300-synthetic\.html", path.name)


def test_an_unknown_run_is_one_sentence(one_run, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MEDISCALE_HOME", str(one_run.home))
    assert main.main(["report", "elsewhere"]) == 7
    assert capsys.readouterr().err.count("\n") == 1
