"""Comorbidity indices: Charlson and Elixhauser groups from ICD-9-CM and ICD-10-CM diagnosis codes.

Groups after Quan et al. 2005 (doi:10.1097/01.mlr.0000182534.19832.83), the "enhanced" ICD-9-CM and the ICD-10
algorithms; weights of the Charlson score after Charlson et al. 1987 (doi:10.1016/0021-9681(87)90171-8), without
its later age term. A code belongs to a group when it begins with one of the group's prefixes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Group:
    """A comorbidity group as ICD prefixes, without dots and separated by blanks.

    ``4254-4259`` stands for every prefix between the two, both included. ``weight`` counts in the Charlson score.
    """

    name: str
    icd9: str
    icd10: str
    weight: int = 0
    implied_by: str = ""
    """The severer form of the disease in the same index; where both are coded, the score counts only that one."""


CHARLSON: tuple[Group, ...] = (
    Group("charlson_myocardial_infarction", "410 412", "I21 I22 I252", 1),
    Group(
        "charlson_heart_failure",
        "39891 40201 40211 40291 40401 40403 40411 40413 40491 40493 4254-4259 428",
        "I099 I110 I130 I132 I255 I420 I425-I429 I43 I50 P290",
        1,
    ),
    Group(
        "charlson_peripheral_vascular",
        "0930 4373 440 441 4431-4439 4471 5571 5579 V434",
        "I70 I71 I731 I738 I739 I771 I790 I792 K551 K558 K559 Z958 Z959",
        1,
    ),
    Group("charlson_cerebrovascular", "36234 430-438", "G45 G46 H340 I60-I69", 1),
    Group("charlson_dementia", "290 2941 3312", "F00-F03 F051 G30 G311", 1),
    Group(
        "charlson_chronic_pulmonary",
        "4168 4169 490-505 5064 5081 5088",
        "I278 I279 J40-J47 J60-J67 J684 J701 J703",
        1,
    ),
    Group(
        "charlson_rheumatic", "4465 7100-7104 7140-7142 7148 725", "M05 M06 M315 M32-M34 M351 M353 M360", 1
    ),
    Group("charlson_peptic_ulcer", "531-534", "K25-K28", 1),
    Group(
        "charlson_mild_liver",
        "07022 07023 07032 07033 07044 07054 0706 0709 570 571 5733 5734 5738 5739 V427",
        "B18 K700-K703 K709 K713-K715 K717 K73 K74 K760 K762-K764 K768 K769 Z944",
        1,
        implied_by="charlson_severe_liver",
    ),
    Group(
        "charlson_diabetes",
        "2500-2503 2508 2509",
        "E100 E101 E106 E108-E111 E116 E118-E121 E126 E128-E131 E136 E138-E141 E146 E148 E149",
        1,
        implied_by="charlson_diabetes_complicated",
    ),
    Group(
        "charlson_diabetes_complicated",
        "2504-2507",
        "E102-E105 E107 E112-E115 E117 E122-E125 E127 E132-E135 E137 E142-E145 E147",
        2,
    ),
    Group(
        "charlson_paralysis", "3341 342 343 3440-3446 3449", "G041 G114 G801 G802 G81 G82 G830-G834 G839", 2
    ),
    Group(
        "charlson_renal",
        "40301 40311 40391 40402 40403 40412 40413 40492 40493 582 5830-5837 585 586 5880 V420 V451 V56",
        "I120 I131 N032-N037 N052-N057 N18 N19 N250 Z490-Z492 Z940 Z992",
        2,
    ),
    Group(
        "charlson_cancer",
        "140-172 174-195 200-208 2386",
        "C00-C26 C30-C34 C37-C41 C43 C45-C58 C60-C76 C81-C85 C88 C90-C97",
        2,
        implied_by="charlson_metastatic_cancer",
    ),
    Group(
        "charlson_severe_liver", "4560-4562 5722-5728", "I850 I859 I864 I982 K704 K711 K721 K729 K765-K767", 3
    ),
    Group("charlson_metastatic_cancer", "196-199", "C77-C80", 6),
    Group("charlson_hiv", "042-044", "B20-B22 B24", 6),
)

_BY_NAME = {group.name: group for group in CHARLSON}


def _as_charlson(name: str) -> tuple[str, str]:
    group = _BY_NAME[f"charlson_{name}"]
    return group.icd9, group.icd10


ELIXHAUSER: tuple[Group, ...] = (
    Group("elixhauser_heart_failure", *_as_charlson("heart_failure")),
    Group(
        "elixhauser_arrhythmia",
        "4260 42610 42612 42613 4267 4269 4270-4274 4276-4279 7850 99601 99604 V450 V533",
        "I441-I443 I456 I459 I47-I49 R000 R001 R008 T821 Z450 Z950",
    ),
    Group(
        "elixhauser_valvular",
        "0932 394-397 424 7463-7466 V422 V433",
        "A520 I05-I08 I091 I098 I34-I39 Q230-Q233 Z952-Z954",
    ),
    Group("elixhauser_pulmonary_circulation", "4150 4151 416 4170 4178 4179", "I26 I27 I280 I288 I289"),
    Group("elixhauser_peripheral_vascular", *_as_charlson("peripheral_vascular")),
    Group("elixhauser_hypertension", "401", "I10"),
    Group("elixhauser_hypertension_complicated", "402-405", "I11-I13 I15"),
    Group("elixhauser_paralysis", *_as_charlson("paralysis")),
    Group(
        "elixhauser_other_neurological",
        "3319-3321 3334 3335 33392 334 335 3362 340 341 345 3481 3483 7803 7843",
        "G10-G13 G20-G22 G254 G255 G312 G318 G319 G32 G35-G37 G40 G41 G931 G934 R470 R56",
    ),
    Group("elixhauser_chronic_pulmonary", *_as_charlson("chronic_pulmonary")),
    Group("elixhauser_diabetes", "2500-2503", "E100 E101 E109-E111 E119-E121 E129-E131 E139-E141 E149"),
    Group(
        "elixhauser_diabetes_complicated", "2504-2509", "E102-E108 E112-E118 E122-E128 E132-E138 E142-E148"
    ),
    Group("elixhauser_hypothyroidism", "2409 243 244 2461 2468", "E00-E03 E890"),
    Group(
        "elixhauser_renal",
        "40301 40311 40391 40402 40403 40412 40413 40492 40493 585 586 5880 V420 V451 V56",
        "I120 I131 N18 N19 N250 Z490-Z492 Z940 Z992",
    ),
    Group(
        "elixhauser_liver",
        "07022 07023 07032 07033 07044 07054 0706 0709 4560-4562 570 571 5722-5728 5733 5734 5738 5739 V427",
        "B18 I85 I864 I982 K70 K711 K713-K715 K717 K72-K74 K760 K762-K769 Z944",
    ),
    Group(
        "elixhauser_peptic_ulcer",
        "5317 5319 5327 5329 5337 5339 5347 5349",
        "K257 K259 K267 K269 K277 K279 K287 K289",
    ),
    Group("elixhauser_hiv", *_as_charlson("hiv")),
    Group("elixhauser_lymphoma", "200-202 2030 2386", "C81-C85 C88 C96 C900 C902"),
    Group("elixhauser_metastatic_cancer", *_as_charlson("metastatic_cancer")),
    Group("elixhauser_solid_tumor", "140-172 174-195", "C00-C26 C30-C34 C37-C41 C43 C45-C58 C60-C76 C97"),
    Group(
        "elixhauser_rheumatic",
        "446 7010 7100-7104 7108 7109 7112 714 7193 720 725 7285 72889 72930",
        "L940 L941 L943 M05 M06 M08 M120 M123 M30 M310-M313 M32-M35 M45 M461 M468 M469",
    ),
    Group("elixhauser_coagulopathy", "286 2871 2873-2875", "D65-D68 D691 D693-D696"),
    Group("elixhauser_obesity", "2780", "E66"),
    Group("elixhauser_weight_loss", "260-263 7832 7994", "E40-E46 R634 R64"),
    Group("elixhauser_fluid_electrolyte", "2536 276", "E222 E86 E87"),
    Group("elixhauser_blood_loss_anemia", "2800", "D500"),
    Group("elixhauser_deficiency_anemia", "2801-2809 281", "D508 D509 D51-D53"),
    Group(
        "elixhauser_alcohol",
        "2652 2911-2913 2915-2919 3030 3039 3050 3575 4255 5353 5710-5713 980 V113",
        "E52 F10 G621 I426 K292 K700 K703 K709 T51 Z502 Z714 Z721",
    ),
    Group("elixhauser_drug", "292 304 3052-3059 V6542", "F11-F16 F18 F19 Z715 Z722"),
    Group(
        "elixhauser_psychosis",
        "2938 295 29604 29614 29644 29654 297 298",
        "F20 F22-F25 F28 F29 F302 F312 F315",
    ),
    Group("elixhauser_depression", "2962 2963 2965 3004 309 311", "F204 F313-F315 F32 F33 F341 F412 F432"),
)

GROUPS: tuple[Group, ...] = (*CHARLSON, *ELIXHAUSER)
"""All groups; bit i of a bit set stands for group i."""

_SYSTEMS = {"ICD9CM": "icd9", "ICD10CM": "icd10"}


def group_bits(code: str) -> int:
    """The comorbidity groups of a silver code as a bit set; 0 for a code without a group or of no diagnosis.

    >>> [group.name for i, group in enumerate(GROUPS) if group_bits("ICD10CM//I509") >> i & 1]
    ['charlson_heart_failure', 'elixhauser_heart_failure']
    """
    system, _, number = code.partition("//")
    if system not in _SYSTEMS:
        return 0
    prefixes = _prefixes(_SYSTEMS[system])
    bits = 0
    for length in range(3, 6):
        bits |= prefixes.get(number[:length], 0)
    return bits


def flags(bits: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Indicators (0 or 1) of each of ``GROUPS``, shape ``[len(bits), len(GROUPS)]``."""
    return (bits[:, None] >> np.arange(len(GROUPS)) & 1).astype(np.float64)


def charlson_score(bits: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The Charlson score with the weights of 1987, shape ``[len(bits)]``.

    A milder form of a disease is not counted beside its severer form.
    """
    indicators = flags(bits)
    position = {group.name: i for i, group in enumerate(CHARLSON)}
    score = np.zeros(len(bits))
    for i, group in enumerate(CHARLSON):
        counts = indicators[:, i]
        if group.implied_by:
            counts = counts * (1 - indicators[:, position[group.implied_by]])
        score += group.weight * counts
    return score


@cache
def _prefixes(system: str) -> dict[str, int]:
    bits_by_prefix: dict[str, int] = {}
    for i, group in enumerate(GROUPS):
        for prefix in _expanded(getattr(group, system)):
            bits_by_prefix[prefix] = bits_by_prefix.get(prefix, 0) | 1 << i
    return bits_by_prefix


def _expanded(text: str) -> Iterator[str]:
    for item in text.split():
        first, _, last = item.partition("-")
        if not last:
            yield first
            continue
        letter = first[0] if first[0].isalpha() else ""
        digits = len(first) - len(letter)
        for number in range(int(first[len(letter) :]), int(last[len(letter) :]) + 1):
            yield f"{letter}{number:0{digits}d}"
