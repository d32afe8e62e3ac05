"""Functions of Spark SQL that an expression may use: each was compared with Spark, row by row, in the engine.

DuckDB has functions of the same names that mean something else (``dayofweek`` begins with 0, ``datediff`` counts
borders of hours and not hours), and the translation of others loses a bracket. What is not compared is refused, and
where the two differ the expression is put right on the way.
"""

import re
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from sqlglot.expressions import Expr

FUNCTIONS = frozenset({
    "Abs", "AddMonths", "And", "ArgMax", "ArgMin", "Array", "ArrayCompact", "ArraySize", "ArrayToString", "Avg",
    "BitLength", "Case", "Cast", "Cbrt", "Ceil", "Coalesce", "Concat", "ConcatWs", "Contains", "Count", "CountIf",
    "DateDiff", "DateTrunc", "Day", "DayOfMonth", "DayOfWeek", "DayOfYear", "DecodeCase", "EndsWith", "EqualNull",
    "Exp", "Explode", "Extract", "Floor", "Greatest", "Hour", "If", "IsNan", "LastDay", "Least", "Left", "Length",
    "Ln", "Log", "LogicalAnd", "LogicalOr", "Lower", "MD5", "Max", "Median", "Min", "Minute", "Month",
    "MonthsBetween", "Nullif", "Nvl2", "Or", "Pad", "Pow", "Quarter", "RegexpExtract", "RegexpLike",
    "RegexpReplace", "RegexpSplit", "Repeat", "Replace", "Reverse", "Right", "Round", "RowNumber", "SHA2",
    "SafeDivide", "Second", "Sign", "SplitPart", "Sqrt", "StartsWith", "Stddev", "StrPosition", "Substring", "Sum",
    "TimeStrToTime", "TimeToStr", "TimestampAdd", "TimestampDiff", "TimestampTrunc", "Translate", "Trim", "TryCast",
    "TsOrDsAdd", "TsOrDsToDate", "UnixDate", "UnixMicros", "Upper", "VarMap", "WeekOfYear", "Year", "make_date",
    "make_dt_interval", "make_timestamp_ntz", "weekday", "xxhash64",
})  # fmt: skip
"""By the parser's names, or their own where it has none for them."""

MACROS = (
    # Whole months between two times; a month is whole once its day and time of day are reached.
    "create macro whole_months(a, b) as date_diff('month', a, b) "
    "- case when a <= b and b - date_trunc('month', b) < a - date_trunc('month', a) then 1 else 0 end "
    "+ case when a > b and b - date_trunc('month', b) > a - date_trunc('month', a) then 1 else 0 end",
    # Months of 31 days after the whole ones; between equal days of a month, and between last days, there are none.
    "create macro months_apart(a, b) as (year(a) * 12 + month(a) - year(b) * 12 - month(b)) + "
    "case when day(a) = day(b) or (day(a) = day(last_day(a)) and day(b) = day(last_day(b))) then 0.0 else "
    "((day(a) - day(b)) * 86400 + hour(a) * 3600 + minute(a) * 60 + second(a) "
    "- hour(b) * 3600 - minute(b) * 60 - second(b)) / 2678400.0 end",
)
"""Of the engine, for what is put right."""

_EXTRACTED = ("YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "DOY", "HOUR", "MINUTE")
_EXACT = ("WEEK", "DAY", "HOUR", "MINUTE", "SECOND")
_MONTHS = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}
_JAVA_ALONE = re.compile(r"\[\[:|&&|\(\?<[A-Za-z]|\\[QGRhHvVXZ]")
"""What Java reads in a pattern and others otherwise, or not at all."""
_LETTERS = re.compile(r"%-?([A-Za-z])(?:strict)?(?!%-?\1)|[^A-Za-z'%]")
"""Of a format of times as the parser carries it over: its parts, and what stands between them."""


def is_known(node: "Expr") -> bool:
    """Whether a function of an expression is among those that were compared; what is no function is."""
    from sqlglot import exp

    if isinstance(node, exp.Anonymous):
        return node.name.lower() in FUNCTIONS
    return not isinstance(node, exp.Func) or type(node).__name__ in FUNCTIONS


def check(node: "Expr") -> None:
    """Refuses what the engine would compute otherwise than Spark.

    Raises:
        sqlglot.errors.UnsupportedError: the node is such a thing; the sentence names it.
    """
    from sqlglot import exp
    from sqlglot.errors import UnsupportedError

    if not is_known(node):
        name = node.name if isinstance(node, exp.Anonymous) else node.sql("spark").partition("(")[0]
        raise UnsupportedError(f"{name} is none of the functions that expressions may use")
    if reason := _reason(node):
        raise UnsupportedError(reason)


def _reason(node: "Expr") -> str:
    """Why a node can't be carried over; empty where it can."""
    from sqlglot import exp

    if isinstance(node, exp.RegexpLike | exp.RegexpExtract | exp.RegexpReplace | exp.RegexpSplit):
        return _pattern_reason(node)
    if isinstance(node, exp.TimestampDiff | exp.DateDiff | exp.DateTrunc | exp.Extract | exp.TimeToStr):
        return _part_reason(node)
    return _text_reason(node) or _time_reason(node)


