"""Verbs of whoever brings a hospital's data: they check a source on an extract and a task on a dataset before a run."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mediscale.cli.verbs import Verb, path

if TYPE_CHECKING:
    from data_pipeline.source_check import ConceptCheck, SourceCheck
    from data_pipeline.task_check import TaskCheck

_UNITS = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"), (1, "B"))
_MOST = 12
"""Columns or files that are listed by name; of more, their number."""


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=("check", "draft"),
        help="check: show what a source makes of the extract, writing nothing; draft: write a first YAML for an "
        "extract that nobody has mapped, with a TODO for each question that a person must answer",
    )
    parser.add_argument(
        "source", nargs="?", metavar="NAME|FILE", help="check: a shipped source, or a YAML file of your own"
    )
    parser.add_argument("--path", type=path, required=True, help="folder of the extract")
    parser.add_argument(
        "--output", type=path, metavar="FILE", help="draft: the file to write, which must not exist yet"
    )
    parser.add_argument(
        "--task",
        action="append",
        default=[],
        metavar="NAME|FILE",
        help="a task whose cohort and features are shown; repeat for several (default: all)",
    )


def _source(options: argparse.Namespace) -> int:
    from mediscale.core.errors import UsageError

    if (options.action == "check") != bool(options.source):
        raise UsageError(
            "source check takes a source (a name, or a YAML file), and source draft none: it writes one for the "
            "extract in --path."
        )
    return _check_source(options) if options.action == "check" else _draft_source(options)


def _draft_source(options: argparse.Namespace) -> int:
    import tempfile

    from data_pipeline import source_draft
    from mediscale.core.errors import InputError, UsageError
    from mediscale.core.settings import Settings

    if not options.path.is_dir():
        raise InputError(f"There is no directory {options.path}; give the folder that holds the extract.")
    if options.output and options.output.exists():
        raise UsageError(
            f"{options.output} is there already; a draft replaces nothing, so name another file."
        )
    with tempfile.TemporaryDirectory(prefix="mediscale-draft-", ignore_cleanup_errors=True) as scratch:
        text = source_draft.draft(Settings(home=Path(scratch)), options.path.resolve())
    if not options.output:
        print(text, end="")
        return 0
    options.output.write_text(text, encoding="utf-8")
    print(
        f"{options.output} is a draft with {len(source_draft.todos(text))} open questions (TODO). Answer them, then "
        f"run mediscale source check {options.output} --path {options.path}."
    )
    return 0


def _check_source(options: argparse.Namespace) -> int:
    import tempfile

    from data_pipeline import source_check, source_draft
    from data_pipeline.ingest import source as sources
    from mediscale.core import tasks
    from mediscale.core.errors import QualityError
    from mediscale.core.settings import Settings

    source, text = sources.read(options.source)
    of_tasks = tuple(tasks.attempt(name).name for name in options.task)
    with tempfile.TemporaryDirectory(prefix="mediscale-check-", ignore_cleanup_errors=True) as scratch:
        checked = source_check.check(Settings(home=Path(scratch)), source, options.path.resolve(), of_tasks)
    for line in [*source_lines(checked), *_questions(source_draft.todos(text))]:
        print(line)
    return QualityError.exit_code if checked.yielding_nothing else 0


def _questions(todos: "list[tuple[int, str]]") -> list[str]:
    if not todos:
        return []
    return [
        "",
        f"{len(todos)} open questions of the file",
        *(f"  line {line}: {todo}" for line, todo in todos),
    ]


def source_lines(checked: "SourceCheck") -> list[str]:
    """What ``mediscale source check`` prints."""
    return [
        *_files(checked),
        *_facts(checked),
        *_concepts(checked),
        *_alarms(checked),
        *(line for task in checked.tasks for line in _task(task, checked.one_in)),
    ]


def _files(checked: "SourceCheck") -> list[str]:
    from mediscale.core.privacy import count

    lines = ["files"]
    for table in checked.tables:
        unread = f"; columns not read: {_listed(table.unread_columns)}" if table.unread_columns else ""
        parts = f" in {table.files} files" if table.files > 1 else ""
        lines.append(f"  {table.name:<22} {table.rows:>12,} rows, {_size(table.bytes)}{parts}{unread}")
    if checked.absent:
        lines.append(f"  not in the extract: {_listed(checked.absent)}")
    if checked.unread_files:
        named = [f"{name} ({_size(size)})" for name, size in checked.unread_files]
        lines.append(f"  files that nothing reads: {_listed(named)}")
    lines += [
        f"  words of {column} that no list has: {count(n)} rows"
        for column, n in checked.unlisted_words.items()
    ]
    return lines


def _facts(checked: "SourceCheck") -> list[str]:
    from mediscale.core.privacy import count, count_of

    sample = f"what follows is of one in {checked.one_in} patients" if checked.one_in > 1 else ""
    lines = ["", *filter(None, [sample]), f"facts{'':<34}{'rows':>12}{'stated':>12}{'usable':>23}  lost to"]
    for fact in checked.facts:
        lost = ", ".join(f"{rule} {count(n)}" for rule, n in sorted(fact.broken.items(), key=lambda b: -b[1]))
        midnight = f"{fact.at_midnight:.0%} at midnight" if fact.at_midnight > 0.5 else ""
        remarks = "; ".join(filter(None, [lost, midnight]))
        name, usable = f"{fact.table}.{fact.fact}", count_of(fact.usable, fact.candidates)
        lines.append(f"  {name:<37}{fact.rows:>12,}{fact.candidates:>12,}{usable:>23}  {remarks}")
    return lines


def _concepts(checked: "SourceCheck") -> list[str]:
    from mediscale.core.privacy import count, is_small

    if not checked.concepts:
        return ["", "concepts: none is mapped"]
    lines = [
        "",
        f"concepts{'':<20}{'table, item':<36}{'n':>14}{'patients':>15}{'p1':>10}{'p50':>10}{'p99':>10}",
    ]
    for one in checked.concepts:
        percentiles = (
            ("", "", "") if is_small(one.patients) else (_figure(value) for value in one.percentiles)
        )
        low, middle, high = percentiles
        where = f"{one.table}, {one.item}"
        lines.append(
            f"  {one.concept:<26}{where[:35]:<36}{count(one.n):>14}{count(one.patients):>15}{low:>10}{middle:>10}"
            f"{high:>10} {one.unit}"
        )
    return lines


def _figure(value: float) -> str:
    """Four digits that count, never as a power of ten.

    >>> _figure(0.04), _figure(36.333), _figure(10660.0)
    ('0.04', '36.33', '10,660')
    """
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _alarms(checked: "SourceCheck") -> list[str]:
    lines = []
    for low, high in checked.apart:
        lines.append(
            f"ALARM {low.concept}: the median is {low.percentiles[1]:.4g} {low.unit} in {_item_label(low)} and "
            f"{high.percentiles[1]:.4g} in {_item_label(high)}; is a unit converted that should not be, or the other "
            "way?"
        )
    lines += [
        f"ALARM {table} has rows and yields no usable fact; what it was lost to stands above."
        for table in checked.yielding_nothing
    ]
    return ["", *lines] if lines else []


def _item_label(one: "ConceptCheck") -> str:
    return f"item {one.item} of {one.table}"


def _task(task: "TaskCheck", one_in: int = 1) -> list[str]:
    from mediscale.core.privacy import (
        count,
        count_of,
        is_small,
        may_be_shared,
        merged_steps,
        outcomes_in_words,
    )

    if task.refused and not task.flow:
        return ["", f"task {task.task}: not with this source: {task.refused}"]
    lines = ["", f"task {task.task}{f', of one in {one_in} patients' if one_in > 1 else ''}"]
    lines.append("  " + " → ".join(f"{name} {count(n)}" for name, n in merged_steps([*task.flow.items()])))
    with_outcome = task.patients_with_outcome
    if task.outcomes and may_be_shared(with_outcome, task.patients):
        lines.append(
            "  of these: "
            + ", ".join(f"{name} {n}" for name, n in outcomes_in_words([*task.outcomes.items()]))
        )
    if task.refused or is_small(task.at_risk):
        return [*lines, f"  {task.refused or 'too few to say more'}"]
    rows = "predictions" if task.repeated else "stays"
    share = f"{task.prevalence:.1%}" if may_be_shared(with_outcome, task.patients) else "a suppressed share"
    lines.append(
        f"  outcome in {share} of {count(task.at_risk)} {rows}, and of "
        f"{count_of(with_outcome, task.patients)} of {count(task.patients)} patients; {task.filled} of "
        f"{len(task.features)} features have a value in at least 10 %"
    )
    if task.without_events:
        lines.append(f"  left out are these, which no event has: {_listed(task.without_events)}")
    lines += [
        f"  ALARM {name} alone has AUROC {auroc:.3f}: does it tell of the outcome itself?"
        for name, auroc in task.suspicious.items()
    ]
    return lines


def details(task: "TaskCheck") -> list[str]:
    """Lines on a checked task: by the hour of the prediction, then by feature."""
    from mediscale.core.privacy import count, count_of, is_small, may_be_shared

    if task.refused or is_small(task.at_risk):
        return []
    lines = [f"  {'hour':<44}{'predictions':>12}{'with outcome':>14}"] if task.by_hour else []
    lines += [
        f"  {one.hour:<44}{count(one.n):>12}{count_of(one.with_outcome, one.n):>14}"
        + (f"  {one.with_outcome / one.n:.1%}" if may_be_shared(one.with_outcome, one.n) else "")
        for one in task.by_hour
    ]
    if empty := [one.name for one in task.features if not one.filled]:
        lines.append(f"  without a value, or with nothing but 0 ({len(empty)}): {_listed(empty)}")
    lines.append(f"  {'feature':<44}{'missing':>12}{'AUROC alone':>14}")
    for one in sorted((one for one in task.features if one.filled), key=lambda one: -one.missing):
        auroc = "" if one.auroc != one.auroc else f"{one.auroc:.3f}"
        lines.append(f"  {one.name:<44}{one.missing:>12.0%}{auroc:>14}")
    return lines


def _listed(names: Any) -> str:
    first = list(names)[:_MOST]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")


def _size(n: int) -> str:
    least, unit = next((least, unit) for least, unit in _UNITS if n >= least or least == 1)
    return f"{n / least:,.0f} {unit}"


def _add_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("check",), help="check: show its cohort and features")
    parser.add_argument("task", metavar="NAME|FILE", help="a task, or a YAML file of your own")
    parser.add_argument("--dataset", required=True, help="the dataset whose events it is tried on")


def _check_task(options: argparse.Namespace) -> int:
    from data_pipeline import task_check
    from data_pipeline.ingest import source as sources
    from mediscale.cli.verbs import settings
    from mediscale.core import tasks
    from mediscale.core.errors import NotFoundError, QualityError
    from mediscale.storage import calls, lake
    from training.evaluation import baselines

    home, task = settings(), tasks.attempt(options.task)
    baselines.rule_of(task.name)  # names another one where there is none of that name
    landed = [call for call in calls.of_stage(home, "bronze") if call.params["dataset"] == options.dataset]
    if not landed:
        there = ", ".join(lake.datasets(home)) or "none yet"
        raise NotFoundError(f"No extract of {options.dataset} was landed; the lake's datasets are: {there}.")
    source, absent = sources.load(landed[-1].params["source"]), landed[-1].result["absent"]
    checked = task_check.of_dataset(home, lake.latest(home, options.dataset, "events"), source, absent, task)
    for line in [*_task(checked)[1:], *details(checked)]:
        print(line)
    return QualityError.exit_code if checked.refused else 0


VERBS = (
    Verb(
        "source",
        "draft the YAML source of an extract, or check one, before anything is landed",
        _source,
        _add_source,
    ),
    Verb("task", "check a task on a dataset: cohort, prevalence, filled features", _check_task, _add_task),
)
