"""Which files of a folder a source's tables are read from."""

import gzip
import os
import time
from pathlib import Path

import pytest

from data_pipeline.ingest import extract_files, source
from data_pipeline.ingest.extract_parts import part_of
from mediscale.core.errors import InputError

CLINIC = source.parse(
    "clinic",
    """
description: a clinic
subjects: {table: people, id: person}
visits: {table: stays, id: stay, started: began, admitted: began, ended: ended}
tables:
  people: {file: people, required: true, columns: {person: string}, available: date'2000-01-01'}
  stays: {file: hosp/stays, columns: {person: string, stay: string}, available: began}
  labs: {file: labs_*, columns: {person: string}, available: began}
""",
)


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("person\n1\n")
    return root


def located(root: Path) -> dict[str, list[str]]:
    files = extract_files.locate(CLINIC, root)
    return {name: [file.relative_to(root).as_posix() for file in parts] for name, parts in files.items()}


def test_a_table_is_one_file_a_folder_of_parts_or_every_file_of_a_pattern(tmp_path: Path) -> None:
    write(
        tmp_path,
        "PEOPLE.TSV",
        "hosp/stays/part-1.csv",
        "hosp/stays/part-0.csv.gz",
        "labs_2.csv",
        "labs_1.csv",
    )
    write(tmp_path, "labs.csv", "hosp/stays/_SUCCESS")
    assert located(tmp_path) == {
        "people": ["PEOPLE.TSV"],
        "stays": ["hosp/stays/part-0.csv.gz", "hosp/stays/part-1.csv"],
        "labs": ["labs_1.csv", "labs_2.csv"],
    }
    assert extract_files.unread(extract_files.locate(CLINIC, tmp_path), tmp_path) == [tmp_path / "labs.csv"]


def test_a_file_of_the_tables_name_comes_before_a_folder_of_parts(tmp_path: Path) -> None:
    write(tmp_path, "people.csv", "people/old.csv")
    assert located(tmp_path) == {"people": ["people.csv"]}


def test_a_table_in_two_formats_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "people.csv", "labs_1.csv", "labs_1.parquet")
    with pytest.raises(InputError, match="The table labs has CSV and Parquet files"):
        located(tmp_path)


@pytest.mark.parametrize(
    "twice", [("people.csv", "people.csv.gz"), ("people.csv", "PEOPLE.csv"), ("people.tsv", "people.parquet")]
)
def test_a_table_that_is_there_twice_is_refused_by_name(tmp_path: Path, twice: tuple[str, str]) -> None:
    """An unpacked copy beside the compressed file may be an older one; the file system may know no case."""
    write(tmp_path, *twice)
    if len(list(tmp_path.iterdir())) == 2:
        with pytest.raises(InputError, match="nothing was landed") as refused:
            located(tmp_path)
        assert all(name in str(refused.value) for name in twice)


def test_a_link_that_leads_nowhere_is_no_absent_table(tmp_path: Path) -> None:
    write(tmp_path, "people.csv")
    (tmp_path / "labs_1.csv").symlink_to(tmp_path / "unmounted" / "labs_1.csv")
    with pytest.raises(InputError, match=r"labs_1\.csv in .* is a link to what is not there"):
        located(tmp_path)


@pytest.mark.parametrize("place", ["x\udcff", "labs_\udcff.csv"])
def test_a_name_that_is_no_text_is_said_in_text(tmp_path: Path, place: str) -> None:
    """Of the extract's folder or of a file in it, as an old disk in another encoding has them."""
    folder = tmp_path / place if place.startswith("x") else tmp_path
    folder.mkdir(exist_ok=True)
    write(folder, "people.csv", *([place] if folder == tmp_path else []))
    with pytest.raises(InputError, match="is no text in UTF-8; nothing was landed") as refused:
        located(folder)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "content", ["person\n1\n".encode("utf-16"), gzip.compress(b"person\n1\n"), b"per\0son\n1\n"]
)
def test_a_header_that_is_no_text_is_said_and_not_shown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "people.csv").write_bytes(content)
    with pytest.raises(InputError, match="header with bytes that are no text") as refused:
        part_of(CLINIC, "people", tmp_path / "people.csv", tmp_path)
    assert str(refused.value).isprintable()


def test_the_digest_covers_every_part(tmp_path: Path) -> None:
    write(tmp_path, "people.csv", "labs_1.csv", "labs_2.csv")
    files = extract_files.locate(CLINIC, tmp_path)
    before = extract_files.digest(files, tmp_path, extract_files.file_digests(files))
    (tmp_path / "labs_2.csv").write_text("person\n2\n")
    assert extract_files.digest(files, tmp_path, extract_files.file_digests(files)) != before


def test_a_file_that_stayed_as_it_was_for_a_while_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "people.csv", "labs_1.csv")
    read: list[str] = []
    whole = extract_files._sha256

    def sha256(path: Path) -> str:
        read.append(path.name)
        return whole(path)

    monkeypatch.setattr(extract_files, "_sha256", sha256)
    files = extract_files.locate(CLINIC, tmp_path)
    long_ago = time.time() - 60
    os.utime(tmp_path / "people.csv", (long_ago, long_ago))
    first = extract_files.file_digests(files)
    assert extract_files.file_digests(files) == first
    assert sorted(read) == ["labs_1.csv", "labs_1.csv", "people.csv"]
    text = (tmp_path / "people.csv").read_text()
    (tmp_path / "people.csv").write_text(text[::-1])
    os.utime(tmp_path / "people.csv", (long_ago, long_ago))  # as `cp -p` and `rsync --inplace` leave it
    assert extract_files.file_digests(files)[tmp_path / "people.csv"] != first[tmp_path / "people.csv"]
