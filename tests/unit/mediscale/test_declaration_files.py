"""A person's own source and task: YAML files from anywhere, which the home keeps under their names."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of_test
from hypothesis import strategies as st

from data_pipeline.ingest import source
from mediscale.core import declaration_files, task_names, tasks, yaml_text
from mediscale.core.errors import InputError, UsageError

CLINIC = """
description: a clinic
subjects: {table: people, id: person}
visits: {table: people, id: person, started: began, admitted: began, ended: ended}
tables:
  people:
    file: people
    columns: {person: string, began: timestamp, ended: timestamp}
    available: began
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDISCALE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_source_file_is_kept_and_found_by_its_name(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "my_clinic.yaml"
    file.write_text(CLINIC)
    assert source.register(str(file)) == "my-clinic"
    assert source.load("my-clinic").description == "a clinic"
    assert source.load("my_clinic").name == "my-clinic"
    file.write_text(CLINIC.replace("a clinic", "another"))
    source.register(str(file))
    assert source.load("my-clinic").description == "another"
    assert "another" in (home / "sources" / "my-clinic.yaml").read_text()
    assert "my-clinic" not in source.names(), "shipped ones alone"
    with pytest.raises(InputError, match=r"no source 'nowhere'; the sources are .*mimic-iii, .*, my-clinic"):
        source.load("nowhere")


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("mimic_iii.yaml", CLINIC, "A shipped source is called mimic-iii; give mimic_iii.yaml another name"),
        ("Ward 7.yaml", CLINIC, "Ward 7.yaml can't be one; rename it"),
        ("ward.yaml", CLINIC.replace("available", "availabel"), "people.availabel: there is no such key; did you mean"),
        ("ward.yaml", CLINIC.replace("began\n", "'{later}'\n"), r"expressions use {later}, which assumptions do not"),
        ("ward.yaml", CLINIC.replace("available: began", "available: '{origin}'"), "needs clock: relative"),
    ],
)  # fmt: skip
def test_a_source_file_that_cannot_be_one_is_refused_and_not_kept(
    home: Path, tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        source.register(str(file))
    assert sentence in str(refused.value)
    assert not home.exists()


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml can't be read as the YAML file of a source"):
        source.register("nowhere.yaml")


def test_a_task_file_is_kept_and_is_then_a_task(tmp_path: Path) -> None:
    text = (task_names.FOLDER / "mortality.yaml").read_text()
    file = tmp_path / "late_mortality.yaml"
    file.write_text(text.replace("hours_after: 24", "hours_after: 30"))
    assert tasks.register(str(file)) == "late_mortality"
    assert tasks.load("late_mortality").prediction_time.hours_after == 30
    assert "late_mortality" in task_names.all_names()
    assert "late_mortality" not in task_names.names(), "a run takes it only where somebody asks"
    assert tasks.register("mortality") == "mortality"
    (tmp_path / "mortality.yaml").write_text(text)
    with pytest.raises(UsageError, match="A shipped task is called mortality"):
        tasks.register(str(tmp_path / "mortality.yaml"))


def test_the_line_of_a_mistake_in_a_task_is_named(tmp_path: Path) -> None:
    text = (task_names.FOLDER / "mortality.yaml").read_text()
    line = text.split("\n").index("bedside_rule: news2") + 1
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace("bedside_rule: news2", "bedside_rule: 2"))
    with pytest.raises(UsageError, match=rf"line {line}, bedside_rule: .* correct it in {tmp_path}"):
        tasks.register(str(file))


def test_a_task_that_is_begun_hears_all_keys_that_it_lacks_and_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("title: Mine\n")
    with pytest.raises(UsageError) as refused:
        tasks.register("mine.yaml")
    sentence = str(refused.value)
    assert sentence.startswith("The task file mine.yaml can't be used: it lacks ")
    assert {"outcome", "prediction_time", "at_risk", "features"} <= set(re.findall(r"\w+", sentence))
    assert sentence.endswith(f"correct it in {tmp_path} and run again.")


@pytest.mark.parametrize(
    ("place", "line"), [(("a", "b", 1), 3), (("a", "c"), 1), (("d",), 4), (("nowhere",), 1), (("d", "x"), 4)]
)
def test_the_line_of_a_place(place: tuple[str | int, ...], line: int) -> None:
    assert yaml_text.line_of("a:\n  b: [1,\n   2]\nd: e", place) == line


def test_what_is_kept_is_what_was_given() -> None:
    copy = declaration_files.save_copy("task", "x", yaml.safe_dump({"a": 1}))
    assert json.dumps(yaml.safe_load(copy.read_text())) == '{"a": 1}'
    assert not list(copy.parent.glob("*.part"))


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]" for before, name in pairwise("abcdefg")
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title: a\nneeds: [notes]\ntitle: b", "line 3: title stands twice"),
        ("tables:\n  labs: {file: a, file: b}", "line 2: file stands twice"),
        (BOMB, "aliases stand for over"),
        ("a: &a [*a]", "aliases stand for over"),
        ("[" * 1_000_000, "nested too deeply"),
    ],
)
def test_a_key_that_stands_twice_and_endless_aliases_are_refused(text: str, said: str) -> None:
    """The later key would count in silence; the check of 10 million parts took a minute."""
    for parse in (tasks.parse, source.parse):
        with pytest.raises(UsageError, match=said):
            parse("mine", text)


@pytest.mark.parametrize(
    "written", ["030", "0123", "0x18", "0b11", "1:30", "2_4", "-010", "1_0.5", "12:30:45"]
)
def test_a_number_that_is_read_with_another_base_is_refused_and_its_text_is_not(written: str) -> None:
    """YAML 1.1 reads 030 as 24 and 1:30 as 90; an item's code 0123 would be 83."""
    with pytest.raises(yaml.YAMLError, match=rf"line 2: a number written {re.escape(written)} is read with"):
        yaml_text.content(f"title: x\nhours: {written}\n")
    assert yaml_text.content(f"hours: '{written}'") == {"hours": written}


@settings_of_test(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
def test_a_number_in_decimal_digits_is_read_as_it_is_written(number: float) -> None:
    written = f"{number}" if isinstance(number, int) else f"{number:.6f}"
    assert yaml_text.content(f"a: {written}") == {"a": float(written)}


def test_the_words_no_and_on_are_words() -> None:
    """YAML 1.1 takes a column ``no``, or a word that a hospital writes, for a truth."""
    assert yaml_text.content("no: [yes, on, Off, n]\nis: [true, False]") == {
        "no": ["yes", "on", "Off", "n"],
        "is": [True, False],
    }