def _text_reason(node: "Expr") -> str:
    from sqlglot import exp

    if isinstance(node, exp.Concat) and node.args.get("safe") is None:
        return "two texts stand side by side without a comma (a quote within a text is written \\')"
    if isinstance(node, exp.ConcatWs) and any(_is_array(part) for part in node.expressions[1:]):
        return "concat_ws takes texts and no array, which array_join takes"
    if isinstance(node, exp.StrPosition) and not _is_count(node.args.get("position"), least=1):
        return "locate begins at a position, 1 or later"
    if isinstance(node, exp.Floor | exp.Ceil) and node.args.get("decimals"):
        return "floor and ceil take one number"
    return ""


def _time_reason(node: "Expr") -> str:
    from sqlglot import exp

    if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal) and not _is_written_time(node):
        return f"'{node.name}' is no date"
    if node.name.lower() == "make_dt_interval" and not 1 <= len(node.expressions) <= 4:
        return "make_dt_interval takes days, hours, minutes and seconds"
    if isinstance(node, exp.AtTimeZone | exp.FromTimeZone):
        return "an expression converts no zones; the clock of the extract stands under zone"
    if isinstance(node, exp.TsOrDsToDate) and node.args.get("format"):
        return "to_date takes no format; how a column's times are written stands under formats"
    if isinstance(node, exp.Interval) and "." in (node.name or ""):
        return "an interval is a whole number of its unit"
    return ""


def _part_reason(node: "Expr") -> str:
    """Why parts of times can't be told, or what lies between times."""
    from sqlglot import exp

    if isinstance(node, exp.Extract) and node.name.upper() not in _EXTRACTED:
        return f"extract takes {', '.join(_EXTRACTED).lower()}, and {node.name.lower()} is none of them"
    if isinstance(node, exp.TimeToStr) and _LETTERS.sub("", node.args["format"].name):
        return "a format of date_format has letters that mean nothing here (yyyy, MM, dd, HH, mm and ss do)"
    if isinstance(node, exp.DateTrunc) and node.unit.name.upper() not in (*_MONTHS, "WEEK"):
        return "trunc takes 'year', 'quarter', 'month' or 'week'"
    if isinstance(node, exp.TimestampDiff | exp.DateDiff) and _unit(node) not in ("", *_EXACT, *_MONTHS):
        return f"no times are {_unit(node).lower()} apart"
    return ""


def _pattern_reason(node: "Expr") -> str:
    from sqlglot import exp

    pattern = node.expression
    if not isinstance(pattern, exp.Literal):
        return "" if isinstance(node, exp.RegexpLike) else "a pattern is a text, and no column"
    if odd := _JAVA_ALONE.search(pattern.this):
        return f"a pattern has {odd[0]}, which is Java's alone"
    if not is_simple(pattern.this):
        try:
            re.compile(pattern.this)
        except re.error as error:
            return f"a pattern can't be read ({error.msg})"
        if not isinstance(node, exp.RegexpLike):
            return "a pattern looks ahead or back, which it may in rlike alone"
    if isinstance(node, exp.RegexpReplace) and not isinstance(node.args.get("replacement"), exp.Literal):
        return "what regexp_replace puts in is a text, and no column"
    if isinstance(node, exp.RegexpExtract):
        group = node.args.get("group")
        if not _is_count(group, least=0) or int(group.name if group else 1) > re.compile(pattern.this).groups:
            return "regexp_extract takes a group that its pattern has, by default the first (0 is all of it)"
    return ""


@cache
def is_simple(pattern: str) -> bool:
    """Whether DuckDB's own search, which Arrow has too, takes the pattern: it looks neither ahead nor back."""
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid:
        return False
    return True


def _is_count(node: "Expr | None", least: int) -> bool:
    """Whether a node is absent, or is a whole number of at least so much."""
    from sqlglot import exp

    return node is None or (isinstance(node, exp.Literal) and node.name.isdigit() and int(node.name) >= least)


def _is_written_time(node: "Expr") -> bool:
    """Whether a time that an expression has as a text is one; other casts are none of times."""
    if not node.args["to"].sql().upper().startswith(("DATE", "TIMESTAMP")):
        return True
    try:
        datetime.fromisoformat(node.this.name)
    except ValueError:
        return False
    return True


def _is_array(node: "Expr") -> bool:
    from sqlglot import exp

    return isinstance(node, exp.Array | exp.ArrayCompact | exp.RegexpSplit)


def _unit(node: "Expr") -> str:
    unit = node.args.get("unit")
    return unit.name.upper() if unit else ""


def put_right(node: "Expr") -> "Expr":
    """A node that in the engine is what Spark makes of it; most are returned as they are."""
    better = _REPAIRS.get(type(node).__name__ if node.key != "anonymous" else node.name.lower())
    return better(node) if better else node


def _call(name: str, *arguments: "Expr | int | str") -> "Expr":
    from sqlglot import exp

    nodes = [one if isinstance(one, exp.Expr) else exp.convert(one) for one in arguments]
    return exp.Anonymous(this=name, expressions=nodes)


