"""Postal addresses: houses, streets, towns and postal codes, as in the United States and as elsewhere."""

import re
from collections.abc import Iterator

from data_pipeline.clinical_text.name_lexicon import listed_words
from data_pipeline.notes.deidentification.dates import Span
from data_pipeline.notes.deidentification.indexed_text import IndexedPattern

_STREETS = sorted(listed_words("streets"))
_STREET = (
    rf"(?:Dr(?!\.?[ \t]+[A-Z])|{'|'.join(_STREETS)}|STREET|ST|AVENUE|AVE|ROAD|RD|LANE|LN|DRIVE|DR|COURT|CT"
    r"|BOULEVARD|BLVD|WAY|PLACE|PL)"
)
_STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND"
    "|OH|OK|OR|PA|RI|SC|SD|TN|TX|UT|"
    "VT|VA|WA|WV|WI|WY|DC|PR|VI|GU|AS|MP|PW|FM|MH|Alabama|Alaska|Arizona|Arkansas|California|Colorado"
    "|Connecticut|Delaware|Florida|Georgia|"
    "Hawaii|Idaho|Illinois|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Mass\\.?"
    "|Michigan|Minnesota|Mississippi|"
    "Missouri|Montana|Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|New York|North Carolina"
    "|North Dakota|Ohio|Oklahoma|Oregon|"
    "Pennsylvania|Rhode Island|South Carolina|South Dakota|Tennessee|Texas|Utah|Vermont|Virginia|Washington"
    "|West Virginia|Wisconsin|Wyoming"
)
_CAPITAL = r"(?:[A-ZÀ-ÖØ-Þ][\w'’.-]{0,40}+|\d{1,3}(?:st|nd|rd|th))"
_TOWN = rf"{_CAPITAL}(?:[ -](?:{_CAPITAL}|on|upon|of|the|by)){{0,3}}"
_ZIP = r"\d{5}(?:-\d{4})?"
_UNIT = (
    r"(?:,?\s*(?:(?i:apt|apartment|suite|ste|unit|floor|fl|room|rm|bldg|flat)\.?\s*+(?:#\s*+)?[\w-]{0,9}\d[\w-]{0,9}+(?![\w-])"
    r"|(?i:apt|apartment|suite|ste)\.?\s*[A-Z]\b|#\s*[\w-]+))"
)
_REST = rf"(?:,?\s+{_TOWN},?\s+(?:{_STATES})(?!\w)(?:,?\s+{_ZIP})?)?"
_FROM_A_HOUSE = (
    rf"(?<![\w.,/-])\d{{1,6}}[A-Za-z]?\s+(?:{_CAPITAL}\s+){{0,4}}{_CAPITAL}{_UNIT}?,?\s+{_TOWN}"
    rf",?\s+(?:{_STATES}),?\s+{_ZIP}(?!\d)",
    rf"(?<![\w.,/-])\d{{1,6}}[A-Za-z]?(?:-\d+)?[ \t]+(?:[NSEW]{{1,2}}\.?[ \t]+)?"
    rf"(?:{_CAPITAL}[ \t]+){{1,4}}{_STREET}\b\.?(?:\s+[NSEW]{{1,2}}\b\.?)?{_UNIT}?{_REST}",
    rf"(?<![\w.,/-])\d{{1,6}}[A-Za-z]?[ \t]+(?:{_CAPITAL}[ \t]+){{0,3}}{_CAPITAL}{_UNIT}{_REST}",
    rf"(?i:(?<=at )|(?<=to )|(?<=from )|(?<=of )|(?<=on )|(?<=address: ))(?!(?:19|20|21|22)\d\d )\d{{2,6}}\s+"
    rf"[A-Z][a-z]+\s+[A-Z][a-z]+(?:\s+[A-Z][a-z]+)?(?!\w){_REST}",
)
_FROM_A_TOWN = (
    rf"(?<!\w)(?:(?:PSC|CMR|Unit)\s+\d+,?\s+Box\s+\d+|[A-Z]{{2,5}}\s+{_CAPITAL}),?\s+(?:APO|FPO|DPO)"
    rf",?\s+A[AEP]\s+{_ZIP}(?!\d)",
    rf"(?<!\w){_TOWN},\s+(?:{_STATES}),?\s+{_ZIP}(?!\d)",
    rf"(?<!\w)[A-ZÀ-ÖØ-Þ][a-zà-ÿ]\w*(?:[ -][A-Z][a-z]\w*){{0,3}},[ ]+(?!MD|PA|MS|ND|DO)(?:{_STATES})(?!\w)",
    r"(?i:(?<=in )|(?<=of )|(?<=from )|(?<=to )|(?<=near )|(?<=, ))"
    r"[A-ZÀ-ÖØ-Þ][a-zà-ÿ]\w*(?:[ -][A-Z][a-z]\w*){0,3},[ ]+(?:MD|PA|MS|ND)(?!\w)",
    rf"(?<!\w)(?:{_STATES}),?\s+{_ZIP}(?!\d)",
)
_STREET_IN_FULL = (
    r"(?:Street|Avenue|Ave|Road|Rd|Lane|Ln|Boulevard|Blvd|Terrace|Crescent|Highway|Parkway|Turnpike|STREET|AVENUE|ROAD"
    r"|LANE)"
)
_NUMBER_AND_PLACE = (
    rf"(?:,[ \t]+(?:[A-Z]{{1,2}}-)?\d{{4,5}}(?:[ \t]+{_CAPITAL}(?:[ -]{_CAPITAL}){{0,2}}(?!\w))?)?"
)
_OF = r"(?:(?:de|du|des|della|del|di|da|dos|do|la|le|les|los|las|el|l['’]|d['’])[ \t]*){0,3}"
_KINDS = (
    r"straße|strasse|str\.|gasse|platz|allee|weg|(?<![aeiouwbB])(?<!\wp)(?<!St)ring|damm|straat|laan|gatan|vägen|gade"
    r"|vej|utca|ring(?=[ \t]+\d{1,4}[ \t]?[a-z]?,[ \t]+(?:[A-Z]{1,2}-)?\d{4,5}[ \t]+[A-ZÄÖÜ])"
)
_KINDS_FIRST = r"Calle|C/|Avenida|Avda\.?|Paseo|Plaza|Via|Viale|Piazza|Corso|Rua|Travessa|Ulica"
_KINDS_AFTER_NUMBER = r"rue|avenue|av\.|boulevard|bd|place|chemin|impasse|quai|allée|cours"
_ABROAD = tuple(
    (re.compile(hint), re.compile(pattern))
    for hint, pattern in (
        (  # Hauptstraße 12, 10115 Berlin
            rf"(?:{_KINDS})[ \t]+\d",
            rf"(?<!\w)(?:{_CAPITAL}[ -]){{0,2}}[A-ZÀ-ÖØ-Þ][\wß'-]{{0,30}}(?:{_KINDS})[ \t]+\d{{1,4}}[ \t]?[a-z]?(?!\w)"
            rf"{_NUMBER_AND_PLACE}",
        ),
        (  # Calle Mayor 5, 28013 Madrid
            rf"(?<!\w)(?:{_KINDS_FIRST})[ \t]",
            rf"(?<!\w)(?:{_KINDS_FIRST})[ \t]+{_OF}{_CAPITAL}(?:[ \t]+{_OF}{_CAPITAL}){{0,3}},?[ \t]+(?:n\.?º?[ \t]*)?"
            rf"\d{{1,4}}(?!\d){_NUMBER_AND_PLACE}",
        ),
        (  # 12 rue de la Paix, 75002 Paris
            rf"\d[ \t\w,]{{0,6}}[ \t](?i:{_KINDS_AFTER_NUMBER})[ \t]",
            rf"(?<![\w.,/-])\d{{1,4}}(?:[ \t]?(?:bis|ter|[A-Za-z]))?,?[ \t]+(?i:{_KINDS_AFTER_NUMBER})[ \t]+"
            rf"{_OF}{_CAPITAL}(?:[ -]{_OF}{_CAPITAL}){{0,3}}{_NUMBER_AND_PLACE}",
        ),
    )
)
"""What a text has that has such an address, and the address."""


