"""Synthetic identities: names, contacts and numbers that de-identification must find.

No person is real: telephone numbers are of the fictional range 555-01xx and e-mail and web addresses of the reserved
top-level domain ``example`` (RFC 2606). Some names are also words, diseases or months, as real ones are.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Literal, NamedTuple

IdentifierKind = Literal["name", "date", "age", "phone", "record", "address", "email", "url"]


class Identifier(NamedTuple):
    """A text that identifies a person, and its kind."""

    kind: IdentifierKind
    text: str


_WOMEN = (
    "Mary", "Patricia", "Linda", "Barbara", "Elizabeth", "Rose", "Grace", "May", "June", "Faith", "Olga", "Ingrid",
    "Fatima", "Aisha", "Mei", "Priya", "Lakshmi", "Yuki", "Thuy", "Guadalupe", "Marisol", "Ximena", "Chiara", "Bronwyn",
    "Siobhan", "Katarzyna", "Anneliese", "Temperance", "Eun-ji", "Nkechi", "Adaeze", "Zainab", "Ruth", "Hope", "Joy",
    "Dolores", "Philomena", "Henrietta", "Wanda", "Beverly",
)  # fmt: skip
_MEN = (
    "James", "Robert", "John", "Michael", "William", "Will", "Mark", "Frank", "Earl", "Dean", "Dominic", "Seamus",
    "Mohammed", "Omar", "Rajesh", "Arjun", "Hiroshi", "Wei", "Minh", "Jesus", "Angel", "Ignacio", "Giovanni", "Dmitri",
    "Stanislaw", "Bjorn", "Kwame", "Chidi", "Jean-Luc", "Ezekiel", "Amadou", "Thaddeus", "Cornelius", "Rufus", "Otis",
    "Leopold", "Anselm", "Percival", "Milton", "Hyun-woo",
)  # fmt: skip
_SURNAMES = (
    "Smith", "Johnson", "Brown", "Young", "Long", "Short", "Best", "White", "Black", "Green", "Park", "Rivers", "Hill",
    "Cooper", "Baker", "Parkinson", "Crohn", "Graves", "Murphy", "Foley", "Bell", "Payne", "Head", "Foot", "Hand",
    "O'Brien", "O'Connor", "McAllister", "MacLeod", "van der Berg", "de la Cruz", "Garcia-Lopez", "Hernandez", "Nguyen",
    "Tran", "Kim", "Lee", "Chen", "Wong", "Patel", "Singh", "Iyer", "Nakamura", "Okafor", "Adeyemi", "Mensah", "Diallo",
    "Haddad", "Khoury", "Rosenberg", "Goldstein", "Kowalski", "Wojcik", "Novak", "Petrov", "Ivanova", "Andersson",
    "Lindqvist", "Haugen", "Virtanen", "Papadopoulos", "Georgiou", "Esposito", "Ferrari", "Silva", "Pereira", "Moreau",
    "Lefebvre", "Schneider", "Zimmermann", "Vandermeer", "Whitfield", "Abernathy", "Castellanos", "Quintana",
    "Villanueva", "Thibodeaux", "Fairweather", "Stonebridge", "Ashworth",
)  # fmt: skip
_STREETS = ("Maple Street", "Harbor Road", "Beacon Avenue", "Mill Pond Lane", "Washington St", "Elm Ct",
            "Fox Run Drive", "St. Mary's Way", "Commonwealth Ave", "Quarry Hill Rd")  # fmt: skip
_TOWNS = ("Ashford", "Millbrook", "Port Clyde", "Westhaven", "Cedar Falls", "Easton", "Lynnwood", "Marlow")
_PHONE = ("({0}) 555-{1}", "{0}-555-{1}", "{0}.555.{1}", "+1 {0} 555 {1}")
_DATE = ("%m/%d/%Y", "%Y-%m-%d", "%B %-d, %Y", "%-d %b %Y", "%-m/%-d/%y", "%-m/%-d")


@dataclass(frozen=True)
class Identity:
    """The identity of one patient, the same in every note."""

    first: str
    last: str
    kin: str
    doctor: str
    record: str
    address: str
    email: str
    url: str
    phones: tuple[str, str, str]
    """The numbers of the patient's home, the next of kin and the family doctor."""


def _pick(random: Random, choices: tuple[str, ...]) -> str:
    return choices[int(random.random() * len(choices))]


def person(random: Random, female: bool) -> str:
    """A random given name and surname."""
    return f"{_pick(random, _WOMEN if female else _MEN)} {_pick(random, _SURNAMES)}"


def draw_identity(random: Random, female: bool) -> Identity:
    """A random identity of a patient."""
    first, last = _pick(random, _WOMEN if female else _MEN), _pick(random, _SURNAMES)
    plain = "".join(letter for letter in f"{first}.{last}".lower() if letter.isalpha() or letter == ".")
    kin_first = _pick(random, _MEN if female else _WOMEN)
    number = 1_000_000 + int(random.random() * 8_999_999)
    zip_code = 10_000 + int(random.random() * 89_999)
    return Identity(
        first=first,
        last=last,
        kin=f"{kin_first} {last if random.random() < 0.7 else _pick(random, _SURNAMES)}",
        doctor=person(random, random.random() < 0.5),
        record=str(number)
        if random.random() < 0.6
        else f"{number // 10000}-{number // 100 % 100:02d}-{number % 100:02d}",
        address=f"{1 + int(random.random() * 998)} {_pick(random, _STREETS)}, {_pick(random, _TOWNS)}, MA {zip_code}",
        email=f"{plain}{int(random.random() * 90) + 10}@mailbox.example",
        url=f"https://portal.lakeside.example/patients/{plain.replace('.', '-')}",
        phones=(_phone(random), _phone(random), _phone(random)),
    )


def _phone(random: Random) -> str:
    area, line = 201 + int(random.random() * 780), 100 + int(random.random() * 99)
    return _pick(random, _PHONE).format(area, f"{line:04d}")


def written_date(random: Random, seconds: int) -> Identifier:
    """A date in one of six formats; ``seconds`` since 1970."""
    return Identifier("date", datetime.fromtimestamp(seconds, UTC).strftime(_pick(random, _DATE)))