def _as(kind: str, node: "Expr") -> "Expr":
    from sqlglot import exp

    return exp.TryCast(this=node.copy(), to=exp.DataType.build(kind))


def _apart(node: "Expr") -> "Expr":
    """Whole units between two times; ``datediff`` of two days has no unit, and is left."""
    from sqlglot import exp

    unit = _unit(node)
    if not unit:
        return node
    later, earlier = (
        side.this if isinstance(side, exp.TsOrDsToDate) else side for side in (node.this, node.expression)
    )
    start, end = _as("timestamp", earlier), _as("timestamp", later)
    if unit in _EXACT:
        return _call("date_sub", unit.lower(), start, end)
    return exp.IntDiv(this=_call("whole_months", start, end), expression=exp.convert(_MONTHS[unit]))


def _months_between(node: "Expr") -> "Expr":
    from sqlglot import exp

    months = _call("months_apart", _as("timestamp", node.this), _as("timestamp", node.expression))
    rounded = not (node.args.get("roundoff") and node.args["roundoff"].sql().upper() == "FALSE")
    return exp.Round(this=months, decimals=exp.convert(8)) if rounded else months


def _substring(node: "Expr") -> "Expr":
    """A part of a text, from a position of 0 as from 1; a length below 0 has nothing."""
    from sqlglot import exp

    start, length = node.args["start"], node.args.get("length")
    if not _is_count(start, least=1):
        is_zero = exp.EQ(this=start.copy(), expression=exp.convert(0))
        node.set("start", exp.If(this=is_zero, true=exp.convert(1), false=start.copy()))
    if length is not None:
        node.set("length", _at_least_zero(length))
    return node


def _at_least_zero(node: "Expr") -> "Expr":
    from sqlglot import exp

    return node if _is_count(node, least=0) else exp.Greatest(this=node.copy(), expressions=[exp.convert(0)])


def _side(node: "Expr") -> "Expr":
    node.set("expression", _at_least_zero(node.expression))
    return node


def _logarithm(node: "Expr") -> "Expr":
    """A logarithm, null where a number has none."""
    from sqlglot import exp

    number = node.expression if isinstance(node, exp.Log) and node.expression else node.this
    return exp.If(this=exp.GT(this=exp.paren(number.copy()), expression=exp.convert(0)), true=node.copy())


def _divisor(node: "Expr") -> "Expr":
    """A quotient or rest, null where the divisor is 0."""
    from sqlglot import exp

    by = node.expression
    if not (isinstance(by, exp.Literal) and by.name.strip("0.")):
        node.set("expression", exp.Nullif(this=by.copy(), expression=exp.convert(0)))
    return node


def _replacement(node: "Expr") -> "Expr":
    """A group is put in as ``$1`` in Java, and as ``\\1`` here."""
    from sqlglot import exp

    text = node.args["replacement"].this
    node.set("replacement", exp.Literal.string(re.sub(r"(?<!\\)\$([0-9])", r"\\\1", text)))
    return node


def _like(node: "Expr") -> "Expr":
    """A backslash in a pattern takes the next sign as it is."""
    from sqlglot import exp

    pattern = node.expression
    if (
        not isinstance(pattern, exp.Literal)
        or "\\" not in pattern.this
        or isinstance(node.parent, exp.Escape)
    ):
        return node
    return exp.Escape(this=node.copy(), expression=exp.Literal.string("\\"))


def _day_of_week(node: "Expr") -> "Expr":
    """The day of the week, 1 on Sunday."""
    from sqlglot import exp

    return exp.paren(exp.Add(this=node.copy(), expression=exp.convert(1)))


def _weekday(node: "Expr") -> "Expr":
    """The day of the week, 0 on Monday."""
    from sqlglot import exp

    return exp.paren(exp.Sub(this=_call("isodow", node.expressions[0].copy()), expression=exp.convert(1)))


def _is_nan(node: "Expr") -> "Expr":
    from sqlglot import exp

    return exp.Coalesce(this=node.copy(), expressions=[exp.false()])


def _upper(node: "Expr") -> "Expr":
    """Capitals; a sharp s has two, where the engine makes a large one of it."""
    return _call("replace", node.copy(), "\u1e9e", "SS")


_REPAIRS: dict[str, Callable[[Any], "Expr"]] = {
    "AddMonths": lambda node: _as("date", node),
    "Ceil": lambda node: _as("bigint", node),
    "DateDiff": _apart,
    "DateTrunc": lambda node: _as("date", node),
    "DayOfWeek": _day_of_week,
    "Floor": lambda node: _as("bigint", node),
    "IntDiv": _divisor,
    "IsNan": _is_nan,
    "Left": _side,
    "Like": _like,
    "ILike": _like,
    "Ln": _logarithm,
    "Log": _logarithm,
    "Mod": _divisor,
    "MonthsBetween": _months_between,
    "RegexpReplace": _replacement,
    "Right": _side,
    "Substring": _substring,
    "TimestampDiff": _apart,
    "TsOrDsAdd": lambda node: _as("date", node),
    "Upper": _upper,
    "weekday": _weekday,
}