def abroad(text: str) -> Iterator[Span]:
    """Addresses as other countries write them."""
    for hint, pattern in _ABROAD:
        if hint.search(text):
            yield from (match.span() for match in pattern.finditer(text))


_POSTCODE = (
    r"(?<!\w)(?:[A-Z]{1,2}\d[A-Z\d]? \d(?!ST|ND|RD|TH|HR|YR|WK|XD|DL|LB|PT|PG|NG|GR)[ABD-HJLNP-UW-Z]{2}"
    r"|[ABCEGHJ-NPRSTVXY]\d[A-Z] \d[A-Z]\d)(?!\w)"
)
"""Of the United Kingdom and of Canada, with their blank."""
_NO_NUMBER = (
    r"(?i:(?<=\bon )|(?<=\bat )|(?<=\bof )|(?<=\boff )|(?<=\bfrom )|(?<=\bnear )|(?<=\bto )|(?<=\balong )"
    rf"|(?<=address: ))(?:{_CAPITAL}[ \t]+){{1,3}}{_STREET_IN_FULL}(?!\w){_REST}",
    rf"(?i:(?<=\blives on )|(?<=\blive on )|(?<=\blived on )|(?<=\bliving on )|(?<=\bresides on ))"
    rf"(?:{_CAPITAL}[ \t]+){{1,3}}(?:St|Dr|Ct|Pl|Cir|Way|Place|Court|Drive)\b",
    rf"(?i:(?<=corner of )){_CAPITAL}(?: {_CAPITAL}){{0,2}} (?:and|&) {_CAPITAL}(?: {_CAPITAL})?(?!\w)",
)
"""A street, or two that meet, without a house."""
_CALLED = rf"(?:{_CAPITAL}[ \t]+){{1,3}}(?<!\.[ \t])(?<!\.[ \t][ \t])"
"""What an institution is called; a sentence that ends before its kind calls none, as in "in June.  Hospital course"."""
_SCHOOL = (
    r"(?i:(?<=\bat )|(?<=\bof )|(?<=\bfrom )|(?<=\bto )|(?<=\battends )|(?<=\bnear ))"
    rf"{_CALLED}(?:Elementary|Middle School|High School|School|Academy|University|College"
    r"|Preschool|Daycare|Church|Synagogue|Mosque|Parish)(?![ \t]+of\b)(?!\w)"
)
_HOSPITAL = (
    r"(?i:(?<=\bat )|(?<=\bfrom )|(?<=\bto )|(?<=\bof ))(?!(?:Outside|Other|Outpatient|Home|Skilled|Community|Local"
    r"|Long|General|Regional|The|Our|This|That|Emergency|State|City|County|Inpatient|Day|Acute|Psychiatric|Rehab\w*|Children"
    r"|University|Teaching|Referring|Transferring|VA|OSH|Prior|Previous|Present|Recent|Current|Her|His|Tertiary|Palliative"
    r"|Assisted|Sub-?[Aa]cute)\b)"
    rf"{_CALLED}(?:Hospital(?![ \t]+(?i:course|stay)\b)|Medical Cent(?:er|re)|Infirmary|Nursing Home"
    r"|Hospice)(?!\w)"
)
"""An institution by its name; ``Outside Hospital`` and its like have none."""
_COORDINATES = (
    r"(?<![\w.])-?\d{1,2}\.\d{3,}[ \t]*°?[ \t]*(?:[NS]\b)?[,;]?[ \t]*(?:(?i:long?(?:itude)?)\b\.?:?[ \t]*)?"
    r"(?:(?<=[NS], )|(?<=[NS] )|(?<=: )|(?<=long )|(?<=lon )|(?<=\d{4}, )|(?<=\d{4},))"
    r"-?\d{1,3}\.\d{3,}(?:[ \t]*°?[ \t]*[EW]\b)?"
)
"""A place on the map, by latitude and longitude."""
ADDRESS = IndexedPattern(
    rf"(?:{'|'.join(_FROM_A_HOUSE)})"
    rf"|(?<!\w)[pP](?i:\.?\s?o\.? box)\s+\d+{_REST}"
    rf"|{_COORDINATES}"
    rf"|(?:{'|'.join([*_FROM_A_TOWN, _POSTCODE, *_NO_NUMBER, _SCHOOL, _HOSPITAL])})"
    r"|(?<!\w)[zZ](?i:ip(?: ?code)?[:\s]+)(?P<zip>\d{5}(?:-\d{4})?)"
)
LIVES = IndexedPattern(
    r"\b(?i:lives?|living|resid(?:es?|ing)|residen(?:ce|t)|born|raised|grew up|moved|relocated"
    r"|home)\s+(?:(?i:in|to|from|of|at|near|outside)\s+)"
    r"(?P<town>[A-ZÀ-ÖØ-Þ][a-zà-ÿ'’]{2,}(?:[ -][A-ZÀ-ÖØ-Þ][a-zà-ÿ'’]+){0,2})"
)
